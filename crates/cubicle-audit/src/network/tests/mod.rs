//! The engine against its definition, and the corners of the standards one by one.

mod corners;
mod naive;
mod naive_services;
mod properties;
mod random;
mod services;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::port::Protocol;
use super::{End, Engine, Profile};
use crate::snapshot::Snapshot;

/// A cluster of these objects, of which the API server refuses none.
fn cluster(objects: &[Value]) -> Cluster {
    let snapshot = Snapshot::from_json("test", objects);
    assert_eq!(snapshot.problems, []);
    Cluster::new(&snapshot)
}

fn pod(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"containers": []}})
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// May and must of one port, ends as people write them.
fn verdict(engine: &mut Engine, from: &str, to: &str, protocol: Protocol, port: u16) -> (bool, bool) {
    let end = |engine: &Engine, text: &str| -> End {
        let place = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        engine.find(&place).unwrap_or_else(|error| panic!("{text}: {error}"))[0]
    };
    let (from, to) = (end(engine, from), end(engine, to));
    let verdict = engine.explain(from, to, protocol, port);
    (verdict.may, verdict.must)
}

const NO: (bool, bool) = (false, false);
const OPEN: (bool, bool) = (true, false);
const YES: (bool, bool) = (true, true);

fn engine(objects: &[Value], profile: Profile) -> Engine {
    Engine::new(cluster(objects), profile)
}
