//! `cubicle audit rbac`

use cubicle_audit::rbac::{Grant, Identity, Manifests, Request, Rights, SubjectKind, escalate};
use cubicle_audit::snapshot::Snapshot;
use cubicle_audit::workload::templates;
use cubicle_core::problem::Problem;
use serde::Serialize;

use super::sources::{Place, Sources};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::table::Table;
use crate::output::{self, Printer, safe};

/// Who may do what, and what they could become by it
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  cubicle audit rbac escalate manifests/ --as system:serviceaccount:jhub:hub")]
pub(crate) enum Command {
    /// Whether somebody may do something
    ///
    /// Exit code 0: allowed; 1: denied; 3: denied as far as can be seen, but a role or a document
    /// is missing.
    #[command(after_help = "Example:\n  \
        cubicle audit rbac can manifests/ --as eve --verb list --resource secrets -n jhub")]
    Can(Can),
    /// Everybody who may do something
    #[command(after_help = "Example:\n  cubicle audit rbac who-can manifests/ --verb create --resource pods -n jhub")]
    WhoCan(WhoCan),
    /// What somebody could become, step by step
    ///
    /// Without --as, every service account of the manifests is followed. Exit code 0: nobody
    /// gains anything; 1: somebody does; 3: nobody as far as can be seen, but a role or a
    /// document is missing.
    #[command(after_help = "Example:\n  cubicle audit rbac escalate manifests/ --as system:serviceaccount:jhub:hub")]
    Escalate(Escalate),
}

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// The verb: get, list, watch, create, update, patch, delete, ...
    #[arg(long, value_name = "VERB")]
    verb: String,

    /// The resource: pods, pods/exec, deployments.apps, *
    #[arg(long, value_name = "RESOURCE[/SUB][.GROUP]", required_unless_present = "url", conflicts_with = "url")]
    resource: Option<String>,

    /// The name of one object
    #[arg(long, value_name = "NAME", requires = "resource")]
    name: Option<String>,

    /// The namespace; without it the question is about all of them
    #[arg(short, long, value_name = "NAMESPACE", requires = "resource")]
    namespace: Option<String>,

    /// A path that is no resource, for example /metrics
    #[arg(long, value_name = "PATH")]
    url: Option<String>,
}

/// Somebody.
#[derive(Debug, clap::Args)]
pub(crate) struct Who {
    /// The user; a service account is system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,

    /// A group; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Can {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WhoCan {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Escalate {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    who: Who,
}

/// The rule that decided.
#[derive(Debug, Serialize)]
struct Rule {
    binding: Object,
    role: Object,
    /// The namespace where it counts; empty is everywhere.
    scope: String,
}

#[derive(Debug, Serialize)]
struct Object {
    kind: &'static str,
    namespace: String,
    name: String,
    #[serde(flatten)]
    place: Option<Place>,
}

#[derive(Debug, Serialize)]
struct CanAnswer {
    allowed: bool,
    /// Why it is not known, if a denial is only as far as can be seen.
    unknown: Vec<String>,
    rule: Option<Rule>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Subject {
    kind: SubjectKind,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    rule: Rule,
}

#[derive(Debug, Serialize)]
struct EscalateAnswer {
    from: Vec<cubicle_audit::rbac::Escalation>,
    unknown: Vec<String>,
}

struct Read {
    snapshot: Snapshot,
    manifests: Manifests,
    unknown: Vec<String>,
}

impl Read {
    fn new(sources: &Sources) -> Result<Self, Problem> {
        let snapshot = sources.read()?;
        let manifests = Manifests::new(&snapshot, &templates(&snapshot));
        for problem in &manifests.problems {
            output::note(&format!("error: {}: {}", snapshot.locate(problem.source), problem.what));
        }
        let mut unknown = Vec::new();
        if !snapshot.is_complete() || !manifests.problems.is_empty() {
            unknown.push("a document could not be read whole".to_owned());
        }
        for binding in manifests.rights.dangling() {
            let kind = if binding.cluster_role { "ClusterRole" } else { "Role" };
            unknown.push(format!("binding {} refers to {kind} {}, which is not there", binding.name, binding.role));
        }
        Ok(Self { snapshot, manifests, unknown })
    }

    fn rule(&self, grant: &Grant<'_>) -> Rule {
        let object = |of: [&'static str; 2], namespace: &str, name: &str| {
            let kind = if namespace.is_empty() { of[0] } else { of[1] };
            let id = self.manifests.object(kind, namespace, name);
            let place = id.and_then(|id| Place::of_object(&self.snapshot, id));
            Object { kind, namespace: namespace.to_owned(), name: name.to_owned(), place }
        };
        Rule {
            binding: object(["ClusterRoleBinding", "RoleBinding"], &grant.binding.namespace, &grant.binding.name),
            role: object(["ClusterRole", "Role"], &grant.role.namespace, &grant.role.name),
            scope: grant.scope.to_owned(),
        }
    }
}

impl Asked {
    fn request(&self) -> Request {
        let Some(resource) = &self.resource else {
            let path = self.url.clone().unwrap_or_default();
            return Request::Path { verb: self.verb.clone(), path };
        };
        // `deployments.apps`, `deployments/scale.apps` and `deployments.apps/scale` all name a group.
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (group, after) = group.split_once('/').unwrap_or((group, ""));
        let kind = if after.is_empty() { kind.to_owned() } else { format!("{kind}/{after}") };
        let request = Request::resource(&self.verb, group, &kind, self.namespace.as_deref().unwrap_or_default());
        match &self.name {
            Some(name) => request.named(name),
            None => request,
        }
    }
}

impl Who {
    fn identity(&self) -> Option<Identity> {
        let groups = || self.groups.iter().map(String::as_str);
        match &self.user {
            Some(user) => Some(Identity::user(user, groups())),
            None if self.groups.is_empty() => None,
            None => Some(Identity::exactly("", groups())),
        }
    }
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::Can(arguments) => arguments.run(context),
            Self::WhoCan(arguments) => arguments.run(context),
            Self::Escalate(arguments) => arguments.run(context),
        }
    }
}

