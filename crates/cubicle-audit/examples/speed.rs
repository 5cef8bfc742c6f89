//! Measures the audit: `speed write|list|read|memory|change ...`; `bench/run audit` calls it.
//!
//! The cluster is one of workspaces: each has a pod and a policy that lets the proxy in and the
//! pod out to names and to the internet. In the layout `perns` each has a namespace, in `onens`
//! all share one.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::port::PortSet;
use cubicle_audit::network::{Engine, Match, Profile};
use cubicle_audit::snapshot::{File, Snapshot, read};
use serde_json::json;

fn namespace(layout: &str, number: usize) -> String {
    if layout == "perns" { format!("user-{number}") } else { "users".to_owned() }
}

/// The platform: proxy, hub and name server, each in the namespace `hub` or `kube-system`.
fn platform() -> String {
    let mut text = String::new();
    for (namespace, name, app) in [("hub", "proxy", "proxy"), ("hub", "hub", "hub"), ("kube-system", "dns", "dns")] {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:\n    app: {app}\nspec:\n  containers:\n  - name: main\n    image: {app}\n"
        );
    }
    text
}

fn workspace(layout: &str, number: usize) -> String {
    let namespace = namespace(layout, number);
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: jupyter-{number}\n  namespace: {namespace}\n  labels:\n    app: notebook\n    user: u{number}\nspec:\n  containers:\n  - name: notebook\n    image: notebook\n    ports:\n    - containerPort: 8888\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: jupyter-{number}\n  namespace: {namespace}\nspec:\n  podSelector:\n    matchLabels:\n      app: notebook\n      user: u{number}\n  policyTypes:\n  - Ingress\n  - Egress\n  ingress:\n  - from:\n    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: hub\n      podSelector:\n        matchLabels:\n          app: proxy\n    ports:\n    - protocol: TCP\n      port: 8888\n  egress:\n  - to:\n    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: kube-system\n      podSelector:\n        matchLabels:\n          app: dns\n    ports:\n    - protocol: UDP\n      port: 53\n    - protocol: TCP\n      port: 53\n  - to:\n    - ipBlock:\n        cidr: 0.0.0.0/0\n        except:\n        - 10.0.0.0/8\n        - 100.64.0.0/10\n        - 169.254.0.0/16\n        - 172.16.0.0/12\n        - 192.168.0.0/16\n"
    )
}

fn write(layout: &str, count: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("platform.yaml"), platform())?;
    for (file, chunk) in (0..count).collect::<Vec<_>>().chunks(100).enumerate() {
        let text: String = chunk.iter().map(|number| workspace(layout, *number)).collect();
        std::fs::write(folder.join(format!("workspaces-{file}.yaml")), text)?;
    }
    Ok(())
}

/// How many pods of a class each namespace has, sorted by namespace.
type Spread = Vec<(u32, usize)>;

/// How many pairs of pods of two classes share a namespace.
fn shared(one: &Spread, other: &Spread) -> usize {
    let mut other = other.iter().peekable();
    let mut pairs = 0;
    for (namespace, count) in one {
        while other.next_if(|(known, _)| known < namespace).is_some() {}
        pairs += other.peek().filter(|(known, _)| known == namespace).map_or(0, |(_, more)| count * more);
    }
    pairs
}

/// Ordered pairs of different pods that surely and perhaps reach each other on some port.
fn reachable_pairs(engine: &mut Engine) -> [usize; 2] {
    let mut members = BTreeMap::<u32, Vec<u32>>::new();
    for pod in engine.present_pods() {
        if let Some(class) = engine.class(pod) {
            members.entry(class).or_default().push(engine.cluster().pods[pod as usize].namespace.0);
        }
    }
    let spreads: Vec<(u32, usize, Spread)> = members
        .into_iter()
        .map(|(class, mut namespaces)| {
            namespaces.sort_unstable();
            let spread = namespaces.chunk_by(|one, other| one == other).map(|chunk| (chunk[0], chunk.len())).collect();
            (class, namespaces.len(), spread)
        })
        .collect();
    let mut pairs = [0, 0];
    for (from, from_all, from_spread) in &spreads {
        for (to, to_all, to_spread) in &spreads {
            let same = shared(from_spread, to_spread);
            let itself = if from == to { *from_all } else { 0 };
            for (count, same_namespace) in [(same - itself, true), (from_all * to_all - same, false)] {
                if count > 0 {
                    let reach = engine.reach_between(*from, *to, same_namespace, Match::No);
                    pairs[0] += if reach.must.is_empty() { 0 } else { count };
                    pairs[1] += if reach.may.is_empty() { 0 } else { count };
                }
            }
        }
    }
    pairs
}

