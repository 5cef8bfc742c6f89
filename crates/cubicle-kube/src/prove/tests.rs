use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cubicle_core::attempt::{Attempt, Observation, Outcome, Role};
use cubicle_core::door::{Hello, Signed};
use cubicle_core::level::Level;
use cubicle_core::plan::{Cluster, Limits};
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::report::Verdict;
use cubicle_core::template::{Egress, EgressMode};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::door::DoorError;

fn plan(ids: &[&str]) -> ProbePlan {
    let address = "192.0.2.1:80".parse().expect("an address");
    let action = Action::TcpConnect { address, refusal_reaches: true };
    let attempts = ids.iter().map(|id| Attempt { id: (*id).to_owned(), action: action.clone() }).collect();
    ProbePlan { nonce: "n".to_owned(), phase: Phase::Gate, dial_deadline_ms: 100, attempts }
}

fn seen(nonce: &str, all: &[(&str, bool)]) -> Observations {
    let observation = |(id, silent): &(&str, bool)| Observation {
        attempt: (*id).to_owned(),
        outcome: if *silent { Outcome::Missing } else { Outcome::Succeeded },
        detail: String::new(),
        at: Timestamp::UNIX_EPOCH,
        duration_us: 1,
        silent: *silent,
    };
    let observations = all.iter().map(observation).collect();
    Observations { nonce: nonce.to_owned(), role: Role::Control, observations, disturbed: None }
}

fn ids(plan: &ProbePlan) -> Vec<&str> {
    plan.attempts.iter().map(|attempt| attempt.id.as_str()).collect()
}

#[test]
fn nothing_is_left_out_of_the_second_look() {
    let mut rest = plan(&["a", "b", "c"]);
    let silent = take_silent(&mut rest, &seen("n", &[("a", false), ("b", true)])).expect("one");
    assert_eq!((ids(&rest), ids(&silent)), (vec!["a", "c"], vec!["b"]), "what was not observed is asked again");
    assert_eq!((silent.dial_deadline_ms, silent.nonce.as_str()), (SILENT_DEADLINE_MS, "n"));
    assert!(take_silent(&mut rest, &seen("n", &[("a", false)])).is_none());
    assert_eq!(ids(&rest), ["a", "c"]);
}

/// What somebody behind a door says to one attempt, the how-manieth plan it is in: the outcome, and whether nobody answered.
type Says = fn(&Attempt, usize) -> (Outcome, bool);

/// How long what goes well takes there, in microseconds.
const TOOK_US: u64 = 20_000;

/// A door of a test's own, and what it was asked: of the reference when that came, of the gate when it had answered.
struct Asked {
    address: SocketAddr,
    plans: Arc<Mutex<Vec<(Instant, ProbePlan)>>>,
}

impl Asked {
    fn plans(&self) -> Vec<ProbePlan> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, plan)| plan.clone()).collect()
    }

    /// When each attempt was asked for.
    fn times(&self) -> BTreeMap<String, Vec<Instant>> {
        let mut times: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for (at, plan) in self.plans.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for attempt in &plan.attempts {
                times.entry(attempt.id.clone()).or_default().push(*at);
            }
        }
        times
    }
}

async fn door(workspace: &'static str, role: Role, nonce: Option<&'static str>, says: Says) -> Asked {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let asked = Asked { address: listener.local_addr().expect("an address"), plans: Arc::default() };
    let plans = Arc::clone(&asked.plans);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, workspace, role, nonce, says, Arc::clone(&plans)));
        }
    });
    asked
}

async fn serve(
    stream: TcpStream,
    workspace: &'static str,
    role: Role,
    nonce: Option<&'static str>,
    says: Says,
    plans: Arc<Mutex<Vec<(Instant, ProbePlan)>>>,
) -> std::io::Result<()> {
    let launch = if workspace == REFERENCE { REFERENCE } else { "1" };
    let hello = Hello { challenge: "c".to_owned(), workspace: workspace.to_owned(), launch: launch.to_owned() };
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("{}\n", serde_json::to_string(&hello)?).as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let signed: Signed = serde_json::from_str(&line)?;
        line.clear();
        let Demand::Probe(plan) = serde_json::from_str(&signed.body)? else { continue };
        let came = Instant::now();
        if workspace != REFERENCE {
            // So long that what is asked beside it has come before it answers.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let at = if workspace == REFERENCE { came } else { Instant::now() };
        let number = {
            let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
            plans.push((at, plan.clone()));
            plans.len()
        };
        let observation = |attempt: &Attempt| {
            let (outcome, silent) = says(attempt, number);
            let (attempt, detail, at) = (attempt.id.clone(), String::new(), Timestamp::now());
            Observation { attempt, outcome, detail, at, duration_us: TOOK_US, silent }
        };
        let reply = Reply::Observations(Observations {
            nonce: nonce.map_or(plan.nonce, str::to_owned),
            role,
            observations: plan.attempts.iter().map(observation).collect(),
            disturbed: None,
        });
        stream.get_mut().write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await?;
    }
    Ok(())
}

