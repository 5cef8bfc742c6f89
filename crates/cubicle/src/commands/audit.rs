//! `cubicle audit` and what belongs to it.

mod check;
mod connections;
mod diff;
mod fixes;
mod live;
mod pss;
mod queries;
mod rbac;
mod reach;
mod sources;

use std::path::PathBuf;

use cubicle_audit::network::cluster::Cluster;
use cubicle_audit::network::{Engine, Profile, RuleRef};
use cubicle_audit::snapshot::{Severity, Snapshot, read};
use cubicle_core::problem::Problem;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Outcome;
use crate::output::note;

/// What manifests guarantee, before anything runs
///
/// Says for each guarantee of the catalogue whether the manifests give it to every workspace,
/// and where they do not: what a tenant could do, the line, and the smallest change. Exit code
/// 0: nothing breached; 1: a finding; 2: a document is broken; 3: something is unproven.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:\n  helm template jhub jupyterhub/jupyterhub | cubicle audit -")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: check::Check,
}

// What each of them says about itself stands beside it.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Reach(reach::Arguments),
    Queries(queries::Arguments),
    Connections(connections::Arguments),
    Diff(diff::Arguments),
    Pss(pss::Arguments),
    #[command(subcommand)]
    Rbac(rbac::Command),
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self.command {
            Some(Command::Reach(arguments)) => arguments.run(context),
            Some(Command::Queries(arguments)) => arguments.run(context),
            Some(Command::Connections(arguments)) => arguments.run(context),
            Some(Command::Diff(arguments)) => arguments.run(context),
            Some(Command::Pss(arguments)) => arguments.run(context),
            Some(Command::Rbac(command)) => command.run(context),
            None => self.check.run(context),
        }
    }
}

/// What every command of this group is told.
#[derive(Debug, clap::Args)]
pub(super) struct Manifests {
    /// Files and folders with YAML or JSON; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How undefined corners are decided: standard, cilium, calico, antrea, ovn-kubernetes,
    /// aws-vpc-cni, kindnet, kube-router, none
    #[arg(long, value_name = "PROFILE", default_value = "standard")]
    profile: String,
}

/// Manifests that were read, and the engine that answers about them.
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) engine: Engine,
    errors: usize,
}

impl Manifests {
    /// Reads everything and tells on standard error what is wrong with it.
    pub(super) fn load(&self) -> Result<Loaded, Problem> {
        let profile: Profile = self.profile.parse().map_err(|_| {
            let names: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name()).collect();
            Problem::bad_input(format!("there is no profile \"{}\"", self.profile), format!("use {}", names.join(", ")))
        })?;
        let snapshot = read::read(&self.paths);
        let cluster = Cluster::new(&snapshot);
        let problems = || snapshot.problems.iter().chain(&cluster.problems);
        sources::tell_these(&snapshot, problems());
        for ((api_version, kind), count) in snapshot.unknown_kinds() {
            note(&format!("note: {count} objects of the unknown kind {kind} ({api_version})"));
        }
        for foreign in &cluster.foreign {
            let at = snapshot.object(foreign.first).map(|object| snapshot.locate(object.source)).unwrap_or_default();
            note(&format!(
                "warning: {at}: {} {} ({}) change the network in ways that are not known here; every verdict is undetermined",
                foreign.count, foreign.kind, foreign.api_version
            ));
        }
        let errors = problems().filter(|problem| problem.severity == Severity::Error).count();
        Ok(Loaded { engine: Engine::new(cluster, profile), snapshot, errors })
    }
}

impl Loaded {
    /// Whether everything was read and nothing would be refused.
    pub(super) fn is_complete(&self) -> bool {
        self.errors == 0
    }

    /// The outcome of a command that gave its answer: bad input when the answer is about less
    /// than what was given.
    pub(super) fn outcome(&self, outcome: Outcome) -> Result<Outcome, Problem> {
        if self.is_complete() {
            return Ok(outcome);
        }
        Err(Problem::bad_input(
            format!("{} errors in the manifests; what was answered is about the rest", self.errors),
            "correct them and ask again",
        ))
    }

    /// The deciding rule as programs read it.
    pub(super) fn rule(&self, rule: RuleRef) -> Value {
        let cluster = self.engine.cluster();
        let Some(policy) = cluster.policies.get(rule.policy as usize) else { return Value::Null };
        let object = self.snapshot.object(policy.object);
        let place = rule.index.and_then(|index| policy.rules(rule.direction)?.places.get(index).copied());
        let file = object.map(|object| self.snapshot.file(object.source.file));
        let line = place.map(|(line, _)| line).or(object.map(|object| object.source.line));
        json!({
            "kind": policy.kind.to_string(),
            "namespace": policy.namespace.map(|id| cluster.namespace_name(id)),
            "name": &*policy.name,
            "file": file,
            "line": line,
            "direction": rule.direction.to_string(),
            "index": rule.index,
        })
    }

    /// The deciding rule as people read it.
    pub(super) fn rule_text(&self, rule: RuleRef) -> String {
        let value = self.rule(rule);
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let namespace = value["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let which = match rule.index {
            Some(index) => format!("{} rule {index}", rule.direction),
            None => format!("isolates for {}", rule.direction),
        };
        format!("{} {namespace}{}, {which}, {}:{}", text("kind"), text("name"), text("file"), value["line"])
    }
}

/// A question that cannot be answered, as an error of the command line.
pub(super) fn unanswered(error: &cubicle_audit::network::place::NoAnswer) -> Problem {
    use cubicle_audit::network::place::NoAnswer;
    match error {
        NoAnswer::NoPod(_) => {
            Problem::not_found(error.to_string(), "list them with `cubicle audit connections PATH...`")
        }
        NoAnswer::NoPlace(_) => {
            Problem::bad_input(error.to_string(), "write NAMESPACE/POD, NAMESPACE/WORKLOAD or an address")
        }
        NoAnswer::NoPort(_) => Problem::bad_input(error.to_string(), "use a number from 1 to 65535, or a name"),
        NoAnswer::NoNamedPort(..) => Problem::bad_input(error.to_string(), "use a number"),
    }
}
