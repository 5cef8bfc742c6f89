//! The first step of a new workspace, against an API server that answers by what it was given.

use std::convert::Infallible;
use std::sync::Mutex;

use kube::Client;
use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};

use super::*;
use crate::keys::{GateKey, RouteKey};
use crate::objects::tests::settings;

const WORKSPACE: &str = "/apis/cubicle.dev/v1alpha1/workspaces/w-0123456789ab";
const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// What was asked, in order, as `METHOD path`.
type Asked = Arc<Mutex<Vec<String>>>;

fn refusal(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "code": code}),
    )
}

fn workspace(finalizers: &[&str], run: bool) -> Value {
    json!({
        "apiVersion": "cubicle.dev/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "w-0123456789ab", "uid": "one", "resourceVersion": "1", "finalizers": finalizers},
        "spec": {"template": "jupyterlab", "owner": {"id": "u-ba9876543210", "name": "alice"}, "launch": 1, "run": run},
    })
}

/// An API server: the workspace answers as `answers` says, the template is there, lists are empty, what is written
/// comes back, and nothing else is there.
fn server(answers: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> (Client, Asked) {
    let asked = Asked::default();
    let (noted, answers) = (Arc::clone(&asked), Arc::new(answers));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (noted, answers) = (Arc::clone(&noted), Arc::clone(&answers));
        async move {
            let (parts, body) = request.into_parts();
            let line = format!("{} {}", parts.method, parts.uri.path());
            noted.lock().expect("unpoisoned").push(line.clone());
            let body: Value = serde_json::from_slice(&body.collect_bytes().await.expect("a body")).unwrap_or_default();
            let (code, answer) = answers(&line).unwrap_or_else(|| answer(&line, body));
            let answer = Body::from(serde_json::to_vec(&answer).expect("JSON"));
            Ok::<_, Infallible>(http::Response::builder().status(code).body(answer).expect("an answer"))
        }
    });
    (Client::new(service, "default"), asked)
}

fn answer(line: &str, body: Value) -> (u16, Value) {
    let (method, path) = line.split_once(' ').expect("two words");
    match (method, path) {
        ("GET", "/apis/cubicle.dev/v1alpha1/templates/jupyterlab") => (
            200,
            serde_json::from_str(include_str!("../../../../cubicle-local/src/default_template.json")).expect("JSON"),
        ),
        ("GET", "/api/v1/namespaces/default/services/kubernetes") => {
            (200, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes"}}))
        }
        ("GET", _) => match path.rsplit('/').next() {
            Some("pods" | "persistentvolumeclaims" | "endpointslices") => {
                (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}))
            }
            _ => refusal(404),
        },
        ("PATCH", _) if path.starts_with(WORKSPACE) => {
            let mut written = workspace(&[FINALIZER], true);
            written["status"] = body["status"].clone();
            (200, written)
        }
        _ => (200, body),
    }
}

fn context(client: Client) -> Arc<Context> {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        settings: settings(),
        gate_key: GateKey::parse(KEY).expect("a key"),
        route_key: RouteKey::parse(KEY).expect("a key"),
        failures: Mutex::default(),
        namespaces: apply::KnownNamespaces::default(),
        homes: claim::Homes::default(),
        pool: tokio::sync::Notify::new(),
    })
}

/// Reconciles what was watched: a new workspace. What came of it, and what was asked.
async fn reconciled(
    answers: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Result<Action, Error>, Vec<String>, Arc<Context>) {
    let (client, asked) = server(answers);
    begun(context(client), &asked).await
}

async fn begun(context: Arc<Context>, asked: &Asked) -> (Result<Action, Error>, Vec<String>, Arc<Context>) {
    let watched: Workspace = serde_json::from_value(workspace(&[], true)).expect("a workspace");
    // On the heap, as the controller has it: unoptimised it is too large for the stack of a test.
    let done = Box::pin(reconcile(Arc::new(watched), Arc::clone(&context))).await;
    let asked = asked.lock().expect("unpoisoned").clone();
    (done, asked, context)
}

fn writes(asked: &[String]) -> Vec<&str> {
    asked.iter().map(String::as_str).filter(|line| !line.starts_with("GET ")).collect()
}

fn hold() -> String {
    format!("PATCH {WORKSPACE}")
}

#[tokio::test]
async fn a_new_one_is_held_before_anything_is_made() {
    let (done, asked, _) = reconciled(|_| None).await;
    done.expect("begun");
    let written = writes(&asked);
    assert_eq!(written[0], hold(), "{written:?}");
    assert!(written.iter().any(|line| line.starts_with("POST ") && line.ends_with("/pods")), "{written:?}");
    assert!(!asked.contains(&format!("GET {WORKSPACE}")), "it was watched, and need not be read");
}

const NAMESPACE: &str = "cubicle-u-ba9876543210";

