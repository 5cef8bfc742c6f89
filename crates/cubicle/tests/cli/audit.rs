//! `cubicle audit` and what belongs to it: every word, every form, every exit code.
//!
//! `clean.yaml` of the audit is one workspace to which the manifests give everything that level standard
//! promises; the other inputs are that one with something taken away, or damaged.

use std::fmt::Write;
use std::fs;

use serde_json::Value;

use crate::program::{Machine, Ran, transcript};

const CLEAN: &str = include_str!("../../../cubicle-audit/tests/layouts/clean.yaml");

/// Where the API server of the clean cluster is: its manifests cannot tell.
const API: [&str; 2] = ["--api-server", "10.96.0.1:443"];

/// A workspace that sees the processes of its node.
fn one_finding() -> String {
    CLEAN.replace("  hostUsers: false\n", "  hostUsers: false\n  hostPID: true\n")
}

/// Writes a file and judges it with everything known.
fn audit(machine: &Machine, text: &str, more: &[&str]) -> Ran {
    let path = machine.file("manifests.yaml", text);
    machine.run(["audit", path.as_str()].into_iter().chain(API).chain(more.iter().copied()))
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.output).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn from_an_empty_folder_to_one_finding() {
    let machine = Machine::new();
    fs::create_dir(machine.home().join("empty")).expect("made");
    machine.file("clean.yaml", CLEAN);
    machine.file("one.yaml", one_finding());
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit"],
            &["audit", "nowhere"],
            &["audit", "empty"],
            &["audit", "clean.yaml"],
            &["audit", "clean.yaml", API[0], API[1]],
            &["audit", "one.yaml", API[0], API[1]],
            &["audit", "one.yaml", API[0], API[1], "--fix"],
            &["audit", "clean.yaml", "--live"],
        ]
    ));
}

#[test]
fn what_is_missing_altogether_is_named_in_words() {
    let machine = Machine::new();
    let hatchery = machine.file("hatchery.yaml", include_str!("../../../cubicle-audit/tests/layouts/hatchery.yaml"));
    let clean = machine.file("clean.yaml", CLEAN);
    let fixes = machine.run(["audit", &hatchery, "--fix"]);
    let compared = machine.run(["audit", "diff", &clean, &hatchery]);
    for ran in [fixes, compared] {
        assert!(ran.output.contains("an object that is missing"), "{ran}");
        assert!(!ran.output.lines().any(|line| line.ends_with(": ")), "{ran}");
    }
}

#[test]
fn a_thousand_findings_stay_readable() {
    let machine = Machine::new();
    let mut text = String::new();
    // Every fifth of the pods is wrong in another way, and every one names another image.
    for number in 0..500 {
        let (host, user) = (number % 5 == 0, if number % 5 == 1 { 0 } else { 1000 });
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: n{number}, labels: {{user: u{number}}}}}\n\
             spec:\n  hostPID: {host}\n  containers: [{{name: c, image: 'example.test/i{number}:1', securityContext: {{runAsUser: {user}}}}}]\n"
        );
    }
    let path = machine.file("many.yaml", text);
    let ran = machine.run(["audit", &path, "--tenants", "user"]);
    assert_eq!(ran.code, 1, "{}", ran.errors);
    let lines = ran.output.lines().count();
    assert!(lines < 500, "{lines} lines for a person to read");
    assert!(ran.output.contains("findings more of IM-01: --format json or html has all"), "{}", ran.output);
    let ran = machine.run(["audit", &path, "--tenants", "user", "--format", "json"]);
    let report = json(&ran);
    let findings = report["findings"].as_array().map_or(0, Vec::len);
    assert!(findings > 1000, "{findings}");
    assert_eq!(report["result"], "breached");
    // The page has one entry per cause, and says how many findings there are; the picture does not grow with them.
    let page = machine.run(["audit", &path, "--tenants", "user", "--format", "html"]);
    let causes = page.output.matches("<details").count();
    assert!(causes < findings / 10, "{causes} entries of {findings} findings");
    assert!(page.output.contains(&format!("{findings} findings, {causes} causes")), "the heading does not count them");
    assert!(page.output.matches("<circle").count() < 40);
}

