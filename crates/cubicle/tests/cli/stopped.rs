//! The engine does not run: exit code 5 and the way to start it, for every command that needs it.

use crate::program::{Machine, transcript};

const ID: &str = "w-0123456789ab";

#[test]
fn every_command_that_needs_the_engine_says_how_to_start_it() {
    let machine = Machine::new();
    let template = machine
        .file("good.yaml", "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: a}\nspec: {image: a}\n");
    let archive = machine.home().join("new.tar");
    let archive = archive.to_string_lossy();
    let commands: &[&[&str]] = &[
        &["template", "list"],
        &["template", "show", "jupyterlab"],
        &["template", "apply", "-f", &template],
        &["template", "delete", "jupyterlab"],
        &["user", "list"],
        &["user", "add", "alice"],
        &["user", "disable", "alice"],
        &["user", "sign-in-link", "alice"],
        &["volume", "list"],
        &["volume", "export", "alice", "--output", &archive],
        &["volume", "delete", "alice"],
        &["image", "list"],
        &["image", "import", "."],
        &["image", "export", "jupyterlab", "--output", &archive],
        &["launch", "jupyterlab"],
        &["list"],
        &["show", ID],
        &["stop", ID],
        &["start", ID],
        &["delete", ID],
        &["logs", ID],
        &["exec", ID, "--", "true"],
        &["verify", ID],
        &["report", ID],
        &["report", ID, "--sign"],
    ];
    for command in commands {
        let ran = machine.run(command.iter().copied());
        assert_eq!((ran.code, ran.output.as_str()), (5, ""), "{command:?}");
        assert!(ran.errors.contains("\nhint: start it with `./up`\n"), "{command:?}: {}", ran.errors);
    }
    assert!(!machine.home().join("new.tar").exists(), "nothing half-made is left");
    insta::assert_snapshot!(transcript(&machine, &[&["list"], &["user", "list"]]));
}

#[test]
fn the_machine_is_examined_without_the_engine_too() {
    let ran = Machine::new().run(["doctor", "--format", "json"]);
    let findings: Vec<cubicle_core::engine::DoctorFinding> = serde_json::from_str(&ran.output).expect("findings");
    assert!(findings.iter().any(|finding| finding.mechanism == "user-namespaces"), "{findings:?}");
    // An empty home has no image, which workspaces need.
    assert_eq!(ran.code, 1, "{}", ran.errors);
}