/// Begins a launch in a namespace that is known, where everything stands that a launch makes but for what `change` makes
/// of it. What was applied in the namespace, and whether the pod was made.
async fn begun_where_walls_stand(change: impl Fn(&mut Value)) -> (Vec<String>, bool) {
    let settings = settings();
    let watched: Workspace = serde_json::from_value(workspace(&[], true)).expect("a workspace");
    let identity = watched.identity().expect("an identity");
    let location = crate::names::Location::of(settings.tenancy, &identity);
    let template = crate::objects::tests::template();
    let request = crate::objects::tests::request(&settings, &identity, &location, &template);
    let tenant = crate::objects::tenant(&request).expect("made");
    let mut standing = json!({
        "namespaces": tenant.namespace, "resourcequotas": tenant.quota, "limitranges": tenant.limits,
        "serviceaccounts": tenant.account, "networkpolicies": [tenant.deny, tenant.doors],
    });
    change(&mut standing);
    let (client, asked) = server(move |line| {
        let path = line.strip_prefix("GET ")?;
        let kind = path.rsplit('/').take(2).find(|part| standing.get(part).is_some())?;
        let there = &standing[kind];
        Some(match there {
            Value::Null => refusal(404),
            Value::Array(items) => (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})),
            one => (200, one.clone()),
        })
    });
    let context = context(client);
    context.namespaces.add(NAMESPACE.to_owned());
    let (done, asked, _) = begun(context, &asked).await;
    done.expect("begun");
    let applied = writes(&asked).into_iter().filter(|line| line.starts_with("PATCH ") && line.contains(NAMESPACE));
    let made = asked.iter().any(|line| line.starts_with("POST ") && line.ends_with("/pods"));
    (applied.map(|line| line.rsplit('/').take(2).collect::<Vec<_>>().join(" of ")).collect(), made)
}

#[tokio::test]
async fn walls_that_stand_are_not_applied_again() {
    assert_eq!(begun_where_walls_stand(|_| {}).await, (Vec::new(), true));
    // What others have added, and applying would leave, is no reason to apply.
    let more = begun_where_walls_stand(|standing| {
        standing["namespaces"]["metadata"]["labels"]["of-the-site"] = json!("1");
        standing["networkpolicies"].as_array_mut().expect("a list").push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "of-the-site"},
            "spec": {"podSelector": {}},
        }));
    });
    assert_eq!(more.await, (Vec::new(), true));
}

#[tokio::test]
async fn a_wall_that_is_not_what_it_should_be_is_applied() {
    type Change = fn(&mut Value);
    let everything: Change = |standing| {
        standing["networkpolicies"][1]["spec"]["egress"].as_array_mut().expect("a list").push(json!({}));
    };
    let changes: [(Change, &str); 10] = [
        (
            |standing| {
                standing["namespaces"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("privileged")
            },
            NAMESPACE,
        ),
        (|standing| standing["namespaces"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"), NAMESPACE),
        (|standing| standing["resourcequotas"]["spec"]["hard"]["pods"] = json!("100"), "tenant of resourcequotas"),
        (|standing| standing["limitranges"] = Value::Null, "tenant of limitranges"),
        (|standing| standing["limitranges"]["spec"]["limits"][0]["min"] = json!({"cpu": "1"}), "tenant of limitranges"),
        (
            |standing| standing["serviceaccounts"]["automountServiceAccountToken"] = json!(true),
            "tenant of serviceaccounts",
        ),
        (
            |standing| standing["networkpolicies"] = json!([standing["networkpolicies"][1]]),
            "default-deny of networkpolicies",
        ),
        (
            |standing| {
                standing["networkpolicies"][0]["spec"]["podSelector"] = json!({"matchLabels": {"app": "nobody"}})
            },
            "default-deny of networkpolicies",
        ),
        (
            |standing| standing["networkpolicies"][0]["spec"]["policyTypes"] = json!(["Ingress"]),
            "default-deny of networkpolicies",
        ),
        (everything, "doors-"),
    ];
    for (change, wall) in changes {
        let (applied, made) = begun_where_walls_stand(change).await;
        assert!(applied.len() == 1 && applied[0].contains(wall), "{wall}: {applied:?}");
        assert!(made, "{wall}");
    }
}

#[tokio::test]
async fn one_that_has_changed_since_is_read_anew_and_decided_from_that() {
    // Its pod is read once for the first step, and beside it; what was read beside it counts for the version that was
    // watched only.
    for (refused, version, pods) in [(409, "2", 3), (404, "2", 3), (409, "1", 2)] {
        let (done, asked, _) = reconciled(move |line| match line.split_once(' ') {
            Some(("PATCH", WORKSPACE)) => Some(refusal(refused)),
            Some(("GET", WORKSPACE)) => {
                let mut now = workspace(&[FINALIZER], false);
                now["metadata"]["resourceVersion"] = json!(version);
                Some((200, now))
            }
            _ => None,
        })
        .await;
        done.expect("decided");
        let read = asked.iter().filter(|line| line.starts_with("GET ") && line.ends_with("/pods/w-0123456789ab"));
        assert_eq!(read.count(), pods, "version {version}: {asked:?}");
        let last = writes(&asked);
        // It is not to run any more: that is told, and nothing is made.
        assert_eq!(last[..2], [hold(), format!("PATCH {WORKSPACE}/status")], "{last:?}");
        assert!(!last.iter().any(|line| line.ends_with("/pods")), "{last:?}");
    }
}

#[tokio::test]
async fn one_that_is_gone_makes_nothing() {
    let (done, asked, _) = reconciled(|line| match line.split_once(' ') {
        Some((_, WORKSPACE)) => Some(refusal(404)),
        _ => None,
    })
    .await;
    assert_eq!(done.expect("nothing to do"), Action::await_change());
    assert_eq!(writes(&asked), [hold()]);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_ever_later() {
    let (done, asked, context) = reconciled(|line| (line == hold()).then(|| refusal(500))).await;
    let error = done.expect_err("not held");
    assert_eq!(writes(&asked), [hold()], "nothing is made");
    let watched: Arc<Workspace> = Arc::new(serde_json::from_value(workspace(&[], true)).expect("a workspace"));
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(after_error(Arc::clone(&watched), &error, Arc::clone(&context)));
        Box::pin(reconcile(Arc::clone(&watched), Arc::clone(&context))).await.expect_err("still not held");
    }
    let expected = [500, 1000, 2000].map(|wait| Action::requeue(Duration::from_millis(wait)));
    assert_eq!(waits, expected);
}
