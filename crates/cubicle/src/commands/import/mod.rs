//! `cubicle import`

mod hatchery;
mod jupyterhub;
mod reading;
mod spawner;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cubicle_audit::snapshot::{Node, single};
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::{
    API_VERSION, Home, Idle, Metadata, OnBreach, Resources, Template, TemplateSpec, default_base_path, default_level,
    default_port,
};
use serde_json::json;

use self::reading::{Outcome as Became, Reading, Setting};
use crate::commands::read_bytes;
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::table::Table;
use crate::output::{self, Printer, safe};

/// Make templates of what another hub launches
///
/// Every setting is either carried over, replaced (by what, and why), or refused because it would
/// open a wall. The templates go to standard output and that list to standard error; with
/// --format json both are one document. Exit code 1 says that something was refused; 2 that
/// settings are unknown or wrong: then all of them are listed and nothing is written.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  cubicle import hatchery hatchery.json > mine.yaml && cubicle template apply -f mine.yaml"
)]
pub(crate) enum Command {
    /// Gen3's hatchery.json
    #[command(after_help = "Example:\n  cubicle import hatchery hatchery.json --output templates/")]
    Hatchery(Arguments),
    /// Zero to JupyterHub's values.yaml, or KubeSpawner's profile_list as YAML or JSON
    ///
    /// A jupyterhub_config.py is a program and is not run. Give the values that it is made from, or
    /// what it holds in the end as JSON.
    #[command(after_help = "Example:\n  helm get values hub | cubicle import jupyterhub - > mine.yaml")]
    Jupyterhub(Arguments),
}

/// What both take.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file; - reads standard input
    file: PathBuf,

    /// Write one file per template into this folder, and replace none
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let (source, arguments, read): (_, _, fn(&mut Reading, &Node)) = match self {
            Self::Hatchery(arguments) => ("hatchery", arguments, hatchery::read),
            Self::Jupyterhub(arguments) => ("jupyterhub", arguments, jupyterhub::read),
        };
        let name = arguments.file.display().to_string();
        let bytes = read_bytes(&arguments.file)?;
        if source == "jupyterhub" {
            jupyterhub::refuse_program(&arguments.file, &bytes)?;
        }
        let (templates, settings) = import(&name, &bytes, read)?;
        let yaml: Vec<String> = templates
            .iter()
            .map(serde_norway::to_string)
            .collect::<Result<_, _>>()
            .map_err(|error| Problem::engine(format!("a template is not YAML: {error}"), ""))?;
        let written = match &arguments.output {
            Some(folder) => write_into(folder, &templates, &yaml)?,
            None => Vec::new(),
        };
        let count = |became| settings.iter().filter(|setting| setting.outcome == became).count();
        let (carried_over, replaced, refused) =
            (count(Became::CarriedOver), count(Became::Replaced), count(Became::Refused));
        let answer = json!({
            "source": source,
            "file": name,
            "templates": templates,
            "written": written,
            "settings": settings,
            "summary": { "carried_over": carried_over, "replaced": replaced, "refused": refused },
        });
        context.printer.print(&answer, |printer| {
            for line in table(printer, &name, &settings).lines() {
                output::note(line);
            }
            output::note(&format!("{carried_over} carried over, {replaced} replaced, {refused} refused"));
            match written.is_empty() {
                true => safe::lines(&yaml.join("---\n")),
                false => written.iter().map(|path| format!("{}\n", safe::line(path))).collect(),
            }
        })?;
        Ok(if refused > 0 { Outcome::No } else { Outcome::Done })
    }
}

/// From the bytes of a file to templates and the list of what became of each setting.
fn import(name: &str, bytes: &[u8], read: fn(&mut Reading, &Node)) -> Result<(Vec<Template>, Vec<Setting>), Problem> {
    let broken = |line: u32, what: &str| {
        Problem::bad_input(format!("{name}:{line}: {what}"), "correct the file; it must be one YAML or JSON document")
    };
    let document =
        single(bytes).map_err(|(line, what)| broken(line, &what))?.ok_or_else(|| broken(1, "the document is empty"))?;
    let mut reading = Reading::new(name.to_owned());
    for (key, line) in &document.given_twice {
        reading.wrong(*line, format!("{} is given twice", reading::below("", key)));
    }
    read(&mut reading, &document.node);
    let (templates, settings) = reading.finish()?;
    if templates.is_empty() {
        return Err(Problem::bad_input(
            format!("{name} describes nothing that can be launched"),
            "give the file that holds `containers` (Hatchery), `singleuser` or a profile list (JupyterHub)",
        ));
    }
    Ok((templates, settings))
}

/// A template with everything at its default.
fn blank(name: TemplateName, description: &str) -> Template {
    let description = description.trim().chars().filter(|character| !character.is_control()).take(200).collect();
    Template {
        api_version: API_VERSION.to_owned(),
        kind: "Template".to_owned(),
        metadata: Metadata { name },
        spec: TemplateSpec {
            description,
            image: "jupyterlab".to_owned(),
            scan: None,
            command: Vec::new(),
            port: default_port(),
            base_path: default_base_path(),
            level: default_level(),
            resources: Resources::default(),
            home: Home::default(),
            egress: None,
            datasets: Vec::new(),
            idle: Idle::default(),
            groups: Vec::new(),
            on_breach: OnBreach::default(),
        },
    }
}

fn write_into(folder: &Path, templates: &[Template], yaml: &[String]) -> Result<Vec<String>, Problem> {
    let failed = |path: &Path, error: std::io::Error| {
        Problem::bad_input(format!("{} cannot be written: {error}", path.display()), "name a new or empty folder")
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut written = Vec::new();
    for (template, text) in templates.iter().zip(yaml) {
        let path = folder.join(format!("{}.yaml", template.metadata.name));
        let made = std::fs::File::options().write(true).create_new(true).open(&path);
        made.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|error| failed(&path, error))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

fn table(printer: &Printer, file: &str, settings: &[Setting]) -> String {
    let mut table = Table::new(["LINE", "SETTING", "BECAME", "BY", "WHY"]);
    for setting in settings {
        let became = match setting.outcome {
            Became::CarriedOver => "carried over",
            Became::Replaced => "replaced",
            Became::Refused => "refused",
        };
        table.row([
            format!("{file}:{}", setting.line).into(),
            setting.key.as_str().into(),
            became.into(),
            setting.by.as_str().into(),
            setting.why.as_str().into(),
        ]);
    }
    table.render(printer, "")
}