#[test]
fn a_broken_document_is_told_and_the_rest_is_judged() {
    let machine = Machine::new();
    fs::create_dir(machine.home().join("set")).expect("made");
    machine.file("set/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a\nspec: [\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n");
    machine.file("set/clean.yaml", CLEAN);
    let breached = machine.file("breached.yaml", format!("{}\n---\na: [\n", one_finding()));
    insta::assert_snapshot!(transcript(&machine, &[&["audit", "set", API[0], API[1]]]));
    let ran = machine.run(["audit", "set", API[0], API[1], "--format", "json"]);
    let report = json(&ran);
    assert_eq!((&report["result"], &report["complete"], ran.code), (&"unknown".into(), &false.into(), 2));
    assert_eq!(report["summary"]["held"], 0, "nothing is held while something is not known");
    assert_eq!(report["unknown_kinds"]["example.com/v1 Widget"], 1);
    // However much it is told to overlook, the result is not clean.
    for fail_on in ["breached", "unproven", "never"] {
        assert_eq!(machine.run(["audit", "set", API[0], API[1], "--fail-on", fail_on]).code, 2, "{fail_on}");
    }
    // What is breached is breached, whatever else could not be read.
    assert_eq!(machine.run(["audit", &breached, API[0], API[1]]).code, 1);
}

#[test]
fn what_the_server_would_refuse_is_told_with_its_place() {
    let machine = Machine::new();
    let policy = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: tenant-ada}}\nspec:\n  podSelector: {{}}\n{spec}"
        )
    };
    let bad = [
        CLEAN.trim_start_matches("---\n").to_owned() + "\n",
        policy("cidr", "  egress:\n  - to: [{ipBlock: {cidr: 10.0.0.0/33}}]\n"),
        policy("except", "  egress:\n  - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.168.0.0/16]}}]\n"),
        policy("port", "  egress:\n  - ports: [{port: 70000}]\n"),
        policy("range", "  egress:\n  - ports: [{port: 90, endPort: 80}]\n"),
        policy("name", "  egress:\n  - ports: [{port: nowhere}]\n"),
        policy(
            "operator",
            "  egress:\n  - to: [{podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}]\n",
        ),
        policy(
            "values",
            "  egress:\n  - to: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]\n",
        ),
        policy("default-deny", "  policyTypes: [Egress]\n"),
    ];
    let path = machine.file("bad.yaml", bad.concat());
    let ran = machine.run(["audit", &path, API[0], API[1]]);
    insta::assert_snapshot!(ran.errors);
    assert_eq!(ran.code, 2, "{ran}");
    // Every other command of the group says the same and does not call it well either.
    for more in [
        &["audit", "connections", &path][..],
        &["audit", "reach", &path, "--from", "tenant-ada/notebook", "--to", "10.0.0.1:80"],
        &["audit", "diff", &path, &path],
    ] {
        let ran = machine.run(more.iter().copied());
        assert_eq!(ran.code, 2, "{ran}");
    }
}

#[test]
fn hostile_input_ends_soon_and_is_told() {
    let machine = Machine::new();
    let mut bomb = String::from(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n",
    );
    for level in 1..12 {
        let _ = writeln!(bomb, "  a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(", "));
    }
    machine.file("bomb.yaml", bomb);
    machine.file("binary.yaml", b"\x7fELF\x02\x01\x01\x00\x00\xff\xfe");
    machine.file("utf-8.yaml", b"apiVersion: v1\nkind: Pod\nmetadata: {name: \xff}\n");
    machine.file("deep.yaml", "[".repeat(100_000));
    machine.file("nothing.yaml", "");
    fs::create_dir(machine.home().join("links")).expect("made");
    for (from, to) in [("loop", "."), ("self.yaml", "self.yaml"), ("dangling.yaml", "nowhere.yaml")] {
        std::os::unix::fs::symlink(to, machine.home().join("links").join(from)).expect("a link");
    }
    machine.file("links/clean.yaml", CLEAN);
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit", "bomb.yaml"],
            &["audit", "binary.yaml"],
            &["audit", "utf-8.yaml"],
            &["audit", "deep.yaml"],
            &["audit", "nothing.yaml"],
            &["audit", "/dev/null"],
            &["audit", "links", API[0], API[1]],
        ]
    ));
}

#[test]
fn a_terminal_is_not_commanded_by_manifests() {
    let machine = Machine::new();
    let text = one_finding().replace("name: notebook\n", "name: \"note\\e[31mbook\\u202e\"\n");
    let ran = audit(&machine, &text, &[]);
    assert!(!ran.output.contains('\u{1b}') && !ran.output.contains('\u{202e}'), "{}", ran.output);
    for form in ["json", "sarif", "junit", "html", "policyreport"] {
        let ran = audit(&machine, &text, &["--format", form]);
        assert!(!ran.output.contains('\u{1b}'), "{form}");
    }
}

