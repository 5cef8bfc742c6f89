//! `cubicle template`

use std::path::PathBuf;

use clap::Subcommand;
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use serde_json::json;

use crate::commands::{read_input, shortened};
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
    /// Create or replace a template from a YAML or JSON document
    #[command(after_help = "Example:\n  cubicle template apply -f mine.yaml")]
    Apply {
        /// The document; - reads standard input
        #[arg(short, long, value_name = "FILE")]
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
                let text = read_input(&file)?;
                let template: Template = serde_norway::from_str(&text).map_err(|error| {
                    Problem::bad_input(
                        format!("{} is not a template: {}", file.display(), shortened(error)),
                        "see `cubicle template show jupyterlab` for one that is",
                    )
                })?;
                template.validate()?;
                let name = template.metadata.name.clone();
                block_on(context.engine()?.apply_template(template))?;
                context.printer.print(&json!({ "name": name, "applied": true }), |_| format!("{name} applied\n"))?;
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

fn unknown(name: &TemplateName) -> Problem {
    Problem::not_found(format!("there is no template \"{name}\""), "list them with `cubicle template list`")
}

/// The word that documents use for a choice.
pub(crate) fn word<T: serde::Serialize>(choice: &T) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
