//! `cubicle template`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::scan::Scan;
use cubicle_core::template::Template;
use serde::Deserialize;
use serde_json::json;

use crate::commands::{read_input, read_large, shortened};
use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::safe;
use crate::output::table::Table;

/// What can be launched
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  cubicle template show jupyterlab > mine.yaml && cubicle template apply -f mine.yaml"
)]
pub(crate) enum Command {
    /// List templates
    #[command(after_help = "Example:\n  cubicle template list")]
    List,
    /// Print a template as the document that `apply` reads
    #[command(after_help = "Example:\n  cubicle template show jupyterlab > mine.yaml")]
    Show {
        /// The template's name
        name: String,
    },
    /// Create or replace templates from the YAML or JSON documents of a file
    #[command(after_help = "Example:\n  cubicle template apply -f mine.yaml")]
    Apply {
        /// The document; - reads standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a scanner's findings as a template's spec.scan holds them, for `kubectl apply`
    #[command(after_help = "Example:\n  trivy image --format json IMAGE | cubicle template scan -")]
    Scan {
        /// What `trivy --format json` or `grype -o json` wrote; - reads standard input
        file: PathBuf,
    },
    /// Delete a template; running workspaces live on
    #[command(after_help = "Example:\n  cubicle template delete mine")]
    Delete {
        /// The template's name
        name: String,
    },
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::List => {
                let templates = block_on(context.engine()?.templates())?;
                context.printer.print(&templates, |printer| {
                    let mut table = Table::new(["NAME", "LEVEL", "CPU", "MEMORY", "HOME", "EGRESS", "DESCRIPTION"]);
                    for template in &templates {
                        let spec = &template.spec;
                        table.row([
                            template.metadata.name.as_str().into(),
                            spec.level.to_string().into(),
                            spec.resources.cpu.to_string().into(),
                            spec.resources.memory.to_string().into(),
                            spec.home.size.to_string().into(),
                            word(&template.egress().mode).into(),
                            spec.description.as_str().into(),
                        ]);
                    }
                    table.render(printer, "No templates. Add one with `cubicle template apply -f FILE`.")
                })?;
            }
            Self::Show { name } => {
                let name: TemplateName = name.parse()?;
                let templates = block_on(context.engine()?.templates())?;
                let template = templates.into_iter().find(|template| template.metadata.name == name);
                let template = template.ok_or_else(|| unknown(&name))?;
                let yaml = serde_norway::to_string(&template)
                    .map_err(|error| Problem::engine(format!("template {name} is not YAML: {error}"), ""))?;
                context.printer.print(&template, |_| safe::lines(&yaml))?;
            }
            Self::Apply { file } => {
                // All are read before the first is applied.
                let templates = documents(&file)?;
                let mut answers = Vec::new();
                let mut text = String::new();
                for template in templates {
                    let name = template.metadata.name.clone();
                    block_on(context.engine()?.apply_template(template))?;
                    text.push_str(&format!("{name} applied\n"));
                    answers.push(json!({ "name": name, "applied": true }));
                }
                let answer = if answers.len() == 1 { answers.remove(0) } else { answers.into() };
                context.printer.print(&answer, |_| text)?;
            }
            Self::Scan { file } => {
                let scan = scan(&file)?;
                let yaml = serde_norway::to_string(&scan)
                    .map_err(|error| Problem::engine(format!("the scan is not YAML: {error}"), ""))?;
                context.printer.print(&scan, |_| safe::lines(&yaml))?;
            }
            Self::Delete { name } => {
                let name: TemplateName = name.parse()?;
                block_on(context.engine()?.delete_template(&name))?;
                context.printer.print(&json!({ "name": name, "deleted": true }), |_| format!("{name} deleted\n"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

/// The templates of a file, one in each of its documents.
fn documents(file: &Path) -> Result<Vec<Template>, Problem> {
    let text = read_input(file)?;
    let mut parts = vec![String::new()];
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        match parts.last_mut() {
            // Places in messages are those of the file.
            _ if line.trim_end() == "---" => parts.push("\n".repeat(lines)),
            Some(part) => part.extend([line, "\n"]),
            None => {}
        }
    }
    let empty = |part: &String| part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    parts.retain(|part| !empty(part));
    match &parts[..] {
        [] | [_] => Ok(vec![document(file, &text)?]),
        parts => parts.iter().map(|part| document(file, part)).collect(),
    }
}

/// A template as people write it. Its image may be a name, or `{name, scan: FILE}`; the file is
/// looked for beside the document.
fn document(file: &Path, text: &str) -> Result<Template, Problem> {
    let is_no_template = |error: &dyn std::fmt::Display| {
        Problem::bad_input(
            format!("{} is not a template: {}", file.display(), shortened(error)),
            "see `cubicle template show jupyterlab` for one that is",
        )
    };
    // Read as it is first: the messages for documents without a scan name line and column.
    let template = match serde_norway::from_str::<Template>(text) {
        Ok(template) => template,
        Err(error) => {
            let mut value: serde_json::Value = serde_norway::from_str(text).map_err(|_| is_no_template(&error))?;
            let Some(image) = value.pointer("/spec/image").filter(|image| image.is_object()).cloned() else {
                return Err(is_no_template(&error));
            };
            let image: ImageWithScan = serde_json::from_value(image).map_err(|error| is_no_template(&error))?;
            let beside = file.parent().unwrap_or_else(|| Path::new("")).join(&image.scan);
            let scan = serde_json::to_value(scan(&beside)?).map_err(|error| is_no_template(&error))?;
            if let Some(spec) = value.pointer_mut("/spec").and_then(serde_json::Value::as_object_mut) {
                spec.insert("image".to_owned(), image.name.into());
                spec.insert("scan".to_owned(), scan);
            }
            serde_json::from_value(value).map_err(|error| is_no_template(&error))?
        }
    };
    template.validate()?;
    Ok(template)
}

/// `image: {name: jupyterlab, scan: trivy.json}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageWithScan {
    name: String,
    scan: PathBuf,
}

/// What a scanner wrote.
pub(crate) fn scan(file: &Path) -> Result<Scan, Problem> {
    Scan::parse(&read_large(file)?)
        .map_err(|problem| Problem { what: format!("{}: {}", file.display(), problem.what), ..problem })
}

fn unknown(name: &TemplateName) -> Problem {
    Problem::not_found(format!("there is no template \"{name}\""), "list them with `cubicle template list`")
}

/// The word that documents use for a choice.
pub(crate) fn word<T: serde::Serialize>(choice: &T) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
