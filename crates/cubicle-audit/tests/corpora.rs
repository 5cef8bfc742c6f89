//! Verdicts against published ones. Runs where `CUBICLE_CORPORA` names the folder with the data;
//! the data is not part of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::port::{PortSet, Protocol};
use cubicle_audit::network::{Behind, End, Engine, FrontRoute, Match, Profile, Reach};
use cubicle_audit::snapshot::{Snapshot, read};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// The folder of the data; none, with a word about it, where it is not told.
fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("CUBICLE_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        println!("NOT CHECKED: set CUBICLE_CORPORA to the folder of the corpora");
    }
    // Tests run in the folder of their crate, people name folders from the root.
    folder.map(|folder| {
        if folder.is_absolute() { folder } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder) }
    })
}

fn lines(path: &Path) -> Result<Vec<Value>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn engine(objects: &[Value]) -> Engine {
    Engine::new(Cluster::new(&Snapshot::from_json("corpus", objects)), Profile::Standard)
}

/// Agreements, and how often the standards leave the answer open.
#[derive(Default)]
struct Tally {
    agree: usize,
    all: usize,
    asked: usize,
    open: usize,
    open_without_reason: usize,
    differences: Vec<String>,
}

impl Tally {
    fn add(&mut self, agrees: bool, difference: impl FnOnce() -> String) {
        self.all += 1;
        if agrees {
            self.agree += 1;
        } else if self.differences.len() < 20 {
            self.differences.push(difference());
        }
    }

    fn open(&mut self, is_open: bool, has_reason: bool) {
        self.asked += 1;
        self.open += usize::from(is_open);
        self.open_without_reason += usize::from(is_open && !has_reason);
    }

    fn finish(self, corpus: &str) {
        let share = 100.0 * self.open as f64 / self.asked.max(1) as f64;
        println!(
            "{corpus}: agree {}/{}; may and must differ in {} of {} questions ({share:.2} %), {} of them without an ipBlock, host network or node",
            self.agree, self.all, self.open, self.asked, self.open_without_reason
        );
        assert!(self.differences.is_empty(), "{corpus}:\n{}", self.differences.join("\n"));
        assert!(self.all > 0, "{corpus}: nothing was compared");
        assert_eq!(self.open_without_reason, 0, "{corpus}");
    }
}

