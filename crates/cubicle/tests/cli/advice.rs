//! What needs no engine: the catalogue and the advice.

use cubicle_core::catalogue;
use cubicle_core::level::{EngineKind, Level};
use serde_json::Value;

use crate::program::{Machine, transcript};

#[test]
fn the_promises_of_a_level_are_listed_by_id() {
    let machine = Machine::new();
    for level in [Level::Basic, Level::Standard, Level::Strict] {
        let ran = machine.run(["guarantees", "--level", &level.to_string(), "--engine", "local", "--format", "json"]);
        let listed: Vec<Value> = serde_json::from_str(&ran.output).expect("a list");
        let ids: Vec<&str> = listed.iter().filter_map(|one| one.get("id")?.as_str()).collect();
        assert_eq!(ids, catalogue::promised(level, EngineKind::Local), "{level}");
        assert_eq!(ran.code, 0);
    }
}

#[test]
fn the_catalogue_has_every_field_of_every_guarantee() {
    let ran = Machine::new().run(["guarantees", "--format", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&ran.output).expect("a list");
    assert_eq!(listed.len(), catalogue::all().len());
    for field in
        ["id", "alias", "layer", "place", "sentence", "mechanism", "static_rule", "live_probe", "positive_control"]
    {
        assert!(listed.iter().all(|one| one.get(field).is_some_and(Value::is_string)), "{field}");
    }
}

#[test]
fn a_guarantee_is_found_by_both_its_names() {
    let machine = Machine::new();
    let (by_alias, by_id) =
        (machine.run(["guarantees", "NW-01"]), machine.run(["guarantees", "network.other-workspace"]));
    assert_eq!((by_alias.code, &by_alias.output), (0, &by_id.output));
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["guarantees", "nothing"],
            &["guarantees", "--level", "high"],
            &["guarantees", "--level", "basic", "--engine", "cloud"],
            &["guarantees", "--level", "dedicated"],
        ]
    ));
}

/// The advice without the list of what stays open, which is the catalogue's business.
fn advice(situation: &str) -> Value {
    let ran = Machine::new().run_with(["advise", "--situation", "-", "--format", "json"], &[], situation.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let mut answer: Value = serde_json::from_str(&ran.output).expect("an answer");
    let open = answer.as_object_mut().and_then(|answer| answer.remove("stays_open"));
    assert!(open.is_some_and(|open| open.as_array().is_some_and(|open| !open.is_empty())));
    answer
}

#[test]
fn advice_names_level_reason_cost_and_rest() {
    insta::assert_json_snapshot!("advice_for_nothing_known", advice("{}"));
    insta::assert_json_snapshot!("advice_for_patients", advice("data: controlled\ncode: own\ninternet: list"));
    insta::assert_json_snapshot!("advice_for_a_contest", advice(r#"{"who": "hostile", "data": "public"}"#));
    let text = Machine::new().run(["advise"]);
    let (advised, open) = text.output.split_once("What stays open\n").expect("both parts");
    assert!(open.lines().all(|line| line.starts_with("  ")), "{open}");
    insta::assert_snapshot!("advice_as_text", advised);
}

#[test]
fn advice_asks_for_words_that_it_knows() {
    let machine = Machine::new();
    machine.file("typo.yaml", "data: secret\n");
    machine.file("field.yaml", "money: none\n");
    machine.file("walls.json", r#"{"name":"walls","machine":"2 cores","commit":"abc","runs":5,"cases":[{"case":"seccomp: start (ms)","ours":{"p50":1},"peer":{"p50":1},"ratio_p50":1.0},{"case":"seccomp: 200,000 system calls (ms)","ours":{"p50":2},"peer":{"p50":1},"ratio_p50":2.0}],"ratio_p50":2.0}"#);
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["advise", "--situation", "typo.yaml"],
            &["advise", "--situation", "field.yaml"],
            &["advise", "--situation", "nowhere.yaml"],
            &["advise", "--measurements", "nowhere.json"],
            &["advise", "--measurements", "typo.yaml"],
        ]
    ));
    let measured = machine.run(["advise", "--measurements", "walls.json"]);
    assert!(measured.output.contains("walls.json on 2 cores, commit abc\n"), "{}", measured.output);
    assert!(
        measured.output.contains("kernel     seccomp  start 1.00x, 200,000 system calls 2.00x\n"),
        "{}",
        measured.output
    );
}
