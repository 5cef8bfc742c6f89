//! Guarantees about the egress proxy: what it must refuse, whoever asks and however it is
//! written. A workspace without a proxy is tried for having none.

use std::net::SocketAddr;

use super::entry::{Attempts, BOTH, Entry, LOCAL, PROXY, machine_addresses, tcp};
use crate::attempt::{Action, Phase, SharedProxy};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::{Cluster, Situation};
use crate::template::EgressMode;

const CONTROL: &str = "In the control's network namespace the same request to a proxy that refuses nothing is answered with 200, before and after; where the workspace has no proxy, the control connects to one.";
/// Metadata services and credential endpoints.
const METADATA: &[&str] =
    &["169.254.169.254:80", "169.254.170.2:80", "[fd00:ec2::254]:80", "168.63.129.16:80", "100.100.100.200:80"];
/// One address in each range that is not public.
const PRIVATE: &[&str] = &[
    "10.0.0.1:443",
    "172.16.0.1:443",
    "192.168.0.1:443",
    "100.64.0.1:443",
    "169.254.1.1:443",
    "[fd00::1]:443",
    "[fe80::1]:443",
];
/// Loopback and metadata addresses, written otherwise.
const SPELLINGS: &[&str] = &[
    "[::ffff:127.0.0.1]:80",
    "[::ffff:169.254.169.254]:80",
    "2130706433:80",
    "2852039166:80",
    "0x7f000001:80",
    "0177.0.0.1:80",
    "127.1:80",
    "0251.0376.0251.0376:80",
    "[64:ff9b::a9fe:a9fe]:80",
];
const MECHANISM: &str = "The egress proxy resolves names itself and refuses, after resolution, every address that is not public; where the egress mode is none there is no proxy at all.";

/// Asks for tunnels, or where there is no proxy looks that there is none. Before user code
/// whatever listens on the proxy's port is not the tenant's.
fn tunnels(situation: &Situation, phase: Phase, targets: &[String]) -> Attempts {
    if situation.egress.mode == EgressMode::None {
        return match phase {
            Phase::Gate => vec![tcp(PROXY.ip(), PROXY.port())],
            Phase::Later => Vec::new(),
        };
    }
    targets
        .iter()
        .map(|target| {
            let action = Action::ProxyConnect { proxy: PROXY, target: target.clone(), shared: None };
            (format!("CONNECT {target}"), action)
        })
        .collect()
}

/// The same in a cluster, where one proxy serves every workspace with an allow-list. Any other
/// workspace must not even get to a proxy.
fn in_cluster(situation: &Situation, cluster: &Cluster, targets: &[String]) -> Attempts {
    let Some(careless) = cluster.careless_proxy else { return Vec::new() };
    let Some(door) = cluster.egress.as_ref().filter(|_| situation.egress.mode == EgressMode::AllowList) else {
        return vec![tcp(careless.ip(), careless.port())];
    };
    let shared = SharedProxy { credential: door.credential.clone(), careless };
    let through = |target: &String| {
        let action = Action::ProxyConnect { proxy: door.proxy, target: target.clone(), shared: Some(shared.clone()) };
        (format!("CONNECT {target}"), action)
    };
    targets.iter().map(through).collect()
}

/// How the proxy of a cluster is tried.
pub(super) const IN_CLUSTER: &[(&str, super::kubernetes::InCluster)] = &[
    ("egress.metadata", |situation, cluster, _| in_cluster(situation, cluster, &owned(METADATA))),
    ("egress.spellings", |situation, cluster, _| in_cluster(situation, cluster, &owned(SPELLINGS))),
    ("egress.not-listed", |situation, cluster, _| in_cluster(situation, cluster, &unlisted(situation))),
    ("egress.private-ranges", |situation, cluster, _| {
        // Whatever the cluster itself has, also where its ranges are public ones.
        let known =
            [&cluster.api_server, &cluster.same_node, &cluster.other_node, &cluster.services, &cluster.platform];
        let kubelets = cluster.own_node.iter().chain(&cluster.other_nodes).map(|ip| SocketAddr::new(*ip, 10250));
        let first = known.into_iter().flat_map(|list| list.iter().take(2).copied());
        let mut targets: Vec<String> = first.chain(kubelets.take(4)).map(|address| address.to_string()).collect();
        targets.extend(owned(PRIVATE));
        targets.sort();
        targets.dedup();
        in_cluster(situation, cluster, &targets)
    }),
];

fn owned(targets: &[&str]) -> Vec<String> {
    targets.iter().map(|target| (*target).to_owned()).collect()
}