/// Whether anything is there about which the standards leave a question open.
fn has_open_corners(objects: &[Value]) -> bool {
    let text = objects.iter().map(Value::to_string).collect::<String>();
    ["\"ipBlock\"", "\"hostNetwork\":true", "\"nodes\"", "\"networks\"", "\"Succeeded\""]
        .iter()
        .any(|word| text.contains(word))
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn pod_numbers(engine: &Engine) -> BTreeMap<String, u32> {
    let cluster = engine.cluster();
    (0..)
        .zip(&cluster.pods)
        .map(|(number, pod)| (format!("{}/{}", cluster.namespace_name(pod.namespace), pod.name), number))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn port_of(value: &Value, key: &str) -> u16 {
    value[key].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
}

#[test]
fn cyclonus() -> Result<(), Failure> {
    let Some(folder) = corpora() else { return Ok(()) };
    let mut tally = Tally::default();
    let mut with_itself = Tally::default();
    for case in lines(&folder.join("cyclonus/truth-tables.jsonl"))? {
        let empty = serde_json::Map::new();
        let mut objects: Vec<Value> = case["Namespaces"]
            .as_object()
            .unwrap_or(&empty)
            .iter()
            .map(|(name, labels)| namespace(name, labels))
            .collect();
        for pod in case["Pods"].as_array().into_iter().flatten() {
            let ports: Vec<Value> = pod["Ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|port| json!({"name": port["name"], "containerPort": port["port"], "protocol": port["protocol"]}))
                .collect();
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod["Name"], "namespace": pod["Namespace"], "labels": pod["Labels"]},
                "spec": {"containers": [{"name": "c", "ports": ports}]},
                "status": {"podIP": pod["IP"]},
            }));
        }
        for policy in case["Policies"].as_array().into_iter().flatten() {
            // Some of them leave out what they are.
            let mut policy = policy.clone();
            policy["apiVersion"] = json!("networking.k8s.io/v1");
            policy["kind"] = json!("NetworkPolicy");
            objects.push(policy);
        }
        let has_corners = has_open_corners(&objects);
        let mut engine = engine(&objects);
        let numbers = pod_numbers(&engine);
        for result in case["Results"].as_array().into_iter().flatten() {
            let (from, to) = (text(result, "From"), text(result, "To"));
            let (protocol, port) = (text(result, "Protocol").parse::<Protocol>()?, port_of(result, "Port"));
            let allowed = text(result, "Combined") == "allowed";
            if from == to {
                // A pod reaches itself by the standard; the tables say what policies would answer
                // if it were another pod just like it, and that can be compared.
                let class = engine.class(numbers[from]).ok_or("a pod without a class")?;
                let may = engine.reach_between(class, class, true, Match::No).may.contains(protocol, port);
                with_itself.add(may == allowed, || {
                    format!(
                        "case {} step {}: {from} => {to} {protocol} {port}: policies {may}",
                        case["Case"], case["Step"]
                    )
                });
                with_itself.open(false, true);
                assert!(engine.reach(numbers[from], numbers[to]).must.contains(protocol, port), "{from} and itself");
                continue;
            }
            let reach = engine.reach(numbers[from], numbers[to]);
            let may = reach.may.contains(protocol, port);
            tally.add(may == allowed, || {
                format!("case {} step {}: {from} => {to} {protocol} {port}: may {may}", case["Case"], case["Step"])
            });
            tally.open(may != reach.must.contains(protocol, port), has_corners);
        }
    }
    println!("cyclonus: {}/{} verdicts agree", tally.agree + with_itself.agree, tally.all + with_itself.all);
    tally.finish("cyclonus (may)");
    with_itself.finish("cyclonus, a pod and itself (what policies alone say; it is reached all the same)");
    Ok(())
}

#[test]
fn network_policy_api() -> Result<(), Failure> {
    let Some(folder) = corpora() else { return Ok(()) };
    let mut tally = Tally::default();
    for case in lines(&folder.join("network-policy-api-conformance/resolved.jsonl"))? {
        let empty = serde_json::Map::new();
        let mut objects: Vec<Value> = case["namespaces"]
            .as_object()
            .unwrap_or(&empty)
            .iter()
            .map(|(name, labels)| namespace(name, labels))
            .collect();
        for pod in case["pods"].as_array().into_iter().flatten() {
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod["name"], "namespace": pod["ns"], "labels": pod["labels"]},
                "spec": {"containers": [{"name": "c"}]}, "status": {"podIP": pod["ip"]},
            }));
        }
        for list in ["clusterNetworkPolicies", "networkPolicies"] {
            objects.extend(case[list].as_array().into_iter().flatten().cloned());
        }
        let has_corners = has_open_corners(&objects);
        let mut engine = engine(&objects);
        assert!(engine.cluster().problems.is_empty(), "{:?}", engine.cluster().problems);
        let numbers = pod_numbers(&engine);
        for expected in case["expect"].as_array().into_iter().flatten() {
            let name = |end: &Value| {
                format!("{}/{}", end[0].as_str().unwrap_or_default(), end[1].as_str().unwrap_or_default())
            };
            let (from, to) = (name(&expected["from"]), name(&expected["to"]));
            let reach = engine.reach(numbers[&from], numbers[&to]);
            let (protocol, port) = (text(expected, "protocol").parse::<Protocol>()?, port_of(expected, "port"));
            let may = reach.may.contains(protocol, port);
            tally.add(Some(may) == expected["allow"].as_bool(), || {
                format!("{}: {from} => {to} {protocol} {port}: may {may}", case["state"])
            });
            tally.open(may != reach.must.contains(protocol, port), has_corners);
        }
    }
    tally.finish("network-policy-api conformance (may)");
    Ok(())
}

