//! The same commands from another machine, with an address and a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::fixtures::{ID, workspace};
use crate::program::{Machine, Ran};
use crate::stand_in::{secure_site, site};

fn hub() -> String {
    site(|head, body| {
        let authorized = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer cubicle_secret"));
        if !authorized {
            return (401, json!({ "title": "Not allowed", "status": 401, "detail": "who are you?" }).to_string());
        }
        let events = [
            ": the connection is alive\n\n".to_owned(),
            format!("data: {}\n\n", json!({ "step": "request", "state": "done", "message": "asked", "elapsed_ms": 1 })),
            format!("data:{}\r\n\r\n", json!({ "step": "open", "state": "done", "message": "open", "elapsed_ms": 2 })),
        ];
        match head[0].as_str() {
            "POST /api/v1/workspaces" => {
                assert_eq!(*body, json!({ "template": "jupyterlab", "name": "", "user": null }));
                (202, workspace("pending").to_string())
            }
            "GET /api/v1/workspaces" => (200, json!([workspace("running")]).to_string()),
            "GET /api/v1/workspaces/w-0123456789ab" => (200, workspace("running").to_string()),
            "GET /api/v1/workspaces/w-0123456789ab/events" => (200, events.concat()),
            "GET /api/v1/workspaces/w-0123456789ab/logs" => (200, "ready\n".to_owned()),
            "DELETE /api/v1/workspaces/w-0123456789ab?volume=false" => (204, String::new()),
            _ => (404, json!({ "title": "Not found", "status": 404, "detail": "there is nothing" }).to_string()),
        }
    })
}

fn run(address: &str, token: &str, command: &[&str]) -> Ran {
    let environment = [("CUBICLE_URL", address), ("CUBICLE_TOKEN", token)];
    Machine::new().run_with(command.iter().copied(), &environment, b"")
}

#[test]
fn a_launch_is_followed_to_its_end() {
    let hub = hub();
    let ran = run(&format!("{hub}/"), "cubicle_secret", &["launch", "jupyterlab", "--wait"]);
    assert_eq!((ran.code, ran.output), (0, format!("{ID}\n{hub}/workspaces/{ID}/open\n")), "{}", ran.errors);
    assert_eq!(ran.errors, "[1/5] request  done      1 ms  asked\n[5/5] open     done      2 ms  open\n");
}

#[test]
fn workspaces_are_listed_read_and_deleted() {
    let hub = hub();
    assert!(run(&hub, "cubicle_secret", &["list"]).output.contains(ID));
    assert_eq!(run(&hub, "cubicle_secret", &["logs", ID]).output, "ready\n");
    assert_eq!(run(&hub, "cubicle_secret", &["delete", ID]).code, 0);
    assert_eq!(run(&hub, "cubicle_secret", &["report", ID]).code, 4);
}

#[test]
fn a_bad_token_is_4_and_never_repeated() {
    let hub = hub();
    for token in ["cubicle_guessed", "two\nlines"] {
        let ran = run(&hub, token, &["list"]);
        assert!(matches!(ran.code, 2 | 4), "{ran}");
        assert!(!ran.errors.contains(token), "{ran}");
    }
}

#[test]
fn what_needs_the_machine_itself_says_so() {
    for command in
        [&["exec", ID, "--", "id"][..], &["image", "list"], &["image", "export", "a"], &["report", ID, "--sign"]]
    {
        let ran = run("http://127.0.0.1:9", "cubicle_secret", command);
        assert_eq!((ran.code, ran.output.as_str()), (4, ""), "{command:?}");
        assert!(ran.errors.contains("on the machine itself\nhint: run it there as root"), "{}", ran.errors);
    }
}

#[test]
fn a_hub_that_is_not_there_is_5() {
    // Port 9 is reserved (discard) and nothing listens there.
    let ran = run("http://127.0.0.1:9", "cubicle_secret", &["list"]);
    assert_eq!((ran.code, ran.output.as_str()), (5, ""));
    assert!(ran.errors.contains("\nhint: check CUBICLE_URL"), "{}", ran.errors);
}

#[test]
fn the_token_goes_only_to_who_proves_to_be_the_hub() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let (address, certificate) = secure_site(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        (200, "[]".to_owned())
    });
    let ran = run(&address, "cubicle_secret", &["list", "--format", "json"]);
    assert_eq!((ran.code, asked.load(Ordering::SeqCst)), (5, 0), "{ran}");
    assert!(ran.errors.contains("certificate"), "{ran}");

    let machine = Machine::new();
    let file = machine.file("hub.pem", certificate);
    let trusting = |address: &str| {
        let environment =
            [("CUBICLE_URL", address), ("CUBICLE_TOKEN", "cubicle_secret"), ("SSL_CERT_FILE", file.as_str())];
        machine.run_with(["list", "--format", "json"], &environment, b"")
    };
    let ran = trusting(&address);
    assert_eq!((ran.code, ran.output.as_str(), asked.load(Ordering::SeqCst)), (0, "[]\n", 1), "{ran}");
    // The certificate is for another name.
    let ran = trusting(&address.replace("localhost", "127.0.0.1"));
    assert_eq!((ran.code, asked.load(Ordering::SeqCst)), (5, 1), "{ran}");
}
