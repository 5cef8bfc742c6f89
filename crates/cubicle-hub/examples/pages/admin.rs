//! The pages that administrators see.

use cubicle_core::engine::{DoctorFinding, DoctorStatus};
use cubicle_core::problem::Problem;
use cubicle_core::workspace::State;
use cubicle_hub::pages::{
    Announcement, Frame, admin_machine, admin_notice, admin_templates, admin_usage, admin_users, admin_workspaces,
    confirm,
};

use crate::Rendered;
use crate::sample::{HOSTILE, RIGHT_TO_LEFT, at, busy, frame, paging, quiet, templates, user_id, workspace};

fn user(number: u8, name: &str) -> admin_users::UserRow {
    admin_users::UserRow {
        id: user_id(number),
        name: name.parse().expect("valid"),
        role: if number == 1 { "admin" } else { "user" },
        by_provider: number == 2,
        disabled: number % 5 == 2,
        has_password: !number.is_multiple_of(3),
        created_at: at("08:00:00"),
        workspaces: usize::from(number % 4),
    }
}

fn users() -> Vec<Rendered> {
    let view = admin_users::View {
        frame: frame(true),
        paging: paging("", 1, 4),
        users: vec![
            user(1, "ada.lovelace"),
            user(2, "\u{645}\u{634}\u{631}\u{648}\u{639}-2026"),
            user(3, "a-name-that-is-exactly-as-long-as-the-rule-allows-64-characters-"),
            user(4, "grace"),
        ],
        new_link: None,
        problem: None,
        typed_name: String::new(),
    };
    let mut many = view.clone();
    many.paging = paging("", 20, 1000);
    many.users = (0..50).map(|number| user(number, &format!("student-{number}"))).collect();
    vec![
        (
            "admin-users-link",
            admin_users::render(&admin_users::View {
                new_link: Some(admin_users::NewLink {
                    name: "grace".parse().expect("valid"),
                    url: "http://localhost:8000/sign-in/link?token=dGhpcyBpcyBub3QgYSBzZWNyZXQgYnV0IGEgc2FtcGxl"
                        .to_owned(),
                    expires_at: at("12:30:00"),
                }),
                ..view.clone()
            }),
        ),
        (
            "admin-users-problem",
            admin_users::render(&admin_users::View {
                problem: Some(Problem::bad_input(
                    "user name \"<script>\" has < (U+003C) at position 1, which is not allowed there",
                    "use 1 to 64 letters or digits, and '.', '_', '-' or '@' after the first",
                )),
                typed_name: HOSTILE.to_owned(),
                paging: paging(HOSTILE, 1, 0),
                users: Vec::new(),
                ..view
            }),
        ),
        ("admin-users-many", admin_users::render(&many)),
    ]
}

fn workspaces() -> Vec<Rendered> {
    let name = |number: u8| match number {
        3 => HOSTILE.to_owned(),
        4 => RIGHT_TO_LEFT.to_owned(),
        _ => format!("Course exercise {number}"),
    };
    let rows = (0..50).map(|number| match number % 5 {
        0 | 1 => busy(workspace(number, &name(number), State::Running, ""), 200 + u64::from(number) * 20, 900, 400),
        2 => quiet(workspace(number, &name(number), State::Stopped, "")),
        3 => quiet(workspace(number, &name(number), State::Failed, HOSTILE)),
        _ => quiet(workspace(number, &name(number), State::Pending, "")),
    });
    let view = admin_workspaces::View { frame: frame(true), paging: paging("course", 3, 1000), rows: rows.collect() };
    vec![
        ("admin-workspaces", admin_workspaces::render(&view)),
        (
            "admin-workspaces-none",
            admin_workspaces::render(&admin_workspaces::View { rows: Vec::new(), paging: paging("", 1, 0), ..view }),
        ),
    ]
}