#[test]
fn every_form_says_the_same() {
    let machine = Machine::new();
    for (text, code) in [(CLEAN.to_owned(), 0), (one_finding(), 1)] {
        for form in ["text", "json", "sarif", "junit", "html", "policyreport"] {
            let ran = audit(&machine, &text, &["--format", form]);
            assert_eq!((ran.code, ran.errors.as_str()), (code, ""), "{form}");
            assert_eq!(ran.output.contains("see and signal every process of the node"), code == 1, "{form}");
        }
    }
    insta::assert_snapshot!(
        "audit_as_sarif",
        sarif_without_rules(&audit(&machine, &one_finding(), &["--format", "sarif"]))
    );
    let junit = audit(&machine, &one_finding(), &["--format", "junit"]).output;
    assert!(junit.contains("failures=\"1\" errors=\"0\""), "{junit}");
    let report = json(&audit(&machine, &one_finding(), &["--format", "policyreport"]));
    assert_eq!(report["summary"]["fail"], 1);
    // What belongs to the audit alone is refused elsewhere.
    let path = machine.file("manifests.yaml", CLEAN);
    for form in ["sarif", "junit", "html", "policyreport"] {
        assert_eq!(machine.run(["audit", "connections", &path, "--format", form]).code, 2, "{form}");
    }
}

/// The log without the catalogue, which has tests of its own.
fn sarif_without_rules(ran: &Ran) -> String {
    let mut log = json(ran);
    if let Some(driver) = log.pointer_mut("/runs/0/tool/driver").and_then(Value::as_object_mut) {
        driver.remove("rules");
        driver.remove("semanticVersion");
    }
    if let Some(result) = log.pointer_mut("/runs/0/results/0").and_then(Value::as_object_mut) {
        result.remove("ruleIndex");
    }
    serde_json::to_string_pretty(&log).expect("JSON")
}

#[test]
fn a_baseline_excuses_what_was_known_and_nothing_new() {
    let machine = Machine::new();
    let before = audit(&machine, &one_finding(), &["--format", "json"]);
    machine.file("before.json", &before.output);
    let again = audit(&machine, &one_finding(), &["--baseline", "before.json", "--format", "json"]);
    assert_eq!((again.code, json(&again)["result"].as_str()), (0, Some("clean")), "{}", again.errors);
    let worse = one_finding().replace("  hostPID: true\n", "  hostPID: true\n  hostIPC: true\n");
    let ran = audit(&machine, &worse, &["--baseline", "before.json"]);
    assert_eq!(ran.code, 1);
    assert!(ran.output.contains("1 finding is lived with (baseline or suppression)"), "{}", ran.output);
    machine.file("broken.json", "{");
    machine.file("manifests.yaml", CLEAN);
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit", "manifests.yaml", "--baseline", "nowhere.json"],
            &["audit", "manifests.yaml", "--baseline", "broken.json"],
        ]
    ));
}

#[test]
fn a_suppression_needs_a_reason_and_ends() {
    let machine = Machine::new();
    let with = |list: &str| {
        machine.file("excuses.yaml", list);
        audit(&machine, &one_finding(), &["--suppressions", "excuses.yaml"])
    };
    let good = "- {finding: CT-22, object: Pod tenant-ada/notebook, reason: a test of the node, until: 2099-01-01}\n";
    assert_eq!(with(good).code, 0);
    assert_eq!(with(&good.replace("CT-22", "container.host-namespaces")).code, 0);
    let over = with(&good.replace("2099", "2020"));
    assert_eq!(over.code, 1);
    assert!(over.errors.contains("the suppression of CT-22 ended on 2020-01-01"), "{}", over.errors);
    let unused = with("- {finding: CT-01, reason: none, until: 2099-01-01}\n");
    assert_eq!((unused.code, unused.errors.as_str()), (1, "note: the suppression of CT-01 fits no finding any more\n"));
    machine.file("manifests.yaml", one_finding());
    machine.file("no-reason.yaml", "- {finding: CT-22, reason: ' ', until: 2099-01-01}\n");
    machine.file("no-date.yaml", "- {finding: CT-22, reason: because}\n");
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit", "manifests.yaml", "--suppressions", "no-reason.yaml"],
            &["audit", "manifests.yaml", "--suppressions", "no-date.yaml"],
        ]
    ));
}

