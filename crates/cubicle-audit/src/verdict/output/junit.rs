//! JUnit's XML, for continuous integration: a guarantee is a test case.

use cubicle_core::report::Verdict;

use super::super::{Finding, Report, Ruling};
use super::escaped;

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let of = |ruling: &Ruling, verdict: Verdict| -> Vec<&Finding> {
        report
            .findings
            .iter()
            .filter(|finding| finding.counts() && finding.guarantee == ruling.id && finding.verdict == verdict)
            .collect()
    };
    let (mut failures, mut errors, mut skipped) = (0, 0, 0);
    let mut cases = String::new();
    for ruling in &report.guarantees {
        let place = format!("{:?}.{:?}", ruling.layer, ruling.place);
        let name = format!("{} {}", ruling.alias, ruling.id);
        let open = format!("    <testcase classname=\"{}\" name=\"{}\"", escaped(&place), escaped(&name));
        let breached = of(ruling, Verdict::Breached);
        let unproven = of(ruling, Verdict::Unproven);
        if !breached.is_empty() {
            failures += 1;
            cases.push_str(&format!(
                "{open}>\n      {}\n    </testcase>\n",
                body("failure", "breached", ruling, &breached)
            ));
        } else if !unproven.is_empty() || ruling.verdict == Verdict::Unproven {
            errors += 1;
            cases.push_str(&format!(
                "{open}>\n      {}\n    </testcase>\n",
                body("error", "unproven", ruling, &unproven)
            ));
        } else if ruling.verdict == Verdict::NotClaimed {
            skipped += 1;
            let reason = escaped(&ruling.reason);
            cases.push_str(&format!("{open}>\n      <skipped message=\"{reason}\"/>\n    </testcase>\n"));
        } else {
            cases.push_str(&format!("{open}/>\n"));
        }
    }
    let tests = report.guarantees.len();
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"cubicle audit\" {counts}>\n  \
         <testsuite name=\"guarantees\" {counts}>\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

fn body(element: &str, kind: &str, ruling: &Ruling, findings: &[&Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = finding.location.as_ref().map(|location| format!(" ({location})")).unwrap_or_default();
        text.push_str(&format!("{}: {}{place}\n", finding.claim(), finding.at_fault()));
        for line in &finding.witness {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if text.is_empty() {
        text.push_str(&ruling.reason);
    }
    format!("<{element} type=\"{kind}\" message=\"{}\">{}</{element}>", escaped(&ruling.sentence), escaped(&text))
}