fn template_pages() -> Vec<Rendered> {
    let templates = templates();
    let yaml = serde_norway::to_string(&templates[1]).expect("a template is YAML");
    let view = admin_templates::View {
        frame: frame(true),
        templates: templates.clone(),
        selected: templates[1].metadata.name.to_string(),
        yaml,
        problem: None,
    };
    vec![
        ("admin-templates", admin_templates::render(&view)),
        (
            "admin-templates-problem",
            admin_templates::render(&admin_templates::View {
                templates: Vec::new(),
                selected: String::new(),
                yaml: format!("</textarea>{HOSTILE}"),
                problem: Some(Problem::bad_input("line 1: unknown field \"nmae\"", "write metadata.name")),
                ..view
            }),
        ),
    ]
}

fn machine() -> Vec<Rendered> {
    let finding = |mechanism: &str, status, detail: &str, required| DoctorFinding {
        mechanism: mechanism.to_owned(),
        status,
        detail: detail.to_owned(),
        required,
    };
    let mut findings = vec![
        finding("user-namespaces", DoctorStatus::Available, "made one and mapped 65536 ids", true),
        finding("system-call-filter", DoctorStatus::Available, "a filtered child got EPERM for mount", true),
        finding("memory-cgroup", DoctorStatus::Available, "version 1, with swap accounting", true),
        finding("block-io-cgroup", DoctorStatus::Absent, "the io controller is not there on this host", false),
        finding("landlock", DoctorStatus::Untested, "the kernel answers ENOSYS", false),
    ];
    let view = |findings: &[DoctorFinding]| {
        admin_machine::render(&admin_machine::View { frame: frame(true), findings: findings.to_vec() })
    };
    let good = view(&findings);
    findings.push(finding(
        "loop-devices",
        DoctorStatus::Absent,
        "/dev/loop-control: no such file; load the module loop",
        true,
    ));
    vec![("admin-machine", good), ("admin-machine-missing", view(&findings))]
}

fn institution_pages() -> Vec<Rendered> {
    let row = |name: &str, scale: f64| admin_usage::Row {
        name: name.to_owned(),
        amounts: [41.25, 82.5, 7.75, 330.0, 12_480.0].map(|amount| amount * scale),
        cost: Some(17.32 * scale),
    };
    let usage = |users: Vec<admin_usage::Row>| {
        admin_usage::render(&admin_usage::View {
            frame: frame(true),
            from: "2026-03-01".to_owned(),
            to: "2026-03-14".to_owned(),
            currency: "EUR".to_owned(),
            users,
        })
    };
    let closed = Frame {
        announcement: Some(Announcement { text: format!("New disks, until noon. {HOSTILE}"), maintenance: true }),
        ..frame(true)
    };
    let notice = admin_notice::View {
        frame: closed,
        text: "New disks, until noon.".to_owned(),
        maintenance: true,
        problem: Some(Problem::bad_input("the announcement has 501 characters", "use one line of up to 500")),
    };
    vec![
        ("admin-usage", usage(vec![row("grace.hopper", 3.0), row(RIGHT_TO_LEFT, 1.0), row(HOSTILE, 0.1)])),
        ("admin-usage-empty", usage(Vec::new())),
        ("admin-notice", admin_notice::render(&notice)),
    ]
}

fn confirmations() -> Vec<Rendered> {
    let page = |action| confirm::render(&confirm::View { frame: frame(true), action });
    vec![
        (
            "delete-template",
            page(confirm::Action::DeleteTemplate { name: "jupyterlab".parse().expect("valid"), workspaces: 3 }),
        ),
        (
            "disable-user",
            page(confirm::Action::DisableUser { id: user_id(4), name: "grace".parse().expect("valid"), live: 1 }),
        ),
    ]
}

/// All of them.
pub(crate) fn pages() -> Vec<Rendered> {
    [users(), workspaces(), template_pages(), machine(), institution_pages(), confirmations()]
        .into_iter()
        .flatten()
        .collect()
}
