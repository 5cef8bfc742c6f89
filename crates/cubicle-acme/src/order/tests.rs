//! What the engine makes of a customer that somebody else has taken over.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::certificate::tests::signed;

/// Orders with a script in the customer's place, and a hook that notes its calls.
fn orders(folder: &Path, says: &[Told]) -> Orders {
    let program = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("changed");
        path
    };
    let lines: Vec<String> = says.iter().map(|told| serde_json::to_string(told).expect("JSON")).collect();
    std::fs::write(folder.join("lines"), lines.join("\n") + "\n").expect("written");
    let customer =
        program("customer", format!("#!/bin/sh\ncat '{}'\ncat >/dev/null\n", folder.join("lines").display()));
    let hook = program("hook", format!("#!/bin/sh\necho \"$1\" >>'{}'\n", folder.join("calls").display()));
    Orders {
        program: customer,
        settings: Settings {
            directory: "https://ca.example.org/directory".to_owned(),
            contacts: Vec::new(),
            hook,
            hook_timeout: Duration::from_secs(10),
            external_account: None,
            roots: None,
        },
        names: Names::new("hub.example.org", "hub.example.org").expect("names"),
        files: Files::new(folder, rustix::process::getegid().as_raw()),
    }
}

fn record(name: &str, value: &str) -> Record {
    Record { name: name.to_owned(), value: value.to_owned() }
}

/// What an order ends with, and how the hook was called.
async fn ended(says: &[Told]) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let failure = orders(folder.path(), says).order(None).await.expect_err("it gives no certificate");
    assert!(!folder.path().join("hub.pem").exists() && !folder.path().join("presented.json").exists());
    (failure.what, std::fs::read_to_string(folder.path().join("calls")).unwrap_or_default())
}

#[tokio::test]
async fn records_that_no_order_needs_are_not_presented() {
    let value = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
    let name = "_acme-challenge.hub.example.org";
    for records in [
        vec![record("_acme-challenge.example.org", value)],
        vec![record("www.hub.example.org", value)],
        vec![record(name, "v=spf1 -all")],
        vec![record(name, "")],
        vec![record(name, value); 3],
    ] {
        let (what, calls) = ended(&[Told::Present(records.clone())]).await;
        assert_eq!(what, "records were to be presented that no order needs", "{records:?}");
        assert_eq!(calls, "", "{records:?}");
    }
}

#[tokio::test]
async fn what_was_presented_is_taken_away_whatever_comes_of_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let value = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
    let present = || Told::Present(vec![record("_acme-challenge.hub.example.org", value)]);
    let (what, calls) = ended(&[present(), Told::Failed(Failure::new(Cause::Refused, "no\u{1b}[2J"))]).await;
    assert_eq!((what.as_str(), calls.as_str()), ("no\\u{1b}[2J", "present\ncleanup\n"));
    // A second time is no part of an order.
    let (what, calls) = ended(&[present(), present()]).await;
    assert!(what.contains("said what it should not"), "{what}");
    assert_eq!(calls, "present\ncleanup\n");
}

#[tokio::test]
async fn another_certificate_is_not_shown() {
    let names = Names::new("hub.example.org", "hub.example.org").expect("names");
    let (key, chain) = signed(&names, None);
    for text in [chain.clone(), key + &chain, String::new()] {
        let (what, _) = ended(&[Told::Certificate(text)]).await;
        assert!(what.starts_with("what the authority sent cannot be used: "), "{what}");
    }
    for wrong in [vec![], vec![Told::NoWindow]] {
        let (what, _) = ended(&wrong).await;
        assert!(what.contains("said what it should not"), "{what}");
    }
}

#[tokio::test]
async fn a_customer_that_goes_on_and_on_is_not_heard() {
    let account = || Told::Account(Sealed("{}".to_owned().into()));
    let failed = || Told::Failed(Failure::new(Cause::Refused, "no"));
    let (what, _) = ended(&[account(), Told::AccountLost, account(), failed()]).await;
    assert_eq!(what, "no", "as many as an order can need");
    for wrong in [vec![account(), account(), account()], vec![Told::AccountLost, Told::AccountLost]] {
        let (what, _) = ended(&[wrong, vec![failed()]].into_iter().flatten().collect::<Vec<_>>()).await;
        assert!(what.contains("said what it should not"), "{what}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_goes_before_an_account_comes() {
    let account = Told::Account(Sealed("{}".to_owned().into()));
    let folder = tempfile::tempdir().expect("a folder");
    let orders = orders(folder.path(), &[account, Told::Failed(Failure::new(Cause::Refused, "no"))]);
    let there = folder.path().join("hub.pem");
    std::fs::write(&there, "another's").expect("written");
    orders.order(None).await.expect_err("it gives no certificate");
    assert!(!there.exists());
    // The account is known now, so that what is there is this authority's.
    std::fs::write(&there, "this one's").expect("written");
    orders.order(None).await.expect_err("it gives no certificate");
    assert!(there.exists());
}

#[tokio::test]
async fn a_window_that_is_none_is_not_waited_for() {
    for (start, end, is_one) in
        [(5, 9, true), (9, 5, false), (-1, 5, false), (0, i64::MAX, false), (i64::MIN, i64::MAX, false)]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let said =
            orders(folder.path(), &[Told::Window { start, end, again: 1 }]).window("a.b").await.expect("an answer");
        assert_eq!(matches!(said, Said::Window(..)), is_one, "{start} {end}");
    }
}
