//! The cluster of `cubicle audit --live`.

use std::collections::BTreeMap;

use cubicle_audit::snapshot::{Interest, Snapshot, Unread, interest};
use cubicle_core::problem::Problem;
use cubicle_kube::live::{self, Wish};

use crate::output;

/// Reads the cluster of this shell; the kinds that are not understood, with how many there are.
///
/// # Errors
/// No cluster is named, or it does not answer.
pub(super) fn read() -> Result<(Snapshot, BTreeMap<String, usize>), Problem> {
    let wish = |group: &str, kind: &str| match interest(group, kind) {
        Interest::Objects => Wish::Read,
        Interest::Number => Wish::Count,
        Interest::None => Wish::Nothing,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Problem::engine(format!("no runtime: {error}"), "check the limits of this shell (`ulimit -a`)")
    })?;
    let found = runtime.block_on(live::read(wish))?;
    let mut snapshot = Snapshot::from_json("live", &found.objects);
    snapshot.unread = found.unread.into_iter().map(|(group, kind, reason)| Unread { group, kind, reason }).collect();
    for unread in &snapshot.unread {
        output::note(&format!("unknown: {}", unread.reason));
    }
    let mut counted = BTreeMap::new();
    for (version, kind, number) in found.counted {
        match number {
            Some(number) => {
                counted.insert(format!("{version} {kind}"), number);
            }
            None => output::note(&format!("note: {kind} ({version}) is not understood and could not be counted")),
        }
    }
    Ok((snapshot, counted))
}
