//! What the commands print: text for people, JSON for programs.

pub(crate) mod report;
pub(crate) mod safe;
pub(crate) mod table;
pub(crate) mod workspace;

use std::io::{self, IsTerminal, Write};

use anstyle::Style;
use clap::ValueEnum;
use cubicle_core::problem::Problem;
use serde::Serialize;

/// How results are printed: text for people, JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    /// SARIF 2.1.0 (only `audit PATH...`, like all below).
    #[value(hide = true)]
    Sarif,
    /// JUnit's XML.
    #[value(hide = true)]
    Junit,
    /// A page.
    #[value(hide = true)]
    Html,
    /// A `ClusterPolicyReport`.
    #[value(hide = true)]
    Policyreport,
}

/// Prints results on standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// Text or JSON.
    pub(crate) format: Format,
    /// Whether text may be coloured.
    pub(crate) colour: bool,
    /// The width of the terminal in columns; none when standard output is not one.
    pub(crate) width: Option<usize>,
}

impl Printer {
    /// A printer for this process's standard output.
    pub(crate) fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let width = terminal
            .then(|| rustix::termios::tcgetwinsize(io::stdout()).ok())
            .flatten()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns > 0);
        Self { format, colour: terminal && colour_wanted(), width }
    }

    /// Prints a value: as JSON, or as the text that `text` makes of it.
    pub(crate) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self) -> String) -> Result<(), Problem> {
        match self.format {
            Format::Text => write(&text(self)),
            Format::Json => {
                let json = serde_json::to_string_pretty(value)
                    .map_err(|error| Problem::engine(format!("the answer is not JSON: {error}"), ""))?;
                write(&format!("{}\n", safe::json(&json)))
            }
            _ => Err(Problem::bad_input(
                "this command prints text or json",
                "use --format text or --format json; sarif, junit, html and policyreport belong to `audit PATH...`",
            )),
        }
    }

    /// Text in a style, where colour is wanted. Every line is styled by itself, so that a
    /// pager that shows some of them shows them right.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        if !self.colour || style == Style::new() || text.is_empty() {
            return text.to_owned();
        }
        text.split('\n').map(|line| format!("{style}{line}{style:#}")).collect::<Vec<_>>().join("\n")
    }
}

/// Whether the environment allows colour: see <https://no-color.org>.
pub(crate) fn colour_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error; a full
/// disk is.
pub(crate) fn write(text: &str) -> Result<(), Problem> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Problem::engine(format!("standard output could not be written: {error}"), "check where it goes"))
        }
        _ => Ok(()),
    }
}

/// Writes one line of progress or advice to standard error. Nothing depends on it, so an error
/// is nobody's concern.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", safe::line(text));
}

/// Prints a problem on standard error as `error: what` and `hint: remedy`.
pub(crate) fn problem(problem: &Problem) {
    let colour = io::stderr().is_terminal() && colour_wanted();
    let printer = Printer { format: Format::Text, colour, width: None };
    let red = Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    let cyan = Style::new().fg_color(Some(anstyle::AnsiColor::Cyan.into())).bold();
    let mut text = format!("{} {}\n", printer.paint("error:", red), safe::lines(&problem.what));
    if !problem.remedy.is_empty() {
        text.push_str(&format!("{} {}\n", printer.paint("hint:", cyan), safe::lines(&problem.remedy)));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// An amount of bytes for people: three digits and a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = if unit == "B" || value >= 99.95 { 0 } else { 1 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(2 << 30), "2.0 GiB");
        assert_eq!(size(700 << 20), "700 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
