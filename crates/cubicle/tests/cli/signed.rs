//! Signed reports.

use cubicle_core::report::Verdict;
use serde_json::Value;

use crate::fixtures::{ID, report};
use crate::program::Machine;
use crate::stand_in::{self, done};

fn signing_machine() -> Machine {
    let machine = Machine::new();
    stand_in::engine(&machine, |_, _| done(report(&[Verdict::Held, Verdict::Breached])));
    machine
}

#[test]
fn a_signed_report_is_good_until_one_byte_is_altered() {
    let machine = signing_machine();
    let signed = machine.run(["report", ID, "--sign"]);
    assert_eq!((signed.code, signed.errors.as_str()), (0, ""));
    let good = machine.file("good.json", &signed.output);
    let ran = machine.run(["report", "verify", &good]);
    assert_eq!((ran.code, ran.output.as_str()), (0, "good: signed by this site, about w-0123456789ab\n"));

    let bytes = signed.output.as_bytes();
    // Every byte is tried beside the code; here, some from everywhere through the program.
    for position in (0..bytes.len()).step_by(bytes.len() / 23) {
        let mut altered = bytes.to_vec();
        altered[position] ^= 1;
        let file = machine.file("altered.json", altered);
        let ran = machine.run(["report", "verify", &file]);
        assert_eq!(ran.code, 1, "byte {position}");
        assert!(ran.output.starts_with("bad: "), "{}", ran.output);
    }
    for altered in [&bytes[..bytes.len() - 1], &[bytes, b"\n"].concat(), b"", b"{}", b"\xff"] {
        let file = machine.file("altered.json", altered);
        assert_eq!(machine.run(["report", "verify", &file, "--format", "json"]).code, 1);
    }
}

#[test]
fn the_signed_text_is_the_report_itself() {
    let machine = signing_machine();
    let envelope: Value = serde_json::from_str(&machine.run(["report", ID, "--sign"]).output).expect("JSON");
    let text = envelope["report"].as_str().expect("text");
    let inner: cubicle_core::report::Report = serde_json::from_str(text).expect("a report");
    assert_eq!(inner, report(&[Verdict::Held, Verdict::Breached]));
    assert_eq!(envelope.as_object().expect("an object").len(), 3);
}

#[test]
fn elsewhere_the_sites_key_is_needed() {
    let (site, elsewhere) = (signing_machine(), Machine::new());
    let signed = site.run(["report", ID, "--sign"]).output;
    let file = elsewhere.file("report.json", &signed);
    let ran = elsewhere.run(["report", "verify", &file]);
    assert_eq!(ran.code, 3, "{ran}");
    let envelope: Value = serde_json::from_str(&signed).expect("JSON");
    let key = envelope["key"].as_str().expect("a key");
    assert_eq!(elsewhere.run(["report", "verify", &file, "--key", key]).code, 0);
    let other: Value = serde_json::from_str(&signing_machine().run(["report", ID, "--sign"]).output).expect("JSON");
    assert_eq!(elsewhere.run(["report", "verify", &file, "--key", other["key"].as_str().expect("a key")]).code, 1);
    assert_eq!(elsewhere.run(["report", "verify", &file, "--key", "nonsense"]).code, 2);
    assert_eq!(elsewhere.run(["report", "verify", "nowhere.json"]).code, 4);
}
