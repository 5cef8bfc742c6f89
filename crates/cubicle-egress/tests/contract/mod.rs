//! The proxy between real network namespaces, once as one workspace's own and once as one that many
//! share (`SHARED`): one contract for both engines. What it refuses is there, owns its address and
//! answers: each test shows first, or beside it, that dialling past the proxy succeeds.

mod dns;
mod watch;
mod world;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use world::{PUBLIC, REFUSED, SHARED, World, bracketed, connect, ip, listen, read_answer};

const WALLED: &str = r#"{"mode":"walled"}"#;

/// The proxy that the other tests start, in a process of its own: it inherits the listener as
/// its standard input and the log as its standard error.
#[test]
#[ignore = "started by the other tests"]
fn proxy_process() {
    let config = std::env::var("CUBICLE_EGRESS_TEST_CONFIG").expect("started by another test");
    let config = serde_json::from_str(&config).expect("a configuration");
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().expect("the listener"));
    let log = File::from(std::io::stderr().as_fd().try_clone_to_owned().expect("the log"));
    let run = if SHARED {
        let socket = std::env::var("CUBICLE_EGRESS_TEST_TABLES").expect("started by another test");
        cubicle_egress::run_shared(listener, UnixListener::bind(socket).expect("the socket"), log)
    } else {
        cubicle_egress::run(listener, config, log)
    };
    match run {
        Ok(never) => match never {},
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn public_hosts_are_reached_and_bytes_flow_both_ways() {
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34", "2606:2800:220:1::1"]);
    let proxy = world.proxy(WALLED);
    for authority in ["www.test.example:443", "8.8.8.8:443", "[2606:2800:220:1::1]:8443", "93.184.216.34:80"] {
        let (answer, mut tunnel) = proxy.connect(authority);
        assert_eq!(answer.status, 200, "{authority}: {answer:?}");
        tunnel.write_all(b"line\nand more").expect("sent");
        tunnel.shutdown(Shutdown::Write).expect("half closed");
        let mut back = String::new();
        tunnel.read_to_string(&mut back).expect("read");
        assert_eq!(back, "line\nand moreend after 8", "{authority}: the other half stays open");
    }
    let allowed: Vec<_> = proxy.log().into_iter().filter(|line| line["verdict"] == "allowed").collect();
    assert_eq!(allowed.len(), 4);
    assert_eq!(allowed[1]["address"], "8.8.8.8");
}

#[test]
fn a_large_transfer_arrives_whole() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    let (answer, mut tunnel) = proxy.connect("8.8.8.8:443");
    assert_eq!(answer.status, 200);
    let size = 32 << 20;
    let mut sender = tunnel.try_clone().expect("the other half");
    let writer = std::thread::spawn(move || {
        sender.write_all(b"\n").expect("sent");
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..size >> 20 {
            sender.write_all(&block).expect("sent");
        }
        sender.shutdown(Shutdown::Write).expect("half closed");
    });
    let mut back = Vec::new();
    tunnel.read_to_end(&mut back).expect("read");
    writer.join().expect("written");
    let end = format!("end after {size}");
    assert_eq!(back.len(), 1 + size + end.len());
    assert!(back[1..=size].iter().enumerate().all(|(at, byte)| *byte == (at % 256) as u8), "not a byte has changed");
}

#[test]
fn refused_addresses_get_no_packet_though_they_answer() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    for address in REFUSED {
        let target = format!("{}:443", bracketed(address));
        connect(&world.host, &target).unwrap_or_else(|error| panic!("control: {target} answers the host: {error}"));
    }
    let before = world.watch.packets_for_all(&REFUSED);
    assert!(before >= REFUSED.len(), "control: the watch sees what arrives");
    // The control's connections close and end before the count.
    std::thread::sleep(Duration::from_millis(200));
    let before = world.watch.packets_for_all(&REFUSED);
    for (number, address) in REFUSED.iter().enumerate() {
        let name = format!("n{number}.test.example");
        world.names.set(&name, &[address]);
        for authority in [format!("{}:443", bracketed(address)), format!("{name}:443")] {
            let (answer, _) = proxy.connect(&authority);
            assert_eq!(answer.status, 403, "{authority}: {answer:?}");
            assert!(answer.body.contains(&authority) && answer.body.contains("remedy: "), "{answer:?}");
            assert!(answer.head.contains("error=destination_ip_prohibited"), "{answer:?}");
        }
        assert_eq!(proxy.send(&format!("GET http://{name}/ HTTP/1.1\r\nHost: x\r\n\r\n")).status, 403, "{name}");
    }
    assert_eq!(world.watch.packets_for_all(&REFUSED), before, "not one packet arrived");
    assert_eq!(proxy.log().iter().filter(|line| line["rule"] == "not_public").count(), 3 * REFUSED.len());
}

