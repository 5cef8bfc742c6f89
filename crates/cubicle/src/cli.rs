//! The command line: names, options, and what becomes of a bad one.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use cubicle_core::problem::Problem;

use crate::commands::{
    advise, audit, backup, completions, controller, delete, doctor, egress, exec, guarantees, hub, image, import,
    launch, list, logs, notice, pool, proxy, report, serve, show, start, stop, template, token, usage, user, verify,
    volume,
};
use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::output::{self, Format};

/// One notebook per person, behind walls that are checked.
///
/// Exit codes: 0 done, nothing breached; 1 a check answered no; 2 bad use or bad input; 3 could
/// not be decided; 4 not there or not allowed; 5 the engine failed.
///
/// Environment: CUBICLE_HOME holds all state (default /var/lib/cubicle). From another machine,
/// set CUBICLE_URL to the hub's address and CUBICLE_TOKEN to one of your API tokens.
#[derive(Debug, Parser)]
#[command(name = "cubicle", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Example:\n  cubicle launch jupyterlab --wait")]
pub(crate) struct Cli {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,

    #[command(subcommand)]
    command: Command,
}

// What each of them says about itself stands beside it.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Hub(hub::Arguments),
    Controller(controller::Arguments),
    Egress(egress::Arguments),
    Proxy(Box<proxy::Arguments>),
    Doctor(doctor::Arguments),
    #[command(subcommand)]
    Template(template::Command),
    #[command(subcommand)]
    User(user::Command),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Notice(notice::Command),
    Usage(usage::Arguments),
    #[command(subcommand)]
    Volume(volume::Command),
    #[command(subcommand)]
    Pool(pool::Command),
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Import(import::Command),
    Advise(advise::Arguments),
    Launch(launch::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Stop(stop::Arguments),
    Start(start::Arguments),
    Delete(delete::Arguments),
    Logs(logs::Arguments),
    Exec(exec::Arguments),
    Verify(verify::Arguments),
    Report(report::Arguments),
    Guarantees(guarantees::Arguments),
    Audit(Box<audit::Arguments>),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Completions(completions::Arguments),
}

/// The whole command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Parses and runs one command line.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let colour = if output::colour_wanted() { ColorChoice::Auto } else { ColorChoice::Never };
    let parsed = command().color(colour).try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return misuse(&error),
    };
    let result = Context::new(cli.format).and_then(|context| dispatch(&context, cli.command));
    match result {
        Ok(outcome) => outcome.into(),
        Err(problem) => {
            output::problem(&problem);
            exit::of_problem(problem.kind)
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Result<Outcome, Problem> {
    match command {
        Command::Serve(arguments) => arguments.run(context),
        Command::Hub(arguments) => arguments.run(context),
        Command::Controller(arguments) => arguments.run(context),
        Command::Egress(arguments) => arguments.run(),
        Command::Proxy(arguments) => arguments.run(context),
        Command::Doctor(arguments) => arguments.run(context),
        Command::Template(command) => command.run(context),
        Command::User(command) => command.run(context),
        Command::Token(command) => command.run(context),
        Command::Notice(command) => command.run(context),
        Command::Usage(arguments) => arguments.run(context),
        Command::Volume(command) => command.run(context),
        Command::Pool(command) => command.run(context),
        Command::Image(command) => command.run(context),
        Command::Import(command) => command.run(context),
        Command::Advise(arguments) => arguments.run(context),
        Command::Launch(arguments) => arguments.run(context),
        Command::List(arguments) => arguments.run(context),
        Command::Show(arguments) => arguments.run(context),
        Command::Stop(arguments) => arguments.run(context),
        Command::Start(arguments) => arguments.run(context),
        Command::Delete(arguments) => arguments.run(context),
        Command::Logs(arguments) => arguments.run(context),
        Command::Exec(arguments) => arguments.run(context),
        Command::Verify(arguments) => arguments.run(context),
        Command::Report(arguments) => arguments.run(context),
        Command::Guarantees(arguments) => arguments.run(context),
        Command::Backup(arguments) => arguments.run(context),
        Command::Restore(arguments) => arguments.run(context),
        Command::Audit(arguments) => arguments.run(context),
        Command::Completions(arguments) => arguments.run(context),
    }
}

/// Answers help and version as asked, and everything else in the form of every other error.
fn misuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(5),
            _ => ExitCode::SUCCESS,
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let problem = reworded(&error.render().to_string());
            output::problem(&problem);
            exit::of_problem(problem.kind)
        }
    }
}

/// Takes the sentence, the tips and the usage line out of clap's message.
fn reworded(message: &str) -> Problem {
    let mut what = String::new();
    let mut remedies = Vec::new();
    for line in message.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            remedies.push(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            remedies.push(format!("usage: {usage}"));
        } else if !line.is_empty() && !line.starts_with("For more information") {
            what.push_str(if what.is_empty() { "" } else { " " });
            what.push_str(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    if remedies.is_empty() {
        remedies.push("see `cubicle --help`".to_owned());
    }
    Problem::bad_input(what, remedies.join("\n      "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_visible_command_shows_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example:"), "{path} has no example");
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                walk(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        walk(&command(), "cubicle");
    }
}
