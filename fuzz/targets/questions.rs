//! What people write on the command line and in the lines of `cubicle audit queries`: places,
//! ports, protocols, profiles, levels, versions. What is read is shown so that it can be read
//! again.
#![no_main]

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::place::{Place, PortName, with_port};
use cubicle_audit::network::port::Protocol;
use cubicle_audit::network::{Engine, Profile};
use cubicle_audit::snapshot::{File, Snapshot};
use libfuzzer_sys::fuzz_target;

const PODS: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: x}\nspec: {replicas: 3, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: x}\nspec: {containers: [{name: c}]}\nstatus: {podIP: 10.1.0.1}\n";

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (from, to, rest) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let _ = rest.parse::<Profile>();
    let _ = rest.parse::<cubicle_audit::pod_security::Level>();
    let _ = rest.parse::<cubicle_audit::pod_security::Version>();
    let _ = rest.parse::<cubicle_audit::verdict::Preset>();
    let protocol = rest.parse().unwrap_or(Protocol::Tcp);
    let (from, (to, port)) = match (from.parse::<Place>(), with_port(to)) {
        (Ok(from), Ok(to)) => (from, to),
        _ => return,
    };
    for place in [&from, &to] {
        assert_eq!(place.to_string().parse::<Place>().as_ref(), Ok(place), "a place changes when it is written");
    }
    if let Some(PortName::Number(number)) = port {
        assert_ne!(number, 0);
    }
    let snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: PODS.as_bytes().to_vec() }]);
    let mut engine = Engine::new(Cluster::new(&snapshot), Profile::Standard);
    if let Ok(verdict) = engine.answer(&from, &to, protocol, port.as_ref()) {
        assert!(verdict.may || !verdict.must);
    }
});
