//! Images: read-only directories named by the digest of their content.

mod content;
mod oci;
mod program;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cubicle_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// One image of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// What templates call it.
    pub name: String,
    /// `sha256:` and 64 hexadecimal digits, over the image's content.
    pub digest: String,
    /// What a template without a command starts.
    #[serde(default)]
    pub command: Vec<String>,
    /// Whether that command can start before the home is there: with `CUBICLE_HOME_LATER=1` it gets ready,
    /// takes connections, and answers none until a home is mounted and somebody connects after that.
    #[serde(default)]
    pub home_later: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Bytes of its files.
    #[serde(default)]
    pub size: u64,
    /// Its root file system on this machine.
    #[serde(default)]
    pub rootfs: PathBuf,
}

/// All images, newest first. A folder without a readable description is no image.
pub fn list(layout: &Layout) -> Result<Vec<ImageSummary>, Problem> {
    let folder = layout.images();
    let entries = fs::read_dir(&folder)
        .map_err(|error| Problem::engine(format!("{} cannot be read: {error}", folder.display()), "run `./up`"))?;
    let mut images: Vec<ImageSummary> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.digest.cmp(&b.digest)));
    Ok(images)
}

fn read(folder: &Path) -> Option<ImageSummary> {
    let text = fs::read_to_string(folder.join("image.json")).ok()?;
    let mut image: ImageSummary = serde_json::from_str(&text).ok()?;
    image.rootfs = folder.join("rootfs");
    image.rootfs.is_dir().then_some(image)
}

/// The newest image of this name, or the image of this digest.
pub fn find(layout: &Layout, image: &str) -> Result<ImageSummary, Problem> {
    list(layout)?.into_iter().find(|known| known.name == image || known.digest == image).ok_or_else(|| {
        Problem::not_found(
            format!("there is no image \"{}\"", image.escape_default()),
            "list the known ones with `cubicle image list`, or add one with `cubicle image import`",
        )
    })
}

/// The folder of a registered data set.
pub(crate) fn dataset(layout: &Layout, name: &str) -> Result<PathBuf, Problem> {
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let folder = layout.datasets().join(name);
    if plain && folder.is_dir() {
        return Ok(folder);
    }
    Err(Problem::not_found(
        format!("there is no data set \"{}\"", name.escape_default()),
        "the administrator adds one as a folder (or link-free mount) below CUBICLE_HOME/datasets",
    ))
}

/// Imports a folder (a root file system) or an OCI archive (a tar file of an image layout) as
/// an image. What is imported loses every bit that could raise privilege.
pub(crate) fn import(layout: &Layout, path: &Path, name: &str) -> Result<ImageSummary, Problem> {
    let plain = !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_'));
    if !plain {
        return Err(Problem::bad_input(
            format!(
                "image name \"{}\" is not 1 to 63 lower-case letters, digits, '-', '.' or '_'",
                name.escape_default()
            ),
            "choose such a name",
        ));
    }
    let failed = |error: std::io::Error| {
        Problem::bad_input(
            format!("{} cannot be imported: {error}", path.display()),
            "give a root folder or an OCI archive",
        )
    };
    // Made beside the images and renamed at the end: an import that ends early leaves nothing.
    let draft = tempfile::Builder::new().prefix(".import-").tempdir_in(layout.images()).map_err(failed)?;
    let rootfs = draft.path().join("rootfs");
    fs::create_dir(&rootfs).map_err(failed)?;
    let command = if path.is_dir() {
        content::copy(path, &rootfs).map_err(failed)?;
        Vec::new()
    } else {
        oci::unpack(path, &rootfs)?
    };
    content::prepare(&rootfs).map_err(failed)?;
    let (digest, size) = content::digest(&rootfs).map_err(failed)?;
    let created_at = Timestamp::now();
    let image = ImageSummary {
        home_later: false,
        name: name.to_owned(),
        digest: format!("sha256:{digest}"),
        command,
        created_at,
        size,
        rootfs: layout.images().join(&digest).join("rootfs"),
    };
    let text = serde_json::to_vec_pretty(&image).map_err(|error| failed(error.into()))?;
    fs::write(draft.path().join("image.json"), text).map_err(failed)?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let target = layout.images().join(&digest);
    if target.exists() {
        // The same content is there already; only its name and time are new.
        fs::rename(draft.path().join("image.json"), target.join("image.json")).map_err(failed)?;
    } else {
        fs::rename(draft.path(), &target).map_err(failed)?;
    }
    Ok(image)
}

/// The name of the image that holds nothing but the probe: pods mount it beside their own image,
/// and canaries and references run on it.
pub const PROBE_IMAGE: &str = "cubicle-probe";
/// The name of the image that holds this program: hub and controller run on it.
pub const PROGRAM_IMAGE: &str = "cubicle";

/// Writes an image as an OCI archive; the same image always gives the same bytes.
pub(crate) fn export(layout: &Layout, name: &str, to: OwnedFd) -> Result<(), Problem> {
    match name {
        PROBE_IMAGE => export_probe(layout, fs::File::from(to)),
        PROGRAM_IMAGE => program::export(layout, fs::File::from(to)),
        _ => oci::pack(&find(layout, name)?, layout, fs::File::from(to)),
    }
}

fn export_probe(layout: &Layout, to: fs::File) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        Problem::engine(format!("the probe's image cannot be made: {error}"), "check the disk for space; run `./up`")
    };
    let draft = tempfile::Builder::new().prefix(".export-").tempdir_in(layout.images()).map_err(failed)?;
    let rootfs = draft.path().join("rootfs");
    // The control mounts its scenes on /tmp; the kubelet mounts the others.
    for folder in ["tmp", "proc", "sys", "dev", "etc"] {
        fs::create_dir_all(rootfs.join(folder)).map_err(failed)?;
    }
    let program = rootfs.join("cubicle-probe");
    fs::copy(layout.probe(), &program).map_err(failed)?;
    // It can be run, not read: what runs from it cannot be looked into by its tenant.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).map_err(failed)?;
    let image = ImageSummary {
        home_later: false,
        name: PROBE_IMAGE.to_owned(),
        digest: String::new(),
        command: vec!["/cubicle-probe".to_owned()],
        created_at: Timestamp::UNIX_EPOCH,
        size: 0,
        rootfs,
    };
    oci::pack(&image, layout, to)
}