fn situation() -> Situation {
    let sockets = |text: &str| vec![text.parse().expect("valid")];
    Situation {
        engine: EngineKind::Kubernetes,
        level: Level::Standard,
        limits: Limits {
            cpu: MilliCpu(1000),
            memory: Bytes(2 << 30),
            pids: 512,
            ephemeral_storage: Bytes(256 << 20),
            home: None,
        },
        egress: Egress { mode: EgressMode::Walled, allow: Vec::new() },
        home_path: "/home/user".to_owned(),
        machine_addresses: Vec::new(),
        platform_ports: Vec::new(),
        notebook_port: 8888,
        id_base: 0,
        boot_id: "8c4f1f0e-0000-4000-8000-000000000000".to_owned(),
        cluster: Some(Cluster {
            api_server: sockets("10.96.0.1:443"),
            other_node: sockets("10.244.2.7:8888"),
            window: sockets("10.244.2.7:8888"),
            ..Cluster::default()
        }),
    }
}

async fn proof(gate: &Asked, reference: &Asked, least_deadline_ms: u64) -> Result<Proven, Problem> {
    let (key, situation) = (SigningKey::from_bytes(&[7; 32]), situation());
    let before = control(reference.address, &key, &situation, Phase::Gate, "n").await?;
    let gate = Gate { address: gate.address, workspace: "w", launch: "1" };
    prove(gate, reference.address, &key, &situation, before, least_deadline_ms).await
}

fn verdict(proven: &Proven, id: &str) -> Verdict {
    proven.guarantees.iter().find(|one| one.id == id).expect("in the catalogue").verdict
}

const API_SERVER: &str = "control-plane.api-server";
const METADATA: &str = "network.metadata-ipv4";

/// An address without an owner.
fn is_silent(attempt: &Attempt) -> bool {
    attempt.id.starts_with(METADATA) && attempt.id.ends_with(":80")
}

#[tokio::test]
async fn the_tenant_tries_everything_once_and_the_reference_before_and_after() {
    let gate = door("w", Role::Tenant, None, |_, _| (Outcome::Denied, false)).await;
    let reference = door(REFERENCE, Role::Control, None, |attempt, _| {
        let silent = is_silent(attempt);
        (if silent { Outcome::Missing } else { Outcome::Succeeded }, silent)
    })
    .await;
    let proven = proof(&gate, &reference, 0).await.expect("proven");

    let whole = catalogue::probe_plan(&situation(), &[], Phase::Gate, "n");
    let (tried, controlled) = (gate.times(), reference.times());
    assert_eq!((tried.len(), controlled.len()), (whole.attempts.len(), whole.attempts.len()));
    for attempt in &whole.attempts {
        let (tried, controlled) = (&tried[&attempt.id], &controlled[&attempt.id]);
        assert_eq!((tried.len(), controlled.len()), (1, 2), "{}", attempt.id);
        assert!(controlled[0] < tried[0], "{} before", attempt.id);
        // Of an address without an owner nothing is promised but that it still has none.
        assert!(controlled[1] > tried[0] || is_silent(attempt), "{} after", attempt.id);
    }
    // Also where one of two addresses has nobody behind it, who was looked for twice.
    assert_eq!([API_SERVER, METADATA].map(|id| verdict(&proven, id)), [Verdict::Held; 2]);
    let first = reference.plans().into_iter().find(|plan| plan.attempts.iter().any(is_silent)).expect("asked");
    let again = reference.plans().into_iter().rfind(|plan| plan.attempts.iter().any(is_silent)).expect("asked again");
    assert_eq!(first.dial_deadline_ms, CONTROL_DEADLINE_MS);
    // What the reference needed a while for, the tenant gets a multiple of.
    assert!(again.dial_deadline_ms > TOOK_US / 1000 * 50, "{}", again.dial_deadline_ms);
    assert!(gate.plans().iter().any(|plan| plan.dial_deadline_ms > TOOK_US / 1000 * 50));
}

