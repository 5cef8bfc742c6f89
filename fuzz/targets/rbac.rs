//! Any bytes as roles and bindings: rights, who-can and escalation. Who is allowed is among those
//! who can, and what is allowed stays so however one asks.
#![no_main]

use cubicle_audit::rbac::{Manifests, Request, Rights, escalate};
use cubicle_audit::snapshot::{File, Snapshot};
use cubicle_audit::workload::templates;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: bytes.to_vec() }]);
    let manifests = Manifests::new(&snapshot, &templates(&snapshot));
    let rights = &manifests.rights;
    let requests = [
        Request::resource("get", "", "secrets", "x"),
        Request::resource("create", "", "pods/exec", ""),
        Request::resource("patch", "apps", "deployments", "x").named("d"),
        Request::Path { verb: "get".to_owned(), path: "/metrics".to_owned() },
    ];
    for identity in manifests.world.every_account().take(6) {
        for request in &requests {
            if let Some(grant) = rights.allowed(&identity, request) {
                let scope = grant.binding.namespace.clone();
                let found = rights.who_can(request);
                assert!(
                    Rights::is_unbounded(&identity)
                        || found.iter().any(|(subject, _)| subject.is(&identity, &scope)
                            || subject.identity(&scope).is_some_and(|one| one == identity)),
                    "{identity} may {request:?} but is not among those who can"
                );
            }
        }
        for reached in escalate(rights, &manifests.world, &identity).reached {
            assert!(!reached.path.is_empty(), "something is reached without a step");
        }
    }
});
