//! What the other commands print, and that hostile text stays text.

use serde_json::{Value, json};

use crate::fixtures::{ID, workspace};
use crate::program::{Machine, transcript};
use crate::stand_in::{self, done, problem};

fn account(name: &str, admin: bool) -> Value {
    let role = if admin { "admin" } else { "user" };
    json!({ "id": "u-0123456789ab", "name": name, "admin": admin, "role": role, "disabled": !admin, "groups": [], "created_at": "2026-01-02T03:04:05Z" })
}

fn template() -> Value {
    let template = json!({
        "apiVersion": "cubicle.dev/v1alpha1", "kind": "Template", "metadata": { "name": "jupyterlab" },
        "spec": { "image": "jupyterlab", "description": "Python and JupyterLab" },
    });
    let whole: cubicle_core::template::Template = serde_json::from_value(template).expect("a template");
    serde_json::to_value(whole).expect("JSON")
}

fn machine() -> Machine {
    let machine = Machine::new();
    stand_in::engine(&machine, |call, _| match call["call"].as_str() {
        Some("workspaces") => done([workspace("running"), workspace("stopped")]),
        Some("workspace" | "start") => done(workspace("running")),
        Some("stop") => done(workspace("stopped")),
        Some("delete" | "apply_template" | "delete_template" | "delete_volume") => done(()),
        Some("templates") => done([template()]),
        Some("volumes") => done([json!({
            "owner": { "id": "u-0123456789ab", "name": "Zoë" }, "backend": "image", "limit": 2_147_483_648_u64,
            "used": 123_456_789, "created_at": "2026-01-02T03:04:05Z",
        })]),
        Some("images") => done([json!({
            "name": "jupyterlab", "digest": format!("sha256:{}", "0a".repeat(32)), "command": ["start"],
            "created_at": "2026-01-02T03:04:05Z", "size": 734_003_200, "rootfs": "/rootfs",
        })]),
        Some("doctor") => done([
            json!({ "mechanism": "seccomp", "status": "available", "detail": "tried", "required": true }),
            json!({ "mechanism": "landlock", "status": "absent", "detail": "the kernel has none", "required": false }),
        ]),
        Some("logs") => done("ready\r\n\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}end"),
        _ => problem("not_found", "there is no such thing", "list them"),
    });
    stand_in::hub(&machine, |request, body| match request {
        "GET /api/v1/users" => (200, json!([account("admin", true), account("Zoë", false)])),
        "POST /api/v1/users" => (201, account(body["name"].as_str().unwrap_or_default(), body["admin"] == true)),
        "POST /api/v1/users/Zo%C3%AB/disable" => (200, account("Zoë", false)),
        "POST /api/v1/users/Zo%C3%AB/enable" => (200, account("Zoë", true)),
        "POST /api/v1/users/admin/sign-in-link" => {
            (200, json!({ "url": "http://127.0.0.1:8000/sign-in#abc", "expires_at": "2026-01-02T03:04:05Z" }))
        }
        _ => (
            404,
            json!({ "title": "Not found", "status": 404, "detail": "there is no such user", "remedy": "list them" }),
        ),
    });
    machine
}

/// What the clock decides.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d+d  my notes", "[AGE] my notes");
    settings
}

#[test]
fn text_for_people() {
    let machine = machine();
    machine.file("good.yaml", template().to_string());
    let text = transcript(
        &machine,
        &[
            &["list"],
            &["show", ID],
            &["stop", ID],
            &["start", ID],
            &["delete", ID],
            &["delete", ID, "--volume"],
            &["template", "list"],
            &["template", "show", "jupyterlab"],
            &["template", "show", "nothing"],
            &["template", "apply", "-f", "good.yaml"],
            &["template", "delete", "jupyterlab"],
            &["user", "list"],
            &["user", "add", "bob"],
            &["user", "add", "root", "--admin"],
            &["user", "disable", "Zoë"],
            &["user", "enable", "Zoë"],
            &["user", "disable", "nobody"],
            &["user", "sign-in-link", "admin"],
            &["volume", "list"],
            &["volume", "delete", "zoË"],
            &["volume", "delete", "nobody"],
            &["image", "list"],
            &["image", "import", "nowhere"],
            &["image", "export", "nothing", "--output", "new.tar"],
            &["doctor"],
            &["report", ID],
        ],
    );
    settings().bind(|| insta::assert_snapshot!(text));
}

#[test]
fn json_for_programs() {
    let machine = machine();
    let text = transcript(
        &machine,
        &[
            &["list", "--format", "json"],
            &["--format", "json", "show", ID],
            &["stop", ID, "--format", "json"],
            &["delete", ID, "--format", "json"],
            &["template", "list", "--format", "json"],
            &["user", "list", "--format", "json"],
            &["user", "sign-in-link", "admin", "--format", "json"],
            &["volume", "list", "--format", "json"],
            &["image", "list", "--format", "json"],
            &["doctor", "--format", "json"],
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_notebook_cannot_steer_the_terminal_that_shows_its_logs() {
    let machine = machine();
    let text = machine.run(["logs", ID]);
    assert_eq!(
        (text.code, text.output.as_str()),
        (0, "ready\n\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{202e}end\n")
    );
    let json = machine.run(["logs", ID, "--format", "json"]);
    assert!(!json.output.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    let value: Value = serde_json::from_str(&json.output).expect("JSON");
    assert_eq!(value["logs"], "ready\r\n\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}end");
}

#[test]
fn an_engine_that_breaks_off_is_5() {
    let machine = Machine::new();
    stand_in::engine(&machine, |_, _| Vec::new());
    let ran = machine.run(["list"]);
    assert_eq!((ran.code, ran.output.as_str()), (5, ""));
    assert!(ran.errors.starts_with("error: the engine ended before it answered\nhint: "), "{}", ran.errors);
}

#[test]
fn every_kind_of_problem_has_its_exit_code() {
    for (kind, code) in
        [("bad_input", 2), ("conflict", 2), ("not_found", 4), ("not_allowed", 4), ("exhausted", 5), ("engine", 5)]
    {
        let machine = Machine::new();
        stand_in::engine(&machine, move |_, _| problem(kind, "it is so", "do that"));
        let ran = machine.run(["show", ID, "--format", "json"]);
        assert_eq!((ran.code, ran.output.as_str()), (code, ""), "{kind}");
        assert_eq!(ran.errors, "error: it is so\nhint: do that\n");
    }
}