#[test]
fn fail_on_decides_about_the_exit_code_alone() {
    let machine = Machine::new();
    let code = |text: &str, fail_on: &str, api: bool| {
        let path = machine.file("manifests.yaml", text);
        let mut arguments = vec!["audit", path.as_str(), "--fail-on", fail_on];
        arguments.extend(api.then_some(API).into_iter().flatten());
        machine.run(arguments).code
    };
    assert_eq!(["breached", "unproven", "never"].map(|word| code(&one_finding(), word, true)), [1, 1, 0]);
    assert_eq!(["breached", "unproven", "never"].map(|word| code(CLEAN, word, false)), [0, 3, 0]);
    assert_eq!(code(CLEAN, "sometimes", true), 2);
}

#[test]
fn profile_and_level_change_what_is_judged() {
    let machine = Machine::new();
    // Egress to every public address: a block of addresses may hold pods, says the standard.
    let open = format!(
        "{CLEAN}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: out, namespace: tenant-ada}}\nspec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: 0.0.0.0/0}}}}]}}]}}\n---\n{}",
        CLEAN.replace("tenant-ada", "tenant-bo").replace("ada", "bo").replace("w-1", "w-2")
    );
    let verdict = |profile: &str| {
        let report = json(&audit(&machine, &open, &["--profile", profile, "--format", "json"]));
        let rulings = report["guarantees"].as_array().cloned().unwrap_or_default();
        assert_eq!(report["profile"], profile);
        let one = rulings.iter().find(|one| one["alias"] == "NW-12").map(|one| one["verdict"].clone());
        one.and_then(|verdict| verdict.as_str().map(str::to_owned)).unwrap_or_default()
    };
    assert_eq!([verdict("standard"), verdict("cilium"), verdict("none")], ["breached"; 3]);
    // No plugin, no wall: the clean cluster is clean only where something enforces its policies.
    let none = audit(&machine, CLEAN, &["--profile", "none"]);
    assert_eq!(none.code, 1, "{none}");
    assert_eq!(audit(&machine, CLEAN, &["--level", "basic"]).code, 0);
    assert_eq!(audit(&machine, CLEAN, &["--level", "strict"]).code, 0);
    let dedicated = audit(&machine, CLEAN, &["--level", "dedicated", "--format", "json"]);
    assert_eq!((dedicated.code, json(&dedicated)["level"].as_str()), (1, Some("dedicated")));
    let path = machine.file("manifests.yaml", CLEAN);
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit", &path, "--profile", "flannel"],
            &["audit", &path, "--level", "high"],
            &["audit", &path, "--preset", "slurm"],
            &["audit", &path, "--tenants", "a b"],
            &["audit", &path, "--tenants", "user=nobody"],
            &["audit", &path, "--api-server", "here"],
        ]
    ));
}

#[test]
fn a_registry_list_is_a_wall() {
    let machine = Machine::new();
    assert_eq!(audit(&machine, CLEAN, &["--registry", "registry.example"]).code, 0);
    let ran = audit(&machine, CLEAN, &["--registry", "other.example"]);
    assert_eq!(ran.code, 1);
    assert!(ran.output.contains("from a registry that is not on the list"), "{}", ran.output);
}

#[test]
fn standard_input_is_one_of_the_files() {
    let machine = Machine::new();
    let ran = machine.run_with(["audit", "-", API[0], API[1]], &[], one_finding().as_bytes());
    assert_eq!(ran.code, 1);
    assert!(ran.output.contains("Pod tenant-ada/notebook  -:"), "{}", ran.output);
}

