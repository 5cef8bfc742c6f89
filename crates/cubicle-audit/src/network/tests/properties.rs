//! Laws on random clusters. `CUBICLE_RANDOM_CLUSTERS` says on how many.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};

use super::naive::{self, Connection};
use super::{naive_services, random};
use crate::network::cluster::Cluster;
use crate::network::port::Protocol;
use crate::network::{Door, End, Engine, Profile};
use crate::snapshot::{File, Snapshot};

fn config() -> Config {
    let cases = std::env::var("CUBICLE_RANDOM_CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

const PORTS: [(Protocol, u16); 5] =
    [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Sctp, 9)];

fn read(objects: &[Value]) -> Cluster {
    Cluster::new(&Snapshot::from_json("random", objects))
}

/// All ends of a cluster that are worth asking about, without addresses that pods have.
fn ends(cluster: &Cluster) -> Vec<End> {
    let addresses = ["8.8.8.8", "10.0.0.77", "192.168.0.1", "192.168.0.2", "192.168.0.3", "2001:db8::1"];
    let outside = addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(End::Address);
    (0..).zip(&cluster.pods).map(|(number, _)| End::Pod(number)).chain(outside).collect()
}

fn connections(cluster: &Cluster) -> Vec<Connection> {
    let ends = ends(cluster);
    let pairs = ends.iter().flat_map(|from| ends.iter().map(move |to| (*from, *to)));
    let with_a_pod = pairs.filter(|(from, to)| matches!(from, End::Pod(_)) || matches!(to, End::Pod(_)));
    with_a_pod.flat_map(|(from, to)| PORTS.map(|(protocol, port)| Connection { from, to, protocol, port })).collect()
}

fn show(cluster: &Cluster, end: End) -> String {
    match end {
        End::Pod(number) => {
            let pod = &cluster.pods[number as usize];
            format!("{}/{}", cluster.namespace_name(pod.namespace), pod.name)
        }
        End::Address(address) => address.to_string(),
    }
}

fn verdicts(engine: &mut Engine) -> Vec<(String, bool, bool)> {
    let connections = connections(engine.cluster());
    let mut all: Vec<(String, bool, bool)> = connections
        .into_iter()
        .map(|Connection { from, to, protocol, port }| {
            let reach = engine.reach_ends(from, to);
            let name = format!("{} {} {protocol} {port}", show(engine.cluster(), from), show(engine.cluster(), to));
            (name, reach.may.contains(protocol, port), reach.must.contains(protocol, port))
        })
        .collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_engine_agrees_with_the_definition(objects in random::objects(), profile in random::profile()) {
        let cluster = read(&objects);
        let mut engine = Engine::new(cluster.clone(), profile);
        for connection in connections(&cluster) {
            let Connection { from, to, protocol, port } = connection;
            let reach = engine.reach_ends(from, to);
            let (may, must) = (reach.may.contains(protocol, port), reach.must.contains(protocol, port));
            let expected = naive::verdict(&cluster, profile, connection);
            prop_assert_eq!((may, must), expected, "{} => {} {} {} in {}", show(&cluster, from), show(&cluster, to), protocol, port, json!(objects));
            prop_assert!(may || !must);
            let verdict = engine.explain(from, to, protocol, port);
            prop_assert!((verdict.may, verdict.must) == (may, must));
            prop_assert!(verdict.may || verdict.rule.is_some() || verdict.reason.contains("IPv6"), "a denial without a rule: {}", verdict.reason);
        }
    }

    #[test]
    fn services_agree_with_the_definition(objects in random::objects(), profile in random::profile()) {
        let cluster = read(&objects);
        let mut engine = Engine::new(cluster.clone(), profile);
        for from in 0..cluster.pods.len() as u32 {
            for (number, service) in (0..).zip(&cluster.services) {
                for port in &service.ports {
                    let node = Door::Node("192.168.0.1".parse().ok());
                    let outer = service.external.first().map(|address| Door::Outside(*address));
                    let doors = [Some(Door::Inside), port.node_port.is_some().then_some(node), outer];
                    for door in doors.into_iter().flatten() {
                        let served = engine.served(End::Pod(from), number, port, door);
                        let name = format!("{} => {} {door:?} in {}", show(&cluster, End::Pod(from)), port.port, json!(objects));
                        prop_assert!(served.may || !served.must, "{}", name);
                        if door == Door::Inside || service.keeps_source {
                            let expected = naive_services::verdict(&cluster, profile, from, service, port, door);
                            prop_assert_eq!((served.may, served.must), expected, "{}", name);
                        } else {
                            // Seen as a node, more may come in and less must.
                            let mut keeping = cluster.clone();
                            keeping.services[number as usize].keeps_source = true;
                            let kept = Engine::new(keeping, profile).served(End::Pod(from), number, port, door);
                            prop_assert!((served.may || !kept.may) && (kept.must || !served.must), "{}", name);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_policy_that_isolates_takes_and_never_gives(objects in random::objects(), namespace in proptest::sample::select(&["m", "n", "o"][..]), profile in random::profile()) {
        let before = verdicts(&mut Engine::new(read(&objects), profile));
        let mut with_policy = objects;
        with_policy.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "isolate", "namespace": namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        }));
        let after = verdicts(&mut Engine::new(read(&with_policy), profile));
        // A baseline that denies is no longer asked about pods that a NetworkPolicy selects, but it
        // could not have accepted either: isolation accepts nothing.
        for (before, after) in before.iter().zip(&after) {
            prop_assert_eq!(&before.0, &after.0);
            prop_assert!(before.2 || !after.2, "{} became certain", before.0);
            prop_assert!(before.1 || !after.1, "{} became possible", before.0);
        }
    }

    #[test]
    fn the_order_of_files_never_matters(objects in random::objects(), seed in any::<u64>()) {
        let file = |at: usize, object: &Value| File { name: format!("{}.json", (at as u64).wrapping_mul(seed | 1)), bytes: object.to_string().into_bytes() };
        let files: Vec<File> = objects.iter().enumerate().map(|(at, object)| file(at, object)).collect();
        let mut shuffled = files.clone();
        shuffled.rotate_left((seed % files.len() as u64) as usize);
        shuffled.reverse();
        let renamed: Vec<File> = objects.iter().rev().enumerate().map(|(at, object)| file(at, object)).collect();
        let answers = |files: Vec<File>| verdicts(&mut Engine::new(Cluster::new(&Snapshot::from_files(files)), Profile::Standard));
        let expected = answers(files);
        prop_assert_eq!(&answers(shuffled), &expected);
        prop_assert_eq!(&answers(renamed), &expected);
    }

    #[test]
    fn following_changes_is_the_same_as_starting_over(before in random::objects(), after in random::objects(), profile in random::profile()) {
        let target = read(&after);
        let mut expected = Engine::new(target.clone(), profile);
        // Facts of both clusters have numbers of their own, so the changes are read in one cluster.
        let both: Vec<Value> = before.iter().filter(|object| object["kind"] == "Pod" || object["kind"].as_str().is_some_and(|kind| kind.ends_with("Policy")))
            .map(|object| { let mut object = object.clone(); object["metadata"]["name"] = json!(format!("old-{}", object["metadata"]["name"].as_str().unwrap_or_default())); object })
            .chain(after.iter().cloned()).collect();
        let whole = read(&both);
        let is_old = |name: &str| name.starts_with("old-");
        let mut start = whole.clone();
        start.pods.retain(|pod| is_old(&pod.name));
        start.policies.retain(|policy| is_old(&policy.name));
        let mut engine = Engine::new(start, profile);
        for policy in whole.policies.iter().filter(|policy| !is_old(&policy.name)) {
            engine.set_policy(policy.clone());
        }
        for pod in whole.pods.iter().filter(|pod| !is_old(&pod.name)) {
            engine.set_pod(pod.clone());
            engine.set_pod(pod.clone());
        }
        let numbers: Vec<u32> = engine.present_pods();
        for number in numbers {
            if is_old(&engine.cluster().pods[number as usize].name.clone()) {
                engine.remove_pod(number);
            }
        }
        for number in 0..whole.policies.len() as u32 {
            if engine.cluster().policies.get(number as usize).is_some_and(|policy| is_old(&policy.name)) {
                engine.remove_policy(number);
            }
        }
        let numbers = |engine: &Engine| -> std::collections::BTreeMap<String, u32> {
            engine.present_pods().into_iter().map(|number| (show(engine.cluster(), End::Pod(number)), number)).collect()
        };
        let (left, right) = (numbers(&engine), numbers(&expected));
        prop_assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
        for (from, one) in &left {
            for (to, other) in &left {
                prop_assert_eq!(engine.reach(*one, *other), expected.reach(right[from], right[to]), "{} => {}", from, to);
            }
            for end in ends(&target).into_iter().filter(|end| matches!(end, End::Address(_))) {
                let (a, b) = (engine.reach_ends(End::Pod(*one), end), expected.reach_ends(End::Pod(right[from]), end));
                prop_assert_eq!(a, b, "{} => {:?}", from, end);
            }
        }
    }
}
