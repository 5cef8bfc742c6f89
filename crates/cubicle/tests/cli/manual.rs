//! Help: the manual holds every word of it, and the program says the same.

use crate::program::Machine;

#[test]
fn every_command_of_the_manual_explains_itself() {
    let machine = Machine::new();
    let manual = include_str!("../../../../docs/cli.md");
    let mut checked = 0;
    for section in manual.split("\n## `").skip(1) {
        let (path, rest) = section.split_once('`').expect("a heading");
        let (_, rest) = rest.split_once("```text\n").expect("an example");
        let (help, _) = rest.split_once("\n```").expect("its end");
        let ran = machine.run(path.split(' ').skip(1).chain(["--help"]));
        let output: Vec<&str> = ran.output.lines().map(str::trim_end).collect();
        assert_eq!(output.join("\n"), help, "{path}");
        assert_eq!((ran.code, ran.errors.as_str()), (0, ""), "{path}");
        assert!(help.contains("Example:\n"), "{path}");
        checked += 1;
    }
    assert!(checked >= 30, "only {checked} commands in the manual");
}

#[test]
fn the_version_is_one_line() {
    let ran = Machine::new().run(["--version"]);
    assert_eq!((ran.code, ran.output), (0, format!("cubicle {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn internal_commands_are_not_listed() {
    assert!(!Machine::new().run(["--help"]).output.contains("internal"));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = Machine::new().run(["completions", shell]);
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.output.contains("sign-in-link"), "{shell}");
    }
}