#[test]
fn the_single_engines_answer_scripts() {
    let machine = Machine::new();
    machine.file("clean.yaml", CLEAN);
    machine.file("one.yaml", one_finding());
    machine.file(
        "roles.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: editor, namespace: tenant-ada}\nrules: [{apiGroups: [''], resources: [pods], verbs: [create]}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: editor, namespace: tenant-ada}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: editor}\nsubjects: [{kind: ServiceAccount, name: workspace, namespace: tenant-ada}]\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: admin, namespace: tenant-ada}\n",
    );
    machine.file(
        "questions.jsonl",
        "{\"id\": 1, \"from\": \"tenant-ada/notebook\", \"to\": \"8.8.8.8\", \"protocol\": \"TCP\", \"port\": 443}\n{\"id\": 2, \"from\": \"8.8.8.8\", \"to\": \"tenant-ada/notebook\", \"port\": 8888}\n\nnonsense\n{\"id\": 3, \"from\": \"tenant-ada/nobody\", \"to\": \"8.8.8.8\"}\n",
    );
    let who = "system:serviceaccount:tenant-ada:workspace";
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["audit", "reach", "clean.yaml", "--from", "tenant-ada/notebook", "--to", "169.254.169.254:80"],
            &[
                "audit",
                "reach",
                "clean.yaml",
                "--from",
                "tenant-ada/notebook",
                "--to",
                "8.8.8.8:443",
                "--profile",
                "none"
            ],
            &["audit", "reach", "clean.yaml", "--from", "tenant-ada/nobody", "--to", "8.8.8.8:443"],
            &["audit", "reach", "clean.yaml", "--from", "here", "--to", "8.8.8.8:443"],
            &["audit", "reach", "clean.yaml", "--from", "tenant-ada/notebook", "--to", "8.8.8.8:70000"],
            &["audit", "reach", "clean.yaml", "--from", "tenant-ada/notebook", "--to", "8.8.8.8", "--protocol", "ICMP"],
            &[
                "audit",
                "reach",
                "clean.yaml",
                "--from",
                "tenant-ada/notebook",
                "--to",
                "8.8.8.8",
                "--profile",
                "flannel"
            ],
            &["audit", "queries", "clean.yaml", "--queries", "questions.jsonl"],
            &["audit", "queries", "clean.yaml", "--queries", "nowhere.jsonl"],
            &["audit", "connections", "clean.yaml"],
            &["audit", "diff", "clean.yaml", "one.yaml"],
            &["audit", "diff", "one.yaml", "clean.yaml"],
            &["audit", "diff", "clean.yaml", "clean.yaml"],
            &["audit", "pss", "clean.yaml"],
            &["audit", "pss", "one.yaml", "--level", "baseline", "--version", "v1.30"],
            &["audit", "pss", "one.yaml", "--level", "privileged"],
            &["audit", "pss", "roles.yaml"],
            &["audit", "pss", "clean.yaml", "--level", "strict"],
            &["audit", "pss", "clean.yaml", "--version", "2"],
            &[
                "audit",
                "rbac",
                "can",
                "roles.yaml",
                "--as",
                who,
                "--verb",
                "create",
                "--resource",
                "pods",
                "-n",
                "tenant-ada"
            ],
            &[
                "audit",
                "rbac",
                "can",
                "roles.yaml",
                "--as",
                who,
                "--verb",
                "delete",
                "--resource",
                "pods",
                "-n",
                "tenant-ada"
            ],
            &["audit", "rbac", "can", "roles.yaml", "--verb", "delete", "--resource", "pods"],
            &["audit", "rbac", "who-can", "roles.yaml", "--verb", "create", "--resource", "pods", "-n", "tenant-ada"],
            &["audit", "rbac", "escalate", "roles.yaml", "--as", who],
            &["audit", "rbac", "escalate", "clean.yaml"],
        ]
    ));
}

#[test]
fn objects_given_twice_and_kinds_that_are_not_known_are_counted() {
    let machine = Machine::new();
    fs::create_dir(machine.home().join("set")).expect("made");
    machine.file("set/a.yaml", CLEAN);
    machine.file("set/b.yaml", CLEAN);
    let widgets: String = (0..7)
        .map(|at| format!("---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: w{at}}}\n"))
        .collect();
    machine.file("set/c.yaml", widgets);
    let ran = machine.run(["audit", "set", API[0], API[1], "--format", "json"]);
    let report = json(&ran);
    assert_eq!((ran.code, &report["result"]), (0, &"clean".into()), "{}", ran.errors);
    assert_eq!(report["unknown_kinds"]["example.com/v1 Widget"], 7);
    let twice = report["problems"].as_array().into_iter().flatten();
    assert_eq!(twice.filter(|problem| problem["what"].to_string().contains("given twice, alike")).count(), 5);
    machine.file("set/d.yaml", CLEAN.replace("pods: \"1\"", "pods: \"2\""));
    let ran = machine.run(["audit", "set", API[0], API[1]]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.errors.contains("ResourceQuota tenant-ada/tenant is given twice, differently"), "{}", ran.errors);
}