#[tokio::test]
async fn an_address_that_answers_the_second_look_is_not_held() {
    let gate = door("w", Role::Tenant, None, |_, _| (Outcome::Denied, false)).await;
    // The first plan holds loads, the second the first look.
    let reference = door(REFERENCE, Role::Control, None, |attempt, plan| {
        let silent = is_silent(attempt) && plan <= 2;
        (if silent { Outcome::Missing } else { Outcome::Succeeded }, silent)
    })
    .await;
    let proven = proof(&gate, &reference, 0).await.expect("a proof");
    assert_eq!(verdict(&proven, METADATA), Verdict::Unproven);
    assert_eq!(verdict(&proven, API_SERVER), Verdict::Held);
}

#[tokio::test]
async fn what_the_tenant_could_do_is_breached_and_what_the_reference_could_not_is_unproven() {
    let reaches: Says =
        |attempt, _| (if attempt.id.contains("10.96.0.1:443") { Outcome::Succeeded } else { Outcome::Denied }, false);
    let succeeds: Says = |_, _| (Outcome::Succeeded, false);
    let (gate, reference) =
        (door("w", Role::Tenant, None, reaches).await, door(REFERENCE, Role::Control, None, succeeds).await);
    assert_eq!(verdict(&proof(&gate, &reference, 0).await.expect("a proof"), API_SERVER), Verdict::Breached);
    let denied: Says = |_, _| (Outcome::Denied, false);
    let (gate, reference) =
        (door("w", Role::Tenant, None, denied).await, door(REFERENCE, Role::Control, None, denied).await);
    assert_eq!(verdict(&proof(&gate, &reference, 0).await.expect("a proof"), API_SERVER), Verdict::Unproven);
}

#[tokio::test]
async fn answers_for_another_proof_or_in_another_role_prove_nothing() {
    let succeeds: Says = |_, _| (Outcome::Succeeded, false);
    let denied: Says = |_, _| (Outcome::Denied, false);
    for (gate_role, gate_nonce, reference_role, reference_nonce) in [
        (Role::Tenant, Some("another"), Role::Control, None),
        (Role::Tenant, None, Role::Control, Some("another")),
        (Role::Control, None, Role::Control, None),
        (Role::Tenant, None, Role::Tenant, None),
    ] {
        let gate = door("w", gate_role, gate_nonce, denied).await;
        let reference = door(REFERENCE, reference_role, reference_nonce, succeeds).await;
        let proven = proof(&gate, &reference, 0).await.expect("a proof");
        assert!(proven.guarantees.iter().all(|one| one.verdict != Verdict::Held), "{gate_role:?} {reference_role:?}");
    }
}

#[tokio::test]
async fn more_patience_reaches_gate_and_reference() {
    let gate = door("w", Role::Tenant, None, |_, _| (Outcome::Denied, false)).await;
    let reference = door(REFERENCE, Role::Control, None, |_, _| (Outcome::Succeeded, false)).await;
    let proven = proof(&gate, &reference, 4321).await.expect("a proof");
    assert!(proven.deadline_ms >= 4321);
    // Only what runs into limits was asked before anybody knew.
    let dials = |asked: &Asked| {
        let plans = asked.plans().into_iter().filter(|plan| plan.attempts.iter().any(|one| !one.action.is_load()));
        plans.map(|plan| plan.dial_deadline_ms).collect::<Vec<_>>()
    };
    for asked in [&gate, &reference] {
        assert!(!dials(asked).is_empty());
        assert!(dials(asked).iter().all(|deadline| *deadline >= 4321), "{:?}", dials(asked));
    }
}

#[tokio::test]
async fn the_door_of_another_workspace_or_launch_is_not_asked() {
    let gate = door("w", Role::Tenant, None, |_, _| (Outcome::Denied, false)).await;
    for (workspace, launch) in [("another", "1"), ("w", "2")] {
        assert!(matches!(Door::open(gate.address, workspace, launch).await, Err(DoorError::Other(_))), "{workspace}");
    }
    assert!(Door::open(gate.address, "w", "1").await.is_ok());
}
