//! Any bytes as policies: facts, classes and every pair of the first pods, on every profile.
//! What must be open may be open, and a policy that isolates never opens anything.
#![no_main]

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::{Engine, Profile};
use cubicle_audit::snapshot::{File, Snapshot};
use libfuzzer_sys::fuzz_target;

/// Pods that the input's policies may select, so that small inputs ask something.
const PODS: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x, labels: {a: b}}\nspec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}\nstatus: {podIP: 10.1.0.1}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: y, labels: {a: c}}\nspec: {containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.2}, {ip: 'fd00::2'}], hostIP: 192.168.0.1}\n";

/// Isolates every pod of a namespace.
const DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: zz-deny, namespace: x}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n";

fn engine(bytes: &[u8], more: &[&str], profile: Profile) -> Engine {
    let mut files = vec![File { name: "f".to_owned(), bytes: bytes.to_vec() }];
    for (number, text) in more.iter().enumerate() {
        files.push(File { name: format!("g{number}"), bytes: text.as_bytes().to_vec() });
    }
    Engine::new(Cluster::new(&Snapshot::from_files(files)), profile)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let profile = Profile::ALL[usize::from(*choice) % Profile::ALL.len()];
    let mut open = engine(rest, &[PODS], profile);
    let mut denied = engine(rest, &[PODS, DENY], profile);
    let pods: Vec<u32> = open.present_pods().into_iter().take(5).collect();
    let comparable = open.present_pods() == denied.present_pods();
    for from in &pods {
        for to in &pods {
            let reach = open.reach(*from, *to);
            assert!(reach.must.difference(&reach.may).is_empty(), "must without may");
            if comparable && profile == Profile::Standard {
                let isolated = denied.reach(*from, *to);
                assert!(isolated.must.difference(&reach.must).is_empty(), "isolation opened something");
            }
        }
        let out = open.reach_out(*from, std::net::Ipv4Addr::new(169, 254, 169, 254).into());
        assert!(out.must.difference(&out.may).is_empty());
    }
    if open.present_pods().len() < 20 {
        let _ = open.map().map(|map| map.to_string());
    }
});
