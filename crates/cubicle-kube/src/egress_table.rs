//! From the controller's list in the cluster to the proxy's table: a process beside the proxy reads
//! the list, and hands whole tables over through a Unix socket. The proxy, which parses what
//! strangers send, so needs no account and no way to the API server.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use cubicle_core::problem::Problem;
use cubicle_egress::Caller;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::followed::Followed;
use crate::names::COMPONENT;

/// What a map of the list says it is.
pub(crate) const CALLER: &str = "egress-caller";
/// The key of its document.
pub(crate) const DOCUMENT: &str = "caller.json";
/// Between two attempts to reach the proxy.
const AGAIN: Duration = Duration::from_millis(200);

/// Follows the list in this namespace for ever, and tells whoever listens at the socket. While the
/// API server is away the last list stays.
///
/// # Errors
/// When the cluster cannot be reached at the start.
pub async fn follow(namespace: &str, socket: &Path) -> Result<Infallible, Problem> {
    let maps = Followed::begin(Api::<ConfigMap>::namespaced(crate::client().await?, namespace));
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => {
                let Err(error) = tell(&maps, stream).await;
                tracing::warn!(%error, "the proxy does not listen any more");
            }
            Err(error) => tracing::debug!(%error, "the proxy does not listen yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Writes the table, and writes it again whenever the list changes.
async fn tell(maps: &Followed<ConfigMap>, mut stream: UnixStream) -> std::io::Result<Infallible> {
    let mut changes = maps.changes();
    loop {
        changes.mark_unchanged();
        if let Some(all) = maps.all() {
            let callers: Vec<Caller> = all.iter().filter_map(caller).collect();
            let mut line = serde_json::to_vec(&callers)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
        }
        tokio::select! {
            changed = changes.changed() => changed.map_err(std::io::Error::other)?,
            // The proxy never says anything: what can be read is its end.
            ready = stream.readable() => {
                ready?;
                return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
            }
        }
    }
}

/// What a map says, if it is one of the list.
fn caller(map: &ConfigMap) -> Option<Caller> {
    if map.labels().get(COMPONENT).map(String::as_str) != Some(CALLER) {
        return None;
    }
    let name = map.name_any();
    let text = map.data.as_ref().and_then(|data| data.get(DOCUMENT)).map_or("", String::as_str);
    match serde_json::from_str::<Caller>(text) {
        Ok(caller) if caller.workspace == name => Some(caller),
        Ok(_) => {
            tracing::warn!(map = name, "an entry of the list names another workspace, and is left out");
            None
        }
        Err(error) => {
            tracing::warn!(map = name, %error, "an entry of the list cannot be read, and is left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_counts_for_the_workspace_that_it_is_named_after() {
        let map = |name: &str, label: &str, document: &str| -> ConfigMap {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "labels": {COMPONENT: label}},
                "data": {DOCUMENT: document},
            }))
            .expect("a map")
        };
        let document = r#"{"workspace":"w-a","addresses":["10.0.0.1"],"digest":"","config":{"mode":"walled"}}"#;
        assert_eq!(caller(&map("w-a", CALLER, document)).expect("a caller").workspace, "w-a");
        for other in [
            map("w-b", CALLER, document),
            map("w-a", "other", document),
            map("w-a", CALLER, "{"),
            map("w-a", CALLER, ""),
        ] {
            assert_eq!(caller(&other), None);
        }
    }
}