#[test]
fn micro_cases() -> Result<(), Failure> {
    let Some(folder) = corpora() else { return Ok(()) };
    let mut tally = Tally::default();
    for case in lines(&folder.join("netpol-micro-cases/cases.jsonl"))? {
        let objects = case["resources"].as_array().cloned().unwrap_or_default();
        let has_corners = has_open_corners(&objects);
        let mut engine = engine(&objects);
        let numbers = pod_numbers(&engine);
        let mut differences = Vec::new();
        for expected in case["expect"].as_array().into_iter().flatten() {
            let (from, to) = (text(expected, "from"), text(expected, "to"));
            let reach = engine.reach(numbers[from], numbers[to]);
            let (protocol, port) = (text(expected, "protocol").parse::<Protocol>()?, port_of(expected, "port"));
            let (may, must) = (reach.may.contains(protocol, port), reach.must.contains(protocol, port));
            let agrees = match expected["allow"].as_bool() {
                Some(true) => may && must,
                Some(false) => !may && !must,
                None => may && !must,
            };
            if !agrees {
                differences.push(format!(
                    "{} {}: {from} => {to} {protocol} {port}: may {may}, must {must}",
                    case["id"], case["name"]
                ));
            }
            tally.open(may != must, has_corners);
        }
        tally.add(differences.is_empty(), || differences.join("\n"));
    }
    tally.finish("micro-cases");
    Ok(())
}

/// Kinds of the corpus that are out of scope.
const OUT_OF_SCOPE: [&str; 7] = [
    "ClusterUserDefinedNetwork",
    "MultiNetworkPolicy",
    "NetworkAttachmentDefinition",
    "Route",
    "UserDefinedNetwork",
    "VirtualMachine",
    "VirtualMachineInstance",
];

#[test]
fn netpol_analyzer() -> Result<(), Failure> {
    let Some(folder) = corpora() else { return Ok(()) };
    let folder = folder.join("netpol-analyzer");
    let mut tally = Tally::default();
    let mut lines_compared = 0;
    let index: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("INDEX.json"))?)?;
    for case in index.as_array().into_iter().flatten() {
        let name = text(case, "dir");
        let snapshot = read::read(&[folder.join("tests").join(name)]);
        let has_corners = has_open_corners(&snapshot.objects.iter().map(|object| object.json()).collect::<Vec<_>>());
        let cluster = Cluster::new(&snapshot);
        if snapshot.objects.iter().any(|object| OUT_OF_SCOPE.contains(&&*object.kind)) {
            assert!(!cluster.foreign.is_empty(), "{name}");
            let kinds: BTreeSet<String> =
                cluster.foreign.iter().map(|kind| format!("{} {}", kind.count, kind.kind)).collect();
            println!("netpol-analyzer: out of scope: {name} ({})", kinds.into_iter().collect::<Vec<_>>().join(", "));
            continue;
        }
        assert!(cluster.foreign.is_empty(), "{name}: {:?}", cluster.foreign);
        let expected = std::fs::read_to_string(folder.join("expected").join(text(case, "expected")))?;
        let differences = compare(Engine::new(cluster, Profile::Standard), &expected, &mut tally, has_corners)?;
        lines_compared += expected.lines().count();
        tally.add(differences.is_empty(), || format!("{name}:\n  {}", differences.join("\n  ")));
    }
    println!("netpol-analyzer: {lines_compared} lines of expected connections in scope");
    tally.finish("netpol-analyzer (must)");
    Ok(())
}

/// A line of the expected list: who reaches whom on which ports.
fn parse_line(line: &str) -> Option<(String, String, PortSet)> {
    let (ends, ports) = line.split_once(" : ")?;
    let (from, to) = ends.split_once(" => ")?;
    let end = |text: &str| text.split_once('[').map_or(text, |(name, _)| name).to_owned();
    let mut set = PortSet::none();
    if ports == "All Connections" {
        set = PortSet::all();
    } else {
        let mut protocol = Protocol::Tcp;
        for part in ports.split(',') {
            let range = match part.split_once(' ') {
                Some((name, range)) => {
                    protocol = name.parse().ok()?;
                    range
                }
                None => match part.parse() {
                    Ok(whole) => {
                        protocol = whole;
                        "1-65535"
                    }
                    Err(_) => part,
                },
            };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            set = set.union(&PortSet::range(protocol, first.parse().ok()?, last.parse().ok()?));
        }
    }
    Some((end(from), end(to), set))
}

