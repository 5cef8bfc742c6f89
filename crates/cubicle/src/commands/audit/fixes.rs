//! What `--fix` prints: manifests to apply and patches to run, in one text that a shell reads.

use std::collections::BTreeSet;

use cubicle_audit::verdict::{Fix, Report, Target};
use serde_json::Value;

use crate::output::safe;

/// Every change once, in the order of the findings.
pub(crate) fn text(report: &Report) -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for finding in report.findings.iter().filter(|finding| finding.counts()) {
        let title = safe::line(&format!("# {} {}", finding.alias, finding.claim()));
        let body = match &finding.fix {
            None => format!("{title}\n#   no ready change: {}\n", safe::line(finding.at_fault())),
            Some(fix) => {
                let shown = change(fix);
                if !seen.insert(shown.clone()) {
                    continue;
                }
                format!("{title}\n{shown}")
            }
        };
        text.push_str(&body);
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("# nothing to change\n");
    }
    text
}

fn change(fix: &Fix) -> String {
    match fix {
        Fix::Manifests { objects } => {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
            format!("kubectl apply -f - <<'END'\n{}\nEND\n", yaml(&list))
        }
        Fix::Patch { target, operations } => {
            let patch = serde_json::to_string(operations).unwrap_or_default();
            format!("kubectl patch {} --type=json -p {}\n", named(target), quoted(&safe::json(&patch)))
        }
        Fix::Delete { target } => format!("kubectl delete {}\n", named(target)),
        Fix::Setting { text } => format!("#   {}\n", safe::line(text)),
    }
}

fn yaml(value: &Value) -> String {
    serde_norway::to_string(value).map(|text| safe::lines(&text).trim_end().to_owned()).unwrap_or_default()
}

/// `kind.version.group NAME -n NAMESPACE`, as kubectl names kinds of any group.
fn named(target: &Target) -> String {
    let kind = match target.api_version.split_once('/') {
        Some((group, version)) => format!("{}.{version}.{group}", target.kind.to_lowercase()),
        None => target.kind.to_lowercase(),
    };
    let namespace = match target.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" -n {}", quoted(namespace)),
    };
    format!("{} {}{namespace}", quoted(&kind), quoted(&target.name))
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "-._/".contains(character));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_word() {
        assert_eq!(quoted("a-b.c"), "a-b.c");
        assert_eq!(quoted("a'; rm -rf /"), "'a'\\''; rm -rf /'");
        assert_eq!(quoted(""), "''");
    }
}
