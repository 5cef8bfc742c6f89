//! The policy as the `linux.seccomp` section of an OCI runtime specification.

use serde_json::{Value, json};

use crate::seccomp::policy::{Alternative, Condition, Group, Verdict};

/// Renders groups; calls that no group names fail with ENOSYS.
pub(crate) fn render<'a>(groups: impl Iterator<Item = &'a Group>) -> Value {
    let rules: Vec<Value> = groups
        .flat_map(|group| {
            let names: Vec<&str> = group.calls.iter().map(|call| call.0).collect();
            match group.verdict {
                Verdict::Allow => vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})],
                Verdict::Refuse => {
                    vec![json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM})]
                }
                // The runtime's own default is ENOSYS.
                Verdict::Unknown => Vec::new(),
                Verdict::AllowIf(alternatives) => alternatives
                    .iter()
                    .flat_map(|one| arguments(one))
                    .map(|args| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args}))
                    .collect(),
            }
        })
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

/// The argument lists that together say what one alternative says: OCI compares all 64 bits and
/// has no masked "not equal", so that "none of" becomes the bit patterns that differ.
fn arguments(alternative: Alternative) -> Vec<Vec<Value>> {
    let mut lists = vec![Vec::new()];
    for condition in alternative {
        let choices: Vec<Value> = match condition {
            Condition::Masked { argument, mask, value } => vec![masked(*argument, *mask, *value)],
            Condition::NoneOf { argument, values } => {
                complement(values, 0, 0).into_iter().map(|(mask, value)| masked(*argument, mask, value)).collect()
            }
        };
        lists = lists
            .into_iter()
            .flat_map(|list: Vec<Value>| {
                choices
                    .iter()
                    .map(move |choice| list.iter().cloned().chain([choice.clone()]).collect())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    lists
}

fn masked(argument: u32, mask: u32, value: u32) -> Value {
    json!({"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"})
}

/// Disjoint (mask, value) patterns that cover every 32-bit number except `values`, among those
/// that begin with the bits `prefix` under `mask`.
fn complement(values: &[u32], mask: u32, prefix: u32) -> Vec<(u32, u32)> {
    if values.is_empty() {
        return vec![(mask, prefix)];
    }
    if mask == u32::MAX {
        return Vec::new();
    }
    let bit = 0x8000_0000_u32 >> mask.leading_ones();
    let (ones, zeros): (Vec<u32>, Vec<u32>) = values.iter().partition(|value| *value & bit != 0);
    let mut patterns = complement(&zeros, mask | bit, prefix);
    patterns.extend(complement(&ones, mask | bit, prefix | bit));
    patterns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn complement_covers_everything_else_once(values in prop::collection::vec(any::<u32>(), 0..4), other: u32) {
            let patterns = complement(&values, 0, 0);
            for number in values.iter().copied().chain([other]) {
                let hits = patterns.iter().filter(|(mask, value)| number & mask == *value).count();
                prop_assert_eq!(hits, usize::from(!values.contains(&number)));
            }
        }
    }
}