/// Compares what is reached on every plugin with the expected list, as sets: for pods by
/// workload, for addresses by every part that no policy tells apart.
fn compare(mut engine: Engine, expected: &str, tally: &mut Tally, has_corners: bool) -> Result<Vec<String>, Failure> {
    let mut pods = BTreeMap::<(String, String), PortSet>::new();
    let mut outside = Vec::new();
    let mut from_front = BTreeMap::<String, PortSet>::new();
    for line in expected.lines().filter(|line| line.contains(" => ")) {
        let (from, to, ports) = parse_line(line).ok_or_else(|| format!("cannot read \"{line}\""))?;
        if from.starts_with('{') {
            from_front.insert(to, ports);
            continue;
        }
        match (range(&from), range(&to)) {
            (None, None) => drop(pods.insert((from, to), ports)),
            (Some(range), _) => outside.push((range, to, true, ports)),
            (_, Some(range)) => outside.push((range, from, false, ports)),
        }
    }
    let mut workloads = BTreeMap::<String, Vec<u32>>::new();
    for (number, pod) in (0..).zip(&engine.cluster().pods) {
        let owner = pod.owner.as_ref().map_or(&pod.name, |owner| &owner.name);
        workloads
            .entry(format!("{}/{owner}", engine.cluster().namespace_name(pod.namespace)))
            .or_default()
            .push(number);
    }
    let mut differences = Vec::new();
    differences.extend(compare_fronts(&mut engine, from_front));
    for (from, from_pods) in &workloads {
        for (to, to_pods) in &workloads {
            if from == to {
                continue;
            }
            let mut must = PortSet::none();
            for from in from_pods {
                for to in to_pods {
                    let reach: std::sync::Arc<Reach> = engine.reach(*from, *to);
                    must = must.union(&reach.must);
                    tally.open(reach.must != reach.may, has_corners);
                }
            }
            let expected = pods.remove(&(from.clone(), to.clone())).unwrap_or_default();
            if must != expected {
                differences.push(format!("{from} => {to}: {must}, expected {expected}"));
            }
        }
    }
    differences.extend(pods.into_keys().map(|(from, to)| format!("{from} => {to} is not known")));
    for (first, last) in engine.parts_of_world(false) {
        for (name, numbers) in &workloads {
            for ingress in [true, false] {
                let mut must = PortSet::none();
                for number in numbers {
                    let reach =
                        if ingress { engine.reach_from(first, *number) } else { engine.reach_out(*number, first) };
                    must = must.union(&reach.must);
                }
                let expected = outside
                    .iter()
                    .filter(|(range, who, to_pod, _)| {
                        who == name && *to_pod == ingress && range.0 <= first && last <= range.1
                    })
                    .fold(PortSet::none(), |set, (.., ports)| set.union(ports));
                if must != expected {
                    let arrow = if ingress { "<=" } else { "=>" };
                    differences.push(format!("{name} {arrow} {first}-{last}: {must}, expected {expected}"));
                }
            }
        }
    }
    Ok(differences)
}

/// What comes in through Ingresses. The expected lists take their controller for a pod of which
/// nothing is known, and name each workload once.
fn compare_fronts(engine: &mut Engine, mut expected: BTreeMap<String, PortSet>) -> Vec<String> {
    let mut reached = BTreeMap::<String, PortSet>::new();
    for front in 0..engine.cluster().fronts.len() as u32 {
        for FrontRoute { protocol, backend } in engine.routes_of(front, Behind::SomePod) {
            if let (End::Pod(pod), true) = (backend.end, backend.must) {
                let ports = reached.entry(engine.workload_name(pod)).or_default();
                *ports = ports.union(&PortSet::range(protocol, backend.port, backend.port));
            }
        }
    }
    let mut differences = Vec::new();
    for (name, ports) in reached {
        let known = expected.remove(&name).unwrap_or_default();
        if known != ports {
            differences.push(format!("ingress => {name}: {ports}, expected {known}"));
        }
    }
    differences.extend(expected.into_keys().map(|name| format!("ingress => {name} is missing")));
    differences
}

fn range(end: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last) = end.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