fn fixed(situation: &Situation, phase: Phase, targets: &[&str]) -> Attempts {
    tunnels(situation, phase, &owned(targets))
}

fn machine(situation: &Situation, phase: Phase) -> Attempts {
    let ports = situation.platform_ports.iter().copied().take(4).chain([22, situation.notebook_port]);
    let ports: Vec<u16> = ports.collect();
    let mut targets: Vec<String> = machine_addresses(situation)
        .take(8)
        .flat_map(|address| ports.iter().map(move |port| std::net::SocketAddr::new(address, *port).to_string()))
        .collect();
    for host in ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]"] {
        targets.extend(ports.iter().take(2).map(|port| format!("{host}:{port}")));
    }
    tunnels(situation, phase, &targets)
}

fn not_listed(situation: &Situation, phase: Phase) -> Attempts {
    match situation.egress.mode {
        EgressMode::Walled => Vec::new(),
        EgressMode::None => fixed(situation, phase, &[]),
        EgressMode::AllowList => tunnels(situation, phase, &unlisted(situation)),
    }
}

/// Public hosts that the template does not list.
fn unlisted(situation: &Situation) -> Vec<String> {
    let listed = |host: &str| situation.egress.allow.iter().any(|entry| entry.contains(host));
    ["1.1.1.1", "8.8.8.8", "unlisted.example", "example.com"]
        .into_iter()
        .filter(|host| !listed(host))
        .map(|host| format!("{host}:443"))
        .collect()
}

const fn entry(guarantee: Guarantee, attempts: fn(&Situation, Phase) -> Attempts) -> Entry {
    Entry { guarantee, attempts: Some(attempts) }
}

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Guarantee {
            id: "egress.metadata",
            alias: "NW-12B",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach a metadata service or credential endpoint through its egress proxy.",
            mechanism: MECHANISM,
            static_rule: "The proxy's own deny rules, which no template can change.",
            live_probe: "Asks the proxy for tunnels to the metadata addresses; anything but a refusal counts as reached.",
            positive_control: CONTROL,
            references: &["RFC 9110 section 9.3.6 (CONNECT)", "CWE-918"],
        },
        |situation, phase| fixed(situation, phase, METADATA),
    ),
    entry(
        Guarantee {
            id: "egress.private-ranges",
            alias: "NW-16B",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach private networks through its egress proxy.",
            mechanism: MECHANISM,
            static_rule: "The proxy's own deny rules, which no template can change.",
            live_probe: "Asks the proxy for tunnels to one address in each range that is not public.",
            positive_control: CONTROL,
            references: &["RFC 1918", "RFC 6598", "RFC 6890", "CWE-918"],
        },
        |situation, phase| fixed(situation, phase, PRIVATE),
    ),
    entry(
        Guarantee {
            id: "egress.machine",
            alias: "NW-22B",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: LOCAL,
            sentence: "A workspace cannot reach the machine, the hub or another workspace through its egress proxy.",
            mechanism: "The egress proxy refuses loopback and every address of the machine, after resolution.",
            static_rule: "The proxy's own deny rules and the machine's addresses.",
            live_probe: "Asks the proxy for tunnels to the platform's ports at every address of the machine, localhost and the unspecified addresses.",
            positive_control: CONTROL,
            references: &["RFC 1122 section 3.2.1.3", "CWE-918"],
        },
        machine,
    ),
    entry(
        Guarantee {
            id: "egress.spellings",
            alias: "NW-16C",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot get around its egress proxy's rules by writing an address differently.",
            mechanism: "Addresses are judged after parsing and resolution, whatever their spelling; IPv4 inside IPv6 is judged as IPv4.",
            static_rule: "The proxy's parser, tested with the same spellings.",
            live_probe: "Asks the proxy for loopback and metadata addresses in decimal, octal, hexadecimal, short, IPv4-mapped and NAT64 spelling.",
            positive_control: CONTROL,
            references: &["RFC 6943 section 3.1.1", "RFC 4291 section 2.5.5", "RFC 6052", "man 3 inet_aton"],
        },
        |situation, phase| fixed(situation, phase, SPELLINGS),
    ),
    entry(
        Guarantee {
            id: "egress.not-listed",
            alias: "NW-17B",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach a host that its template does not list.",
            mechanism: "The egress proxy lets only listed hosts through; where the egress mode is none there is no proxy at all.",
            static_rule: "The template's egress list.",
            live_probe: "Asks the proxy for tunnels to public hosts that are not on the list.",
            positive_control: CONTROL,
            references: &["NIST SP 800-53 SC-7(5): deny by default, allow by exception"],
        },
        not_listed,
    ),
];
