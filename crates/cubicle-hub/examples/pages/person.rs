//! The pages that everybody sees.

use cubicle_core::problem::Problem;
use cubicle_core::workspace::{Progress, State, Step, StepEvent};
use cubicle_hub::pages::{account, confirm, home, launch, not_running, problem, sign_in, sign_in_link, signed_out};

use crate::Rendered;
use crate::isolation::report;
use crate::sample::{
    HOSTILE, RIGHT_TO_LEFT, at, busy, frame, paging, quiet, stranger, template, templates, workspace, workspace_id,
};

fn event(step: Step, state: Progress, message: &str, elapsed_ms: u64) -> StepEvent {
    StepEvent { step, state, message: message.to_owned(), elapsed_ms }
}

fn events(last: Progress, steps: usize) -> Vec<StepEvent> {
    let told = [
        (Step::Request, "jupyterlab for ada.lovelace", 4),
        (Step::Plan, "level standard: 1 CPU, 2Gi memory, walled", 9),
        (Step::Build, "12 walls built, home mounted", 412),
        (Step::Prove, "51 of 51 promised guarantees held", 1360),
        (Step::Open, "the notebook answered", 3920),
    ];
    told.into_iter()
        .take(steps)
        .enumerate()
        .map(|(position, (step, message, elapsed))| {
            event(step, if position + 1 == steps { last } else { Progress::Done }, message, elapsed)
        })
        .collect()
}

fn sign_in_pages() -> Vec<Rendered> {
    let campus = || sign_in::ProviderLink { name: "campus".to_owned(), title: "Campus login".to_owned() };
    let view = |problem| sign_in::View {
        frame: stranger(),
        name: String::new(),
        next: "/".to_owned(),
        passwords: true,
        providers: Vec::new(),
        problem,
    };
    vec![
        ("sign-in", sign_in::render(&view(None))),
        ("sign-in-provider", sign_in::render(&sign_in::View { providers: vec![campus()], ..view(None) })),
        ("signed-out", signed_out::render(&signed_out::View { frame: stranger(), provider: Some(campus()) })),
        (
            "sign-in-error",
            sign_in::render(&sign_in::View {
                name: HOSTILE.to_owned(),
                ..view(Some(Problem::bad_input(
                    "Name or password is wrong.",
                    "Try again, or ask an administrator for a sign-in link.",
                )))
            }),
        ),
        (
            "sign-in-link",
            sign_in_link::render(&sign_in_link::View {
                frame: stranger(),
                name: "\u{645}\u{634}\u{631}\u{648}\u{639}-2026".parse().expect("valid"),
                token: "secret".to_owned(),
                next: "/".to_owned(),
            }),
        ),
    ]
}

fn account_pages() -> Vec<Rendered> {
    let empty = account::View {
        frame: frame(false),
        has_password: false,
        problem: None,
        tokens: Vec::new(),
        scopes: vec!["read".to_owned(), "use".to_owned()],
        new_token: None,
    };
    let token = |name: &str| account::TokenRow {
        id: "t1".to_owned(),
        name: name.to_owned(),
        scope: "read".to_owned(),
        created_at: at("09:00:00"),
        expires_at: at("23:00:00"),
        used_at: (name == "nightly export").then(|| at("11:58:00")),
    };
    vec![
        ("account-first", account::render(&empty)),
        (
            "account",
            account::render(&account::View {
                has_password: true,
                tokens: vec![token("nightly export"), token(HOSTILE), token(RIGHT_TO_LEFT)],
                new_token: Some("cubicle_7Ck1mJ0Zz2y8w4VfQb9uXn3sTe6RaLpKdHgYiOqUxEo".to_owned()),
                problem: Some(Problem::bad_input("The two new passwords differ.", "Type the same one twice.")),
                ..empty
            }),
        ),
    ]
}

