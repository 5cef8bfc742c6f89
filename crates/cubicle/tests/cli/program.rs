//! Running the program with nothing of this machine's environment.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A machine of its own: an empty `CUBICLE_HOME`.
pub(crate) struct Machine {
    home: TempDir,
}

/// What a command answered.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        for folder in ["run", "keys"] {
            fs::create_dir(home.path().join(folder)).expect("a folder");
        }
        Self { home }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file below the home and answers its path as an argument.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.home().join(name);
        fs::write(&path, content).expect("written");
        path.to_string_lossy().into_owned()
    }

    pub(crate) fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        self.run_with(arguments, &[], b"")
    }

    /// Runs it with these environment variables and this on standard input.
    pub(crate) fn run_with<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: &[(&str, &str)],
        input: &[u8],
    ) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cubicle"));
        command.args(arguments).env_clear().env("CUBICLE_HOME", self.home()).current_dir(self.home());
        command.envs(environment.iter().copied());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // Who does not read it has ended already.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let answered = child.wait_with_output().expect("the program ends");
        let home = self.home().to_string_lossy().into_owned();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8").replace(&home, "[HOME]");
        Ran {
            code: answered.status.code().expect("no signal"),
            output: text(answered.stdout),
            errors: text(answered.stderr),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit code {}\n---- output\n{}---- errors\n{}", self.code, self.output, self.errors)
    }
}

/// Commands that all answer in the same way, one snapshot for them together.
pub(crate) fn transcript(machine: &Machine, commands: &[&[&str]]) -> String {
    let mut text = String::new();
    for command in commands {
        let shown: Vec<String> = command.iter().map(|word| word.escape_debug().to_string()).collect();
        let shown = shown.join(" ").replace(&*machine.home().to_string_lossy(), "[HOME]");
        let ran = machine.run(command.iter().copied());
        text.push_str(&format!("$ cubicle {shown}\n{}{}exit code {}\n\n", ran.output, ran.errors, ran.code));
    }
    text
}