#[test]
fn other_spellings_of_refused_addresses_are_refused() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    let loopback = listen(&world.host, "[::]:8443");
    loopback.set_nonblocking(true).expect("non-blocking");
    connect(&world.host, "127.0.0.1:8443").expect("control: the host's loopback answers the host");
    loopback.accept().expect("the control's connection");
    let before = world.watch.packets_for_all(&REFUSED);
    for host in [
        // 10.1.2.3
        "167838211",
        "0x0a010203",
        "012.1.2.3",
        "0x0a.1.2.3",
        "10.66051",
        "10.1.515",
        "10.1.2.3.",
        "%31%30.1.2.3",
        "user@10.1.2.3",
        "8.8.8.8@10.1.2.3",
        "[::ffff:10.1.2.3]",
        "[::FFFF:0A01:0203]",
        "[::10.1.2.3]",
        "[::ffff:0:10.1.2.3]",
        "[64:ff9b::10.1.2.3]",
        "[2002:0a01:0203::]",
        "[2001:0:a01:203::]",
        // 169.254.169.254
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:a9fe:a9fe]",
        "[fe80::a9fe:a9fe]",
        // loopback
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "127.255.255.254",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
        "[fe80::1%25v0]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "ip6-localhost",
        // other networks' corners
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "[fec0::1]",
        "[100::1]",
        "[3ffe::1]",
        "[4000::1]",
    ] {
        let mut stream = proxy.dial();
        let request = proxy.signed(&format!("CONNECT {host}:8443 HTTP/1.1\r\nHost: a\r\n\r\n"));
        stream.write_all(request.as_bytes()).expect("sent");
        let answer = read_answer(&mut stream, false);
        // 400 is hyper's own refusal of what is no URI; both come before any dial.
        assert!(matches!(answer.status, 400 | 403), "CONNECT {host}: {answer:?}");
        let answer = proxy.send(&format!("GET http://{host}:8443/ HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(matches!(answer.status, 400 | 403), "GET {host}: {answer:?}");
    }
    assert_eq!(world.watch.packets_for_all(&REFUSED), before, "not one packet arrived");
    assert!(loopback.accept().is_err(), "nothing arrived at the host's loopback");
    assert_eq!(proxy.log().iter().filter(|line| line["verdict"] == "allowed").count(), 0);
}

#[test]
fn a_name_that_changes_its_address_gains_nothing() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    world.names.set_changing("rebind.test.example", &[&["8.8.8.8"], &["10.1.2.3"]]);
    let (answer, mut tunnel) = proxy.connect("rebind.test.example:443");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.names.asked("rebind.test.example"), 1, "resolved once: what was judged is what is dialled");
    tunnel.write_all(b"hello\n").expect("sent");
    tunnel.read_exact(&mut [0; 6]).expect("the public host answers");
    let (answer, _) = proxy.connect("rebind.test.example:443");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(world.watch.packets("10.1.2.3"), 0);
    assert!(!answer.body.contains("10.1.2.3"), "the workspace is not told what an internal name resolves to");
    let last = proxy.log().pop().expect("a line");
    assert_eq!((last["rule"].as_str(), last["address"].as_str()), (Some("not_public"), Some("10.1.2.3")));
}

