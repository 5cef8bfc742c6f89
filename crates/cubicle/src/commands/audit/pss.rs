//! `cubicle audit pss`

use anstyle::{AnsiColor, Style};
use cubicle_audit::pod_security::{Level, Version, violations};
use cubicle_audit::snapshot::Snapshot;
use cubicle_audit::workload::{Template, templates};
use cubicle_core::problem::Problem;
use serde::Serialize;

use super::sources::{Place, Sources};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::{Printer, safe};

/// Which pods a level of the Pod Security Standards admits
///
/// Every pod and every template of pods in the files is judged. Exit code 0: all are admitted;
/// 1: some are not; 2: a document is broken, or no pod is in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cubicle audit pss pod.yaml --level restricted --version v1.34")]
pub(crate) struct Arguments {
    #[command(flatten)]
    sources: Sources,

    /// privileged, baseline or restricted
    #[arg(long, value_name = "LEVEL", default_value = "restricted")]
    level: String,

    /// The standard as it was in this release of Kubernetes: v1.0 or later, or latest
    #[arg(long, value_name = "VERSION", default_value = "latest")]
    version: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    level: Level,
    version: String,
    admitted: bool,
    pods: Vec<Judged>,
}

#[derive(Debug, Serialize)]
struct Judged {
    kind: String,
    namespace: String,
    name: String,
    admitted: bool,
    violations: Vec<Violation>,
}

#[derive(Debug, Serialize)]
struct Violation {
    check: &'static str,
    level: Level,
    what: String,
    field: String,
    #[serde(flatten)]
    place: Place,
}

impl Arguments {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let level: Level = self.level.parse()?;
        let version: Version = self.version.parse()?;
        let snapshot = self.sources.read()?;
        if !snapshot.is_complete() {
            return Err(Problem::bad_input("a document is broken", "correct what is told above; nothing was judged"));
        }
        let pods = templates(&snapshot);
        if pods.is_empty() {
            return Err(Problem::bad_input("there is no pod in it", "name a file with a pod or a workload"));
        }
        let pods = pods.iter().map(|pod| judge(&snapshot, pod, level, version)).collect::<Result<Vec<_>, Problem>>()?;
        let admitted = pods.iter().all(|pod| pod.admitted);
        let answer = Answer { level, version: version.to_string(), admitted, pods };
        context.printer.print(&answer, |printer| text(printer, &answer))?;
        Ok(if admitted { Outcome::Done } else { Outcome::No })
    }
}

fn judge(snapshot: &Snapshot, pod: &Template, level: Level, version: Version) -> Result<Judged, Problem> {
    let found = violations(&pod.pod, level, version)
        .map_err(|problem| Problem { what: format!("{}: {}", pod.title(), problem.what), ..problem })?;
    let violations: Vec<Violation> = found
        .into_iter()
        .filter_map(|one| {
            let object = snapshot.object(pod.object)?;
            let pointer = pod.in_object(&one.pointer);
            let place = Place::of(snapshot, object.place(&pointer));
            let field = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
            Some(Violation { check: one.check, level: one.level, what: one.what, field, place })
        })
        .collect();
    Ok(Judged {
        kind: pod.kind.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        admitted: violations.is_empty(),
        violations,
    })
}

fn text(printer: &Printer, answer: &Answer) -> String {
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    let mut text = String::new();
    for pod in &answer.pods {
        let title = safe::line(&format!("{} {}/{}", pod.kind, pod.namespace, pod.name));
        let verdict = if pod.admitted { printer.paint("admitted", green) } else { printer.paint("refused", red) };
        text.push_str(&format!("{verdict}  {title}\n"));
        for one in &pod.violations {
            let line = format!("  {}  {}  [{} {}]", one.place, one.what, one.level, one.check);
            text.push_str(&format!("{}\n", safe::line(&line)));
        }
    }
    let refused = answer.pods.iter().filter(|pod| !pod.admitted).count();
    let total = answer.pods.len();
    text.push_str(&format!("\n{} {}: {} of {total} admitted\n", answer.level, answer.version, total - refused));
    text
}