fn home_pages() -> Vec<Rendered> {
    let mut ending = busy(workspace(3, "Expression atlas", State::Running, ""), 1700, 1200, 960);
    ending.workspace.stops_at = Some(at("12:05:30"));
    let mut full = busy(workspace(4, RIGHT_TO_LEFT, State::Running, ""), 420, 2047, 30);
    full.workspace.warnings = vec!["An update of the image is waiting: stop and start to get it.".to_owned()];
    let mut failed =
        workspace(6, HOSTILE, State::Failed, "the notebook server ended with exit code 137: out of memory");
    failed.warnings = vec![HOSTILE.to_owned()];
    let rows = vec![
        busy(workspace(2, "Thesis, chapter 3", State::Running, ""), 312, 640, 120),
        ending,
        full,
        quiet(workspace(5, "Course 2026", State::Stopped, "idle for one hour")),
        quiet(failed),
        quiet(workspace(7, "Night run", State::Refused, "network.metadata-service was breached")),
        quiet(workspace(8, "jupyterlab", State::Proving, "")),
    ];
    let view = home::View {
        frame: frame(false),
        paging: paging("", 1, rows.len()),
        rows,
        templates: templates(),
        problem: None,
    };
    let mut many = view.clone();
    many.paging = paging("atlas", 7, 1000);
    many.rows = (0..50)
        .map(|number| busy(workspace(number, &format!("Atlas {number}"), State::Running, ""), 300, 700, 90))
        .collect();
    let mut told = view.clone();
    told.frame.notice = Some("Workspace “Old” was deleted.".to_owned());
    vec![
        ("home", home::render(&told)),
        ("home-many", home::render(&many)),
        (
            "home-empty",
            home::render(&home::View {
                rows: Vec::new(),
                paging: paging("", 1, 0),
                templates: Vec::new(),
                ..view.clone()
            }),
        ),
        (
            "home-problem",
            home::render(&home::View {
                rows: Vec::new(),
                paging: paging("", 1, 0),
                problem: Some(Problem::bad_input(
                    "This machine has 4 CPUs and 8 GiB of memory; jupyterlab-large asks for 4.5 CPUs and 24 GiB.",
                    "Launch a smaller template.",
                )),
                ..view
            }),
        ),
    ]
}

fn launch_pages() -> Vec<Rendered> {
    let view = |state, reason: &str, events: Vec<StepEvent>| launch::View {
        frame: frame(false),
        row: quiet(workspace(2, "Thesis, chapter 3", state, reason)),
        template: Some(template("jupyterlab", "", cubicle_core::level::Level::Standard)),
        events,
        report: None,
        log: String::new(),
        own: true,
    };
    let mut running = view(State::Running, "", events(Progress::Done, 5));
    running.row = busy(running.row.workspace.clone(), 312, 640, 120);
    running.report = Some(report(false));
    let mut failed = view(State::Failed, "the notebook did not answer within 60 seconds", events(Progress::Failed, 5));
    failed.log = format!(
        "Traceback (most recent call last):\n  File \"/opt/environment/bin/jupyter-lab\", line 8, in <module>\n{HOSTILE}\n{RIGHT_TO_LEFT}\n{}\n\u{1b}[31mModuleNotFoundError\u{1b}[0m: no module named jupyterlab",
        "a very long line without any blank ".replace(' ', "_").repeat(12)
    );
    let mut refused = view(State::Refused, "2 promised guarantees were not proven", events(Progress::Failed, 4));
    refused.report = Some(report(true));
    let mut other = view(State::Stopped, "stopped by its user", events(Progress::Done, 5));
    other.own = false;
    other.frame = frame(true);
    vec![
        ("launching", launch::render(&view(State::Pending, "", events(Progress::Running, 2)))),
        ("running", launch::render(&running)),
        ("failed", launch::render(&failed)),
        ("refused", launch::render(&refused)),
        ("stopped-of-another", launch::render(&other)),
    ]
}

fn other_pages() -> Vec<Rendered> {
    let delete = |others, home| confirm::View {
        frame: frame(false),
        action: confirm::Action::DeleteWorkspace {
            workspace: Box::new(workspace(2, HOSTILE, State::Running, "")),
            others,
            home,
        },
    };
    let error = |status, problem| problem::render(&problem::View { frame: frame(false), status, problem });
    vec![
        ("delete-last", confirm::render(&delete(0, Some(640 << 20)))),
        ("delete-other", confirm::render(&delete(2, None))),
        (
            "problem-404",
            error(404, Problem::not_found("There is no workspace w-000.", "Look at the list of your workspaces.")),
        ),
        (
            "problem-500",
            error(500, Problem::engine(HOSTILE, "Try again in a minute; if it stays, tell an administrator.")),
        ),
        (
            "not-running",
            not_running::render(&not_running::View {
                state: Some(State::Stopped),
                hub_link: format!("http://localhost:8000/workspaces/{}", workspace_id(2)),
            }),
        ),
        (
            "not-running-stranger",
            not_running::render(&not_running::View { state: None, hub_link: "http://localhost:8000/".to_owned() }),
        ),
    ]
}

/// All of them.
pub(crate) fn pages() -> Vec<Rendered> {
    [sign_in_pages(), account_pages(), home_pages(), launch_pages(), other_pages()].into_iter().flatten().collect()
}
