//! `cubicle image`

use std::path::PathBuf;

use clap::Subcommand;
use cubicle_core::problem::Problem;
use cubicle_local::images::{PROBE_IMAGE, PROGRAM_IMAGE};
use serde_json::json;

use crate::commands::{archive_output, discard_on_error};
use crate::context::{Context, block_on};
use crate::exit::Outcome;
use crate::output::size;
use crate::output::table::Table;

/// The environments that templates run
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cubicle image import ./my-environment --name my-environment")]
pub(crate) enum Command {
    /// Import a folder with a root file system, or an OCI archive
    #[command(after_help = "Example:\n  cubicle image import ./my-environment.tar --name my-environment")]
    Import {
        /// The folder or the archive
        path: PathBuf,
        /// What templates call it [default: the last part of the path]
        #[arg(long)]
        name: Option<String>,
    },
    /// List images, newest first
    #[command(after_help = "Example:\n  cubicle image list")]
    List,
    /// Write an image as an OCI archive, for the nodes of a cluster or for another machine
    ///
    /// The image `cubicle-probe` holds nothing but the probe, and `cubicle` this program. With --output, the last line is the
    /// name with the digest that a cluster's settings use; the same image always has the same.
    #[command(after_help = "Example:\n  cubicle image export jupyterlab --output jupyterlab.tar")]
    Export {
        /// The image's name or digest
        name: String,
        /// The new file [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::Import { path, name } => {
                // The engine runs elsewhere: a relative path means nothing to it.
                let absolute = path.canonicalize().map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        Problem::not_found(format!("there is no file or folder {}", path.display()), "check the path")
                    }
                    _ => Problem::bad_input(format!("{} cannot be read: {error}", path.display()), "check the path"),
                })?;
                let name = match name {
                    Some(name) => name,
                    None => default_name(&absolute)?,
                };
                let image =
                    block_on(async { context.local("importing an image")?.import_image(&absolute, &name).await })?;
                context.printer.print(&image, |_| format!("{} {}\n", image.name, image.digest))?;
            }
            Self::List => {
                let images = block_on(async { context.local("listing images")?.images().await })?;
                context.printer.print(&images, |printer| {
                    let mut table = Table::new(["NAME", "DIGEST", "SIZE", "CREATED"]);
                    for image in &images {
                        let digest: String = image.digest.chars().take(19).collect();
                        table.row([
                            image.name.as_str().into(),
                            digest.into(),
                            size(image.size).into(),
                            image.created_at.strftime("%Y-%m-%d").to_string().into(),
                        ]);
                    }
                    table.render(printer, "No images. `./up` makes the default one.")
                })?;
            }
            Self::Export { name, output } => {
                let exported = block_on(async {
                    let engine = context.local("exporting an image")?;
                    let images = engine.images().await?;
                    let known = images.iter().any(|image| image.name == name || image.digest == name);
                    if !known && name != PROBE_IMAGE && name != PROGRAM_IMAGE {
                        return Err(Problem::not_found(
                            format!("there is no image \"{}\"", name.escape_default()),
                            "list them with `cubicle image list`",
                        ));
                    }
                    let to = archive_output(output.as_ref())?;
                    discard_on_error(engine.export_image(&name, to).await, output.as_ref())
                });
                exported?;
                if let Some(output) = &output {
                    let reference = reference(output)?;
                    let answer = json!({ "name": name, "file": output, "reference": reference });
                    context
                        .printer
                        .print(&answer, |_| format!("{name} written to {}\n{reference}\n", output.display()))?;
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// The name with digest under which nodes have an archive's image once it is imported.
fn reference(archive: &std::path::Path) -> Result<String, Problem> {
    let failed = |why: String| Problem::engine(format!("{} cannot be read back: {why}", archive.display()), "");
    let file = std::fs::File::open(archive).map_err(|error| failed(error.to_string()))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    for entry in archive.entries().map_err(|error| failed(error.to_string()))? {
        let entry = entry.map_err(|error| failed(error.to_string()))?;
        if entry.path().is_ok_and(|path| path == std::path::Path::new("index.json")) {
            let index: serde_json::Value = serde_json::from_reader(entry).map_err(|error| failed(error.to_string()))?;
            let name = index.pointer("/manifests/0/annotations/io.containerd.image.name");
            return name
                .and_then(|name| name.as_str())
                .map(str::to_owned)
                .ok_or_else(|| failed("it has no name".to_owned()));
        }
    }
    Err(failed("it has no index".to_owned()))
}

fn default_name(path: &std::path::Path) -> Result<String, Problem> {
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = last.strip_suffix(".tar").unwrap_or(last).to_lowercase();
    if name.is_empty() {
        return Err(Problem::bad_input(format!("{} has no name", path.display()), "name the image with --name"));
    }
    Ok(name)
}