#[test]
fn a_name_with_public_and_private_addresses_is_refused_whole() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    world.names.set("mixed.test.example", &["8.8.8.8", "10.1.2.3"]);
    world.names.set("mixed6.test.example", &["8.8.8.8", "fd00:ec2::254"]);
    for name in ["mixed.test.example", "mixed6.test.example"] {
        let (answer, _) = proxy.connect(&format!("{name}:443"));
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(proxy.log().pop().expect("a line")["rule"], "mixed");
    }
    assert_eq!(world.watch.packets_for_all(&["8.8.8.8", "10.1.2.3", "fd00:ec2::254"]), 0);
}

#[test]
fn a_redirect_is_a_new_request_and_judged_again() {
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34"]);
    world.names.set("inside.test.example", &["10.1.2.3"]);
    let proxy = world.proxy(WALLED);
    for goal in ["http://10.1.2.3/", "http://inside.test.example/", "http://169.254.169.254/latest/meta-data/"] {
        let answer = proxy.send(&format!("GET http://www.test.example/redirect?{goal} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(answer.status, 302, "{answer:?}");
        assert!(
            answer.head.contains(&format!("location: {goal}")),
            "the redirect is the client's to follow: {answer:?}"
        );
        assert_eq!(proxy.send(&format!("GET {goal} HTTP/1.1\r\nHost: www.test.example\r\n\r\n")).status, 403, "{goal}");
    }
    assert_eq!(world.watch.packets_for_all(&REFUSED), 0);
}

#[test]
fn addresses_of_the_machine_are_refused_even_new_ones() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    let host = world.host.clone();
    let listener = listen(&host, "[::]:443");
    listener.set_nonblocking(true).expect("non-blocking");
    let arrived = || std::iter::from_fn(|| listener.accept().ok()).count();
    // After the proxy has started: an address, a second one of a network, and a whole network
    // that no interface lists but the machine takes as its own.
    ip(&["-n", &host, "address", "add", "5.5.5.5/24", "dev", "lo"]);
    ip(&["-n", &host, "address", "add", "5.5.5.6/24", "dev", "lo"]);
    ip(&["-n", &host, "route", "add", "local", "7.7.7.0/24", "dev", "lo"]);
    for address in ["5.5.5.5", "5.5.5.6", "7.7.7.7", "[2606:99::1]"] {
        connect(&host, &format!("{address}:443")).unwrap_or_else(|error| panic!("control: {address}: {error}"));
        assert_eq!(arrived(), 1, "control: {address} is the machine's own");
        let (answer, _) = proxy.connect(&format!("{address}:443"));
        assert_eq!(answer.status, 403, "{address}: {answer:?}");
        assert_eq!(proxy.log().pop().expect("a line")["rule"], "machine", "{address}");
        assert_eq!(arrived(), 0, "{address}");
    }
    let (answer, _) = proxy.connect("8.8.8.8:443");
    assert_eq!(answer.status, 200, "others are still served: {answer:?}");
}

#[test]
fn networks_that_the_site_refuses_are_refused() {
    let mut world = World::new();
    let proxy = world.proxy(r#"{"mode":"walled","refused":["9.9.9.0/24","2606:2800::/32"]}"#);
    for address in ["9.9.9.9", "2606:2800:220:1::1"] {
        let (answer, _) = proxy.connect(&format!("{}:443", bracketed(address)));
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(world.watch.packets(address), 0);
        assert_eq!(proxy.log().pop().expect("a line")["rule"], "site");
    }
    assert_eq!(proxy.connect("8.8.8.8:443").0.status, 200);
}

#[test]
fn an_allow_list_lets_through_what_it_names_and_looks_up_nothing_else() {
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34"]);
    world.names.set("a.deep.pool.example", &["8.8.8.8"]);
    world.names.set("pool.example", &["8.8.8.8"]);
    world.names.set("other.test.example", &["8.8.8.8"]);
    world.names.set("inside.test.example", &["10.1.2.3"]);
    let proxy = world
        .proxy(r#"{"mode":"allow-list","allow":["www.test.example","*.pool.example:8443","inside.test.example"]}"#);
    let ask = |authority: &str| proxy.connect(authority).0.status;
    assert_eq!(ask("www.test.example:443"), 200);
    assert_eq!(ask("WWW.Test.Example:443"), 200);
    assert_eq!(ask("a.deep.pool.example:8443"), 200);
    for authority in [
        "www.test.example:8443",
        "a.deep.pool.example:443",
        "pool.example:8443",
        "other.test.example:443",
        "evil-www.test.example:443",
        "www.test.example.evil.example:443",
        "93.184.216.34:443",
        "leak-of-a-secret.evil.example:443",
    ] {
        assert_eq!(ask(authority), 403, "{authority}");
        assert_eq!(proxy.log().pop().expect("a line")["rule"], "not_listed", "{authority}");
    }
    assert_eq!(ask("inside.test.example:443"), 403, "on the list, but not public");
    assert_eq!(proxy.log().pop().expect("a line")["rule"], "not_public");
    let mut asked = world.names.all_asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["a.deep.pool.example", "inside.test.example", "www.test.example"], "DNS carries nothing else");
    assert_eq!(world.watch.packets("10.1.2.3"), 0);
}

#[test]
fn an_empty_list_refuses_everything() {
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34"]);
    let proxy = world.proxy(r#"{"mode":"allow-list","allow":[]}"#);
    for authority in ["www.test.example:443", "8.8.8.8:443", "[2606:2800:220:1::1]:443"] {
        assert_eq!(proxy.connect(authority).0.status, 403, "{authority}");
    }
    assert!(world.names.all_asked().is_empty());
    assert_eq!(world.watch.packets_for_all(&PUBLIC), 0);
}

#[test]
fn search_domains_of_the_machine_are_not_tried() {
    let mut world = World::new();
    // The machine's resolver searches "example": evil.test would become evil.test.example.
    world.names.set("evil.test.example", &["8.8.8.8"]);
    let proxy = world.proxy(r#"{"mode":"allow-list","allow":["evil.test"]}"#);
    let (answer, _) = proxy.connect("evil.test:443");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(proxy.log().pop().expect("a line")["rule"], "unresolvable");
    assert_eq!(world.watch.packets("8.8.8.8"), 0);
}

#[test]
fn what_does_not_answer_is_told_apart_from_what_is_refused() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    let (answer, _) = proxy.connect("nowhere.test.example:443");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("could not be resolved") && answer.head.contains("error=dns_error"), "{answer:?}");
    let (answer, _) = proxy.connect("8.8.8.8:9");
    assert_eq!(answer.status, 403, "port 9 is not served: {answer:?}");
    let (answer, _) = proxy.connect("8.8.8.8:25");
    assert_eq!(answer.status, 403, "nor is mail: {answer:?}");
    let (answer, _) = proxy.connect("8.8.8.8:8080");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("does not answer"), "{answer:?}");
    let (answer, _) = proxy.connect("1.2.3.4:443");
    assert_eq!(answer.status, 502, "no route: {answer:?}");
}

#[test]
fn plain_requests_are_forwarded_without_what_belongs_to_the_hop() {
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34"]);
    let proxy = world.proxy(WALLED);
    let mut stream = proxy.dial();
    for _ in 0..3 {
        stream
            .write_all(
                proxy
                    .signed(
                        "GET http://www.test.example/a/b?c=d HTTP/1.1\r\nHost: 10.1.2.3\r\nProxy-Connection: keep-alive\r\n\
                         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n",
                    )
                    .as_bytes(),
            )
            .expect("sent");
        let answer = read_answer(&mut stream, false);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{answer:?}");
        let seen = answer.body.to_ascii_lowercase();
        assert!(seen.contains("\r\nhost: www.test.example\r\n") && seen.contains("\r\nx-end: 1\r\n"), "{seen}");
        assert!(!seen.contains("x-hop") && !seen.contains("proxy-") && !seen.contains("10.1.2.3"), "{seen}");
        assert!(answer.head.contains("x-far: yes") && !answer.head.contains("keep-alive"), "{answer:?}");
    }
    let answer = proxy.send(
        "POST http://www.test.example:8443/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert!(answer.status == 200 && answer.body.contains("hello"), "{answer:?}");
    assert!(answer.body.to_ascii_lowercase().contains("host: www.test.example:8443"), "{answer:?}");
    let answer = proxy.send("HEAD http://www.test.example/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = proxy.send("OPTIONS http://www.test.example HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.body.starts_with("OPTIONS * HTTP/1.1"), "{answer:?}");
}

#[test]
fn what_is_not_for_a_proxy_is_refused() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    for request in [
        "GET / HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n",
        "GET https://8.8.8.8/ HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n",
        "GET ftp://8.8.8.8/ HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n",
    ] {
        let answer = proxy.send(request);
        assert_eq!(answer.status, 403, "{request:?}: {answer:?}");
    }
    for garbage in ["\x16\x03\x01\x02\x00\x01\x00\x01", "SSH-2.0-x\r\n\r\n", "GET http://8.8.8.8/ HTTP/9.9\r\n\r\n"] {
        let answer = proxy.send(garbage);
        assert_eq!(answer.status, 400, "{garbage:?}: {answer:?}");
    }
    let huge = format!("GET http://8.8.8.8/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100 << 10));
    let mut stream = proxy.dial();
    let _ = stream.write_all(huge.as_bytes());
    assert_eq!(read_answer(&mut stream, false).status, 431, "the head is bounded");
    assert_eq!(world.watch.packets_for_all(&PUBLIC), 0);
    assert!(proxy.log().iter().all(|line| line["verdict"] == "refused"), "{:?}", proxy.log());
}

#[test]
fn connections_are_bounded_and_room_comes_back() {
    let mut world = World::new();
    let proxy = world.proxy(WALLED);
    let held: Vec<_> = (0..256).map(|_| proxy.connect("8.8.8.8:443")).collect();
    assert!(held.iter().all(|(answer, _)| answer.status == 200));
    let (answer, _) = proxy.connect("8.8.8.8:443");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("256 connections"), "{answer:?}");
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while proxy.connect("8.8.8.8:443").0.status != 200 {
        assert!(Instant::now() < deadline, "no room came back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn strangers_are_refused_before_anything_is_looked_up() {
    if !SHARED {
        // Whoever reaches a workspace's own proxy is that workspace.
        return;
    }
    let mut world = World::new();
    world.names.set("www.test.example", &["93.184.216.34"]);
    let proxy = world.proxy(WALLED);
    assert_eq!(proxy.connect("www.test.example:443").0.status, 200, "control: with its credential it is served");
    let asked = world.names.all_asked().len();
    let before = world.watch.packets_for_all(&PUBLIC);
    for field in [
        "",
        "Proxy-Authorization: Basic dy0wMTIzNDU2Nzg5YWI6d3Jvbmc=\r\n",
        "Proxy-Authorization: Basic eA==\r\n",
        "Proxy-Authorization: Bearer dy0wMTIzNDU2Nzg5YWI6YSBzZWNyZXQ=\r\n",
        "Authorization: Basic dy0wMTIzNDU2Nzg5YWI6YSBzZWNyZXQ=\r\n",
        "X: proxy-authorization\r\n",
    ] {
        for line in ["CONNECT www.test.example:443", "GET http://www.test.example/"] {
            let answer = proxy.plain(&format!("{line} HTTP/1.1\r\nHost: x\r\n{field}\r\n"));
            assert_eq!(answer.status, 407, "{line} {field:?}: {answer:?}");
            assert!(
                answer.head.contains("proxy-authenticate: Basic") && answer.body.contains("remedy: "),
                "{answer:?}"
            );
            assert_eq!(proxy.log().pop().expect("a line")["rule"], "stranger");
        }
    }
    let both = "CONNECT www.test.example:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eA==\r\n\
                Proxy-Authorization: Basic dy0wMTIzNDU2Nzg5YWI6YSBzZWNyZXQ=\r\n\r\n";
    assert_eq!(proxy.plain(both).status, 407, "of two credentials none counts");
    assert_eq!(world.names.all_asked().len(), asked, "no name of a stranger is looked up");
    assert_eq!(world.watch.packets_for_all(&PUBLIC), before);
}
