//! Label selectors in both their forms. The input has three parts, a line each: a selector as
//! `kubectl -l` takes it, one as YAML, labels as YAML. The two implementations (the network's,
//! with texts as numbers, and the one for rights and tenants) must agree.
#![no_main]

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::{Engine, Profile};
use cubicle_audit::rbac::Selector;
use cubicle_audit::snapshot::{File, Snapshot};
use cubicle_audit::verdict::selector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(words), Some(fields), Some(labels)) = (lines.next(), lines.next(), lines.next()) else { return };
    let words = selector(words);
    let manifests = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: n, namespace: x}}\nspec:\n  \
         podSelector: {fields}\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: x\n  \
         labels: {labels}\nspec: {{containers: [{{name: c}}]}}\n"
    );
    let snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: manifests.into_bytes() }]);
    let cluster = Cluster::new(&snapshot);
    let is_clean = snapshot.problems.is_empty() && cluster.problems.is_empty();
    let engine = Engine::new(cluster, Profile::Standard);
    let Some(pod) = snapshot.objects.iter().find(|object| &*object.kind == "Pod") else { return };
    let found = serde_json::from_value(pod.value["metadata"]["labels"].to_json());
    let Ok(labels) = found else { return };
    if let Ok(words) = &words {
        let _ = words.matches(&labels);
    }
    let Some(policy) = snapshot.objects.iter().find(|object| &*object.kind == "NetworkPolicy") else { return };
    let fields = policy.value["spec"]["podSelector"].to_json();
    let Ok(fields) = serde_json::from_value::<Selector>(fields) else { return };
    let by_fields = fields.matches(&labels);
    if is_clean && snapshot.objects.len() == 2 {
        let by_network = engine.present_pods().first().is_some_and(|pod| !engine.policies_of(*pod).is_empty());
        assert_eq!(by_network, by_fields, "the network and the rights read a selector differently");
    }
});