impl Can {
    fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let identity = self
            .who
            .identity()
            .ok_or_else(|| Problem::bad_input("nobody is named", "use --as USER or --group GROUP"))?;
        let read = Read::new(&self.sources)?;
        let request = self.asked.request();
        let unbounded = Rights::is_unbounded(&identity);
        let grant = read.manifests.rights.allowed(&identity, &request);
        let allowed = unbounded || grant.is_some();
        let rule = grant.as_ref().map(|grant| read.rule(grant));
        let reason = match &rule {
            _ if unbounded => "members of system:masters are asked nothing".to_owned(),
            Some(rule) => by(rule),
            None => format!("no rule for {identity} allows it"),
        };
        let unknown = if allowed { Vec::new() } else { read.unknown };
        let outcome = match (allowed, unknown.is_empty()) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::No,
            (false, false) => Outcome::Undecided,
        };
        let answer = CanAnswer { allowed, unknown, rule, reason };
        context.printer.print(&answer, |_| {
            let word = match outcome {
                Outcome::Done => "allowed",
                Outcome::Undecided => "denied as far as can be seen",
                _ => "denied",
            };
            format!("{word}: {}\n{}", safe::line(&answer.reason), unknowns(&answer.unknown))
        })?;
        Ok(outcome)
    }
}

impl WhoCan {
    fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let read = Read::new(&self.sources)?;
        let found = read.manifests.rights.who_can(&self.asked.request());
        let subjects: Vec<Subject> = found
            .into_iter()
            .map(|(subject, grant)| Subject {
                kind: subject.kind,
                namespace: subject.namespace,
                name: subject.name,
                rule: read.rule(&grant),
            })
            .collect();
        let answer = serde_json::json!({"subjects": subjects, "unknown": read.unknown});
        context.printer.print(&answer, |printer| {
            let mut table = Table::new(["KIND", "NAMESPACE", "NAME", "BY"]);
            for one in &subjects {
                let kind = match one.kind {
                    SubjectKind::ServiceAccount => "ServiceAccount",
                    SubjectKind::User => "User",
                    SubjectKind::Group => "Group",
                    SubjectKind::Other => "?",
                };
                table.row([kind.into(), one.namespace.as_str().into(), one.name.as_str().into(), by(&one.rule).into()]);
            }
            format!("{}{}", table.render(printer, "Nobody, but members of system:masters."), unknowns(&read.unknown))
        })?;
        Ok(Outcome::Done)
    }
}

impl Escalate {
    fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let read = Read::new(&self.sources)?;
        let (rights, world) = (&read.manifests.rights, &read.manifests.world);
        let from = match self.who.identity() {
            Some(identity) => vec![escalate(rights, world, &identity)],
            None => world
                .every_account()
                .map(|identity| escalate(rights, world, &identity))
                .filter(|escalation| !escalation.reached.is_empty())
                .collect(),
        };
        let gained = from.iter().any(|escalation| !escalation.reached.is_empty());
        let answer = EscalateAnswer { from, unknown: read.unknown };
        context.printer.print(&answer, |printer| ways(printer, &answer))?;
        Ok(match (gained, answer.unknown.is_empty()) {
            (true, _) => Outcome::No,
            (false, true) => Outcome::Done,
            (false, false) => Outcome::Undecided,
        })
    }
}

fn by(rule: &Rule) -> String {
    let shown = |object: &Object| {
        let place = object.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        match object.namespace.as_str() {
            "" => format!("{} {}{place}", object.kind, object.name),
            namespace => format!("{} {namespace}/{}{place}", object.kind, object.name),
        }
    };
    format!("{} with {}", shown(&rule.binding), shown(&rule.role))
}

fn unknowns(unknown: &[String]) -> String {
    unknown.iter().map(|one| format!("not known: {}\n", safe::line(one))).collect()
}

/// The ways to what weighs most; single accounts are counted where there is more to tell.
fn ways(printer: &Printer, answer: &EscalateAnswer) -> String {
    use cubicle_audit::rbac::Power;

    let bold = anstyle::Style::new().bold();
    let mut text = String::new();
    for escalation in &answer.from {
        text.push_str(&format!("{}\n", printer.paint(&safe::line(&escalation.from.to_string()), bold)));
        if escalation.reached.is_empty() {
            text.push_str("  gains nothing\n\n");
            continue;
        }
        let weighty: Vec<_> =
            escalation.reached.iter().filter(|reached| !matches!(reached.power, Power::Act { .. })).collect();
        let shown: Vec<_> = if weighty.is_empty() { escalation.reached.iter().take(10).collect() } else { weighty };
        for reached in &shown {
            text.push_str(&format!("  can reach {}:\n", safe::line(&reached.power.to_string())));
            for (number, step) in reached.path.iter().enumerate() {
                let by = step.binding.as_ref().map(|binding| format!("  [{binding}]")).unwrap_or_default();
                text.push_str(&safe::line(&format!("    {}. {} {}{by}", number + 1, step.by, step.act)));
                text.push('\n');
            }
        }
        let others = escalation.reached.len() - shown.len();
        if others > 0 {
            let accounts = if others == 1 { "account" } else { "accounts" };
            text.push_str(&format!("  and {others} {accounts} (all with --format json)\n"));
        }
        text.push('\n');
    }
    if answer.from.is_empty() {
        text.push_str("No service account can become anything else.\n");
    }
    text.push_str(&unknowns(&answer.unknown));
    text
}
