use std::collections::BTreeSet;

use super::*;
use crate::level::Level;
use crate::plan::Limits;
use crate::quantity::{Bytes, MilliCpu};
use crate::template::{Egress, EgressMode};

fn situation(mode: EgressMode) -> Situation {
    Situation {
        engine: EngineKind::Local,
        level: Level::Standard,
        limits: Limits {
            cpu: MilliCpu(1000),
            memory: Bytes(2 << 30),
            pids: 512,
            ephemeral_storage: Bytes(256 << 20),
            home: Some(Bytes(2 << 30)),
        },
        egress: Egress { mode, allow: Vec::new() },
        home_path: "/home/user".to_owned(),
        machine_addresses: vec!["192.0.2.10".parse().expect("valid"), "2001:db8::10".parse().expect("valid")],
        platform_ports: vec![8000, 8001],
        notebook_port: 8888,
        id_base: 1_000_000,
        boot_id: "8c4f1f0e-0000-4000-8000-000000000000".to_owned(),
        cluster: None,
    }
}

#[test]
fn ids_and_aliases_are_unique_and_well_formed() {
    let mut ids = BTreeSet::new();
    let mut aliases = BTreeSet::new();
    for guarantee in all() {
        assert!(ids.insert(guarantee.id), "{} twice", guarantee.id);
        assert!(aliases.insert(guarantee.alias), "{} twice", guarantee.alias);
        assert!(guarantee.id.split('.').count() == 2, "{}", guarantee.id);
        assert!(
            guarantee.id.bytes().all(|byte| byte.is_ascii_lowercase() || b".-0123456789".contains(&byte)),
            "{}",
            guarantee.id
        );
        assert!(guarantee.sentence.starts_with("A workspace") && guarantee.sentence.ends_with('.'), "{}", guarantee.id);
        assert!(!guarantee.references.is_empty(), "{} has no source", guarantee.id);
        assert!(!guarantee.mechanism.is_empty() && !guarantee.engines.is_empty(), "{}", guarantee.id);
    }
}

#[test]
fn whatever_is_promised_locally_is_tried_at_the_gate_with_a_control() {
    for mode in [EgressMode::Walled, EgressMode::AllowList, EgressMode::None] {
        let level = if mode == EgressMode::AllowList { Level::Strict } else { Level::Standard };
        let plan = probe_plan(&situation(mode), &[], Phase::Gate, "n");
        for id in promised(level, EngineKind::Local) {
            assert!(is_tried(id, &plan), "{id} is promised but not tried with egress {mode:?}");
            let guarantee = find(id).expect("exists");
            assert!(!guarantee.live_probe.is_empty() && !guarantee.positive_control.is_empty(), "{id}");
        }
    }
}

#[test]
fn at_least_forty_five_guarantees_are_proven_on_one_machine() {
    assert!(promised(Level::Standard, EngineKind::Local).len() >= 45);
}

#[test]
fn attempts_are_unique_and_belong_to_a_guarantee() {
    for phase in [Phase::Gate, Phase::Later] {
        let plan = probe_plan(&situation(EgressMode::Walled), &[], phase, "n");
        let mut ids = BTreeSet::new();
        for attempt in &plan.attempts {
            assert!(ids.insert(&attempt.id), "{} twice", attempt.id);
            assert!(all().iter().any(|guarantee| belongs_to(&attempt.id, guarantee.id)), "{}", attempt.id);
        }
    }
}

#[test]
fn later_proofs_do_not_dial_what_the_tenant_could_listen_on() {
    let plan = probe_plan(&situation(EgressMode::Walled), &[], Phase::Later, "n");
    for attempt in &plan.attempts {
        if let crate::attempt::Action::TcpConnect { address, .. } = attempt.action {
            assert!(!address.ip().is_loopback() || address.port() < 1024, "{}", attempt.id);
        }
    }
}

#[test]
fn only_chooses_by_id_and_by_alias() {
    let chosen = |name: &str| {
        let plan = probe_plan(&situation(EgressMode::Walled), &[name.to_owned()], Phase::Gate, "n");
        plan.attempts.iter().map(|attempt| attempt.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(chosen("kernel.bpf"), ["kernel.bpf/bpf"]);
    assert_eq!(chosen("ct-08"), ["kernel.bpf/bpf"]);
    assert!(chosen("kernel").is_empty());
}

/// Two nodes, with a canary on each.
fn in_a_cluster() -> Situation {
    let sockets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("valid")).collect::<Vec<_>>();
    let cluster = crate::plan::Cluster {
        api_server: sockets(&["10.96.0.1:443", "192.0.2.1:6443"]),
        own_node: vec!["192.0.2.1".parse().expect("valid")],
        other_nodes: vec!["192.0.2.2".parse().expect("valid")],
        same_node: sockets(&["10.244.1.7:8888"]),
        other_node: sockets(&["10.244.2.7:8888"]),
        services: sockets(&["10.96.7.7:8888"]),
        node_ports: sockets(&["192.0.2.1:30000"]),
        platform: sockets(&["10.244.1.8:8000"]),
        name_servers: sockets(&["10.244.1.7:53"]),
        window: sockets(&["10.244.1.7:8888"]),
        careless_proxy: Some("10.244.1.7:3128".parse().expect("valid")),
        egress: None,
    };
    Situation { engine: EngineKind::Kubernetes, cluster: Some(cluster), ..situation(EgressMode::Walled) }
}

#[test]
fn whatever_is_promised_on_kubernetes_is_tried_at_the_gate_with_a_control() {
    let plan = probe_plan(&in_a_cluster(), &[], Phase::Gate, "n");
    for level in [Level::Basic, Level::Standard, Level::Strict] {
        for id in promised(level, EngineKind::Kubernetes) {
            assert!(is_tried(id, &plan), "{id} is promised but not tried");
            assert!(!find(id).expect("exists").positive_control.is_empty(), "{id}");
        }
    }
    let mut ids = BTreeSet::new();
    assert!(plan.attempts.iter().all(|attempt| ids.insert(&attempt.id)));
}

#[test]
fn the_promises_of_each_level_on_kubernetes_are_known() {
    let table: Vec<(String, Vec<&str>)> = [Level::Basic, Level::Standard, Level::Strict]
        .into_iter()
        .map(|level| (level.to_string(), promised(level, EngineKind::Kubernetes)))
        .collect();
    insta::assert_json_snapshot!(table);
}

#[test]
fn the_promises_of_each_level_are_known() {
    let table: Vec<(String, Vec<&str>)> = [Level::Basic, Level::Standard, Level::Strict]
        .into_iter()
        .map(|level| (level.to_string(), promised(level, EngineKind::Local)))
        .collect();
    insta::assert_json_snapshot!(table);
}