/// The most memory this process has had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

fn read_folder(folder: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let snapshot = read::read(&[PathBuf::from(folder)]);
    let parsed = milliseconds(start);
    let cluster = Cluster::new(&snapshot);
    let facts = milliseconds(start);
    let mut engine = Engine::new(cluster, Profile::Standard);
    let [must, may] = reachable_pairs(&mut engine);
    let total = milliseconds(start);
    println!(
        "{}",
        json!({"total_ms": total, "parsed_ms": parsed, "facts_ms": facts, "peak_kib": peak(), "objects": snapshot.objects.len(),
               "problems": snapshot.problems.len(), "classes": engine.classes(), "must_pairs": must, "may_pairs": may})
    );
    Ok(())
}

/// A cluster in memory, made of the same manifests.
fn cluster(layout: &str, count: usize) -> Cluster {
    let mut text = platform();
    for number in 0..count {
        text.push_str(&workspace(layout, number));
    }
    Cluster::new(&Snapshot::from_files(vec![File { name: "memory.yaml".to_owned(), bytes: text.into_bytes() }]))
}

fn memory(layout: &str, count: usize) {
    let cluster = cluster(layout, count);
    let start = Instant::now();
    let mut engine = Engine::new(cluster, Profile::Standard);
    let [must, may] = reachable_pairs(&mut engine);
    println!(
        "{}",
        json!({"total_ms": milliseconds(start), "classes": engine.classes(), "must_pairs": must, "may_pairs": may})
    );
}

/// One policy and one pod changed, each until the verdict on a pair of that pod.
fn change(layout: &str, count: usize) -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::new(cluster(layout, count), Profile::Standard);
    let _ = reachable_pairs(&mut engine);
    let (mut policies, mut pods) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let number = round * (count / 20).max(1) % count;
        let mut policy = engine.cluster().policies[number].clone();
        if round % 2 == 0 {
            policy.egress = None;
        }
        let pod = engine.selected_by(u32::try_from(number)?).first().copied().ok_or("the policy selects no pod")?;
        let start = Instant::now();
        engine.set_policy(policy);
        let _ = engine.reach(pod, 0);
        policies.push(milliseconds(start));
        let pod = engine.cluster().pods[pod as usize].clone();
        let start = Instant::now();
        let number = engine.set_pod(pod);
        let _ = engine.reach(number, 0);
        pods.push(milliseconds(start));
    }
    println!("{}", json!({"policy_ms": policies, "pod_ms": pods}));
    Ok(())
}

/// What surely reaches what, between pods, as netpol-analyzer writes it.
fn list(folder: &Path) {
    let mut engine = Engine::new(Cluster::new(&read::read(&[PathBuf::from(folder)])), Profile::Standard);
    let pods = engine.present_pods();
    let name = |engine: &Engine, pod: u32| {
        let facts = &engine.cluster().pods[pod as usize];
        format!("{}/{}[Pod]", engine.cluster().namespace_name(facts.namespace), facts.name)
    };
    let mut lines = Vec::new();
    for from in &pods {
        for to in pods.iter().filter(|to| *to != from) {
            let reach = engine.reach(*from, *to);
            if !reach.must.is_empty() {
                let ports =
                    if reach.must == PortSet::all() { "All Connections".to_owned() } else { reach.must.to_string() };
                lines.push(format!("{} => {} : {ports}", name(&engine, *from), name(&engine, *to)));
            }
        }
    }
    lines.sort();
    println!("{}", lines.join("\n"));
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", layout, count, folder] => write(layout, count.parse()?, Path::new(folder)),
        ["read", folder] => read_folder(Path::new(folder)),
        ["list", folder] => {
            list(Path::new(folder));
            Ok(())
        }
        ["memory", layout, count] => {
            memory(layout, count.parse()?);
            Ok(())
        }
        ["change", layout, count] => change(layout, count.parse()?),
        _ => Err("use: speed write LAYOUT N DIR | read DIR | list DIR | memory LAYOUT N | change LAYOUT N".into()),
    }
}
