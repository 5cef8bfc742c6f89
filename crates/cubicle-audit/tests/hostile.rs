//! Input made to break: manifests with random damage, through the reader, the facts and the
//! engine. Nothing may panic, and whatever is not read must be told. `CUBICLE_HOSTILE_SECONDS`
//! says for how long; a short time is the default.

use std::time::{Duration, Instant};

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::{Engine, Profile};
use cubicle_audit::snapshot::{File, Snapshot};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

const SEEDS: [&str; 4] = [
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x, labels: &l {a: \"b\", c: y}}\nspec:\n  podSelector:\n    matchExpressions:\n    - {key: a, operator: In, values: [b, 0x10, ~]}\n  policyTypes: [Ingress, Egress]\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}\n    - podSelector: {matchLabels: *l}\n      namespaceSelector: {}\n    ports:\n    - {port: 80, endPort: 90, protocol: TCP}\n    - port: http\n  egress: [{}]\n",
    "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata:\n  name: c\nspec:\n  tier: Admin\n  priority: 7\n  subject:\n    pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}\n  egress:\n  - action: Deny\n    to: [{networks: [0.0.0.0/0, '::/0']}, {nodes: {}}, {domainNames: ['*.example.com']}]\n    protocols: [{tcp: {destinationPort: {range: {start: 1, end: 9}}}}, {destinationNamedPort: web}]\n",
    "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a, namespace: x, labels: {a: b}}\n  spec:\n    hostNetwork: true\n    containers:\n    - name: c\n      ports: [{name: http, containerPort: 80, hostPort: 8080}]\n  status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], hostIP: 192.168.0.1}\n- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {replicas: 3, template: {metadata: {labels: {a: b}}, spec: {containers: []}}}}\n",
    "{\"apiVersion\": \"v1\", \"kind\": \"PodList\", \"items\": [{\"metadata\": {\"name\": \"j\"}, \"spec\": {\"containers\": []}}]}\n{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"n\"}}\n",
];

/// Pieces that mean something to a parser or to the rules.
const PIECES: [&str; 40] = [
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "!x ",
    "|\n",
    ">-\n",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "#",
    "\t",
    "\r\n",
    "\u{feff}",
    "%YAML 1.2\n",
    "null",
    "~",
    "y",
    "70000",
    "-1",
    "0x7fffffffffffffff",
    "9223372036854775808",
    "1e400",
    ".nan",
    "999.1.1.1/33",
    "::/0",
    "0.0.0.0/0",
    "matchLabels",
    "operator: Like",
    "endPort: 1",
    "\u{0}",
];

#[derive(Debug, Clone)]
enum Damage {
    Insert(prop::sample::Index, &'static str),
    Remove(prop::sample::Index, usize),
    Byte(prop::sample::Index, u8),
    Repeat(prop::sample::Index, usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), prop::sample::select(&PIECES[..])).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        3 => (any::<prop::sample::Index>(), 1..40_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        2 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => (any::<prop::sample::Index>(), 1..60_usize, 1..50_usize).prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let seeds = prop::collection::vec(prop::sample::select(&SEEDS[..]), 1..4).prop_map(|seeds| seeds.join("---\n"));
    let damaged = (seeds, prop::collection::vec(damage(), 0..12)).prop_map(|(text, damages)| {
        let mut bytes = text.into_bytes();
        for damage in damages {
            if bytes.is_empty() {
                break;
            }
            match damage {
                Damage::Insert(at, piece) => {
                    let at = at.index(bytes.len());
                    bytes.splice(at..at, piece.bytes());
                }
                Damage::Remove(at, length) => {
                    let at = at.index(bytes.len());
                    bytes.drain(at..(at + length).min(bytes.len()));
                }
                Damage::Byte(at, byte) => {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                Damage::Repeat(at, length, times) => {
                    let at = at.index(bytes.len());
                    let piece = bytes[at..(at + length).min(bytes.len())].repeat(times);
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    });
    prop_oneof![9 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn nothing_panics_and_nothing_is_lost_silently() {
    let seconds = std::env::var("CUBICLE_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let mut inputs = 0;
    while Instant::now() < end {
        let result = runner.run(&input(), |bytes| {
            let snapshot = Snapshot::from_files(vec![File { name: "f".to_owned(), bytes: bytes.clone() }]);
            let has_content =
                String::from_utf8_lossy(&bytes).lines().any(|line| line.contains("apiVersion") && !line.contains('#'));
            prop_assert!(
                !has_content || !snapshot.objects.is_empty() || !snapshot.problems.is_empty(),
                "lost silently"
            );
            let cluster = Cluster::new(&snapshot);
            let mut engine = Engine::new(cluster, Profile::Standard);
            for from in engine.present_pods().into_iter().take(4) {
                for to in engine.present_pods().into_iter().take(4) {
                    let reach = engine.reach(from, to);
                    prop_assert!(reach.must.difference(&reach.may).is_empty());
                }
            }
            Ok(())
        });
        inputs += 100;
        match result {
            Ok(()) => {}
            Err(TestError::Fail(reason, bytes)) => panic!("{reason}: {:?}", String::from_utf8_lossy(&bytes)),
            Err(TestError::Abort(reason)) => panic!("{reason}"),
        }
    }
    println!("hostile input: {inputs} inputs in {seconds} s");
}
