//! Holds docs/cli.md to what the program says. To write it anew after a change:
//! `UPDATE_MANUAL=1 cargo test -p cubicle manual`.

use std::path::Path;
use std::{env, fs};

use crate::cli;

const INTRODUCTION: &str = "\
# The command line

`cubicle` administers one machine. It talks to the engine over a Unix socket that only root may
use, below `CUBICLE_HOME` (default `/var/lib/cubicle`). Every command takes `--format json`; the
names of commands, options, JSON keys and the exit codes stay as they are. Results go to standard
output; errors go to standard error as `error: what` and `hint: remedy`. Colour appears only on a
terminal, and not with `NO_COLOR`. Text that users or notebooks wrote is shown with its control
characters escaped.

| exit code | meaning |
|---|---|
| 0 | done; nothing breached |
| 1 | a check answered no: a finding, a breach |
| 2 | bad use or bad input, or it contradicts the present state |
| 3 | could not be decided: something is unproven |
| 4 | not there, or not allowed |
| 5 | the engine failed, or has no room |

`cubicle exec` passes on the exit code of the command that it ran.

This page is what `--help` says; a test keeps the two together.
";

/// The manual as it should be.
fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut command = cli::command();
    command.build();
    describe(&command, &["cubicle"], &mut text);
    text
}

fn describe(command: &clap::Command, path: &[&str], text: &mut String) {
    let program = cli::command().term_width(100).color(clap::ColorChoice::Never);
    let asked = program.try_get_matches_from(path.iter().chain(&["--help"])).expect_err("help is answered as an error");
    let help = asked.to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    text.push_str(&format!("\n## `{}`\n\n```text\n{}\n```\n", path.join(" "), help.trim_end()));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        describe(inner, &[path, &[inner.get_name()]].concat(), text);
    }
}

#[test]
fn the_manual_says_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if env::var_os("UPDATE_MANUAL").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("docs/ can be made");
        fs::write(&file, manual()).expect("docs/cli.md can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == manual(), "docs/cli.md is stale: run `UPDATE_MANUAL=1 cargo test -p cubicle manual`");
}
