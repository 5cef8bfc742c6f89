//! Bad use and bad input: exit code 2 (or 4 for an id that can name nothing), the input, the
//! rule and the remedy, and nothing that steers a terminal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::program::{Machine, transcript};

#[test]
fn a_wrong_command_line_says_what_is_right() {
    let machine = Machine::new();
    insta::assert_snapshot!(transcript(
        &machine,
        &[
            &["bogus"],
            &["launch"],
            &["launch", "a", "b"],
            &["list", "--format", "yaml"],
            &["list", "--formt", "json"],
            &["template", "lst"],
            &["template", "apply"],
            &["exec", "w-0123456789ab", "id"],
            &["report"],
            &["guarantees", "--engine", "local"],
            &["guarantees", "NW-01", "--level", "basic"],
            &["completions", "tcsh"],
            &["serve", "--listen", "everywhere"],
            &["serve", "--listen", "0.0.0.0:8000"],
            &["internal-sandbox"],
            &["internal-nothing"],
        ]
    ));
}

#[test]
fn no_command_shows_the_commands() {
    let ran = Machine::new().run([]);
    assert_eq!((ran.code, ran.output.as_str()), (2, ""));
    assert!(ran.errors.contains("Commands:\n"));
}

#[test]
fn hostile_names_are_refused_by_their_rule() {
    let machine = Machine::new();
    let long = "a".repeat(300);
    let mut text = String::new();
    for name in [long.as_str(), "a/b", "..", "../../etc/passwd", "\u{1f600}", "a\u{202e}b", "a\u{1b}[2Jb", "a\nb", ""] {
        text.push_str(&transcript(
            &machine,
            &[
                &["launch", name],
                &["launch", "jupyterlab", "--user", name],
                &["user", "add", name],
                &["show", name],
                &["template", "delete", name],
                &["volume", "delete", name],
                &["guarantees", name],
            ],
        ));
    }
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
    assert!(!text.contains('\u{202e}'));
    insta::assert_snapshot!(text);
}

#[test]
fn arguments_that_are_not_text_are_refused() {
    let machine = Machine::new();
    let ran = Command::new(env!("CARGO_BIN_EXE_cubicle"))
        .env_clear()
        .env("CUBICLE_HOME", machine.home())
        .args([OsStr::new("show"), OsStr::from_bytes(b"w-\xff\xfe")])
        .output()
        .expect("runs");
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).starts_with("error: "));
}

#[test]
fn bad_documents_name_file_rule_and_remedy() {
    let machine = Machine::new();
    machine.file("text", "this is no template");
    machine.file("binary", b"\xff\xfe\x00");
    machine.file("empty", "");
    machine.file(
        "unknown-field.yaml",
        "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: a}\nspec: {image: a, colour: red}\n",
    );
    machine.file(
        "bad-name.yaml",
        "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: ../a}\nspec: {image: a}\n",
    );
    machine
        .file("bad-kind.yaml", "apiVersion: cubicle.dev/v1alpha1\nkind: Pod\nmetadata: {name: a}\nspec: {image: a}\n");
    machine.file("weak.yaml", "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: a}\nspec: {image: a, level: strict, egress: {mode: walled}}\n");
    machine.file("mount.yaml", "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: a}\nspec: {image: a, home: {mountPath: /proc}}\n");
    let apply = |name: &'static str| -> Vec<&'static str> { vec!["template", "apply", "-f", name] };
    let commands: Vec<Vec<&str>> = [
        "nowhere.yaml",
        "text",
        "binary",
        "empty",
        "unknown-field.yaml",
        "bad-name.yaml",
        "bad-kind.yaml",
        "weak.yaml",
        "mount.yaml",
        "/",
    ]
    .into_iter()
    .map(apply)
    .collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    insta::assert_snapshot!(transcript(&machine, &commands));
}

#[test]
fn a_document_without_end_is_refused() {
    let ran = Machine::new().run(["template", "apply", "-f", "/dev/zero"]);
    assert_eq!(ran.code, 2);
    assert!(ran.errors.contains("is larger than"), "{}", ran.errors);
}

#[test]
fn a_contradictory_environment_is_refused() {
    let machine = Machine::new();
    for environment in [
        [("CUBICLE_TOKEN", "t"), ("CUBICLE_URL", "")],
        [("CUBICLE_TOKEN", "t"), ("CUBICLE_URL", "http://hub.example.org")],
        [("CUBICLE_TOKEN", "t"), ("CUBICLE_URL", "hub")],
        [("CUBICLE_HOME", "relative"), ("CUBICLE_URL", "")],
    ] {
        let ran = machine.run_with(["list"], &environment, b"");
        assert_eq!((ran.code, ran.output.as_str()), (2, ""), "{environment:?}");
        assert!(ran.errors.starts_with("error: CUBICLE_") && ran.errors.contains("\nhint: "), "{}", ran.errors);
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_none() {
    let machine = Machine::new();
    let program = env!("CARGO_BIN_EXE_cubicle");
    let shell = |script: String| {
        Command::new("/bin/sh").args(["-c", &script]).env("CUBICLE_HOME", machine.home()).output().expect("runs")
    };
    let full = shell(format!("{program} guarantees > /dev/full"));
    assert_eq!(full.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&full.stderr).contains("standard output could not be written"));
    let closed = shell(format!("({program} guarantees; echo $? >&2) | true"));
    assert_eq!(String::from_utf8_lossy(&closed.stderr), "0\n");
}
