//! OCI archives: a tar file of an image layout, read and written.
//!
//! Source: the OCI image specification 1.1, image-layout.md, manifest.md, layer.md.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use cubicle_core::problem::Problem;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ImageSummary, content};
use crate::layout::Layout;

/// JSON documents of an archive above this size are refused, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;
/// The registry in the names of exported images. It is none: nodes get them by import.
const REGISTRY: &str = "cubicle.local";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    config: Execution,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// Unpacks an archive below `rootfs` and returns the image's command.
pub(super) fn unpack(archive: &Path, rootfs: &Path) -> Result<Vec<String>, Problem> {
    let refuse = |error: io::Error| {
        Problem::bad_input(
            format!("{} is not an OCI archive that can be imported: {error}", archive.display()),
            "make one with `skopeo copy ... oci-archive:FILE` or `cubicle image export`",
        )
    };
    let layout = tempfile::tempdir_in(rootfs.parent().unwrap_or(rootfs)).map_err(refuse)?;
    let file = File::open(archive).map_err(refuse)?;
    tar::Archive::new(BufReader::new(file)).unpack(layout.path()).map_err(refuse)?;
    unpack_layout(layout.path(), rootfs).map_err(refuse)
}

fn unpack_layout(layout: &Path, rootfs: &Path) -> io::Result<Vec<String>> {
    let mut index: Index = document(&layout.join("index.json"))?;
    // An index may name an index of platforms.
    let mut descriptor = choose(index.manifests)?;
    if descriptor.media_type != MANIFEST && descriptor.media_type.contains("index") {
        index = document(&blob(layout, &descriptor)?)?;
        descriptor = choose(index.manifests)?;
    }
    let manifest: Manifest = document(&blob(layout, &descriptor)?)?;
    let configuration: Configuration = document(&blob(layout, &manifest.config)?)?;
    for layer in &manifest.layers {
        let file = BufReader::new(File::open(blob(layout, layer)?)?);
        let reader: Box<dyn Read> = match layer.media_type.as_str() {
            kind if kind.ends_with("gzip") => Box::new(GzDecoder::new(file)),
            kind if kind.ends_with("tar") => Box::new(file),
            other => return Err(io::Error::other(format!("layer type {other:?} is not supported"))),
        };
        apply(reader, rootfs)?;
    }
    let Execution { entrypoint, cmd } = configuration.config;
    Ok(entrypoint.unwrap_or_default().into_iter().chain(cmd.unwrap_or_default()).collect())
}

fn choose(manifests: Vec<Descriptor>) -> io::Result<Descriptor> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let fits =
        |found: &Descriptor| found.platform.as_ref().is_none_or(|platform| platform.architecture == architecture);
    let found = manifests.into_iter().find(fits);
    found.ok_or_else(|| io::Error::other(format!("it has no image for {architecture}")))
}

/// The file of a blob, after its content was checked against its digest.
fn blob(layout: &Path, descriptor: &Descriptor) -> io::Result<PathBuf> {
    let wanted = descriptor
        .digest
        .strip_prefix("sha256:")
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let wanted = wanted.ok_or_else(|| io::Error::other(format!("digest {:?} is not SHA-256", descriptor.digest)))?;
    let path = layout.join("blobs/sha256").join(wanted);
    if !fs::symlink_metadata(&path)?.is_file() {
        return Err(io::Error::other(format!("blob {wanted} is not a file")));
    }
    let mut hash = Sha256::new();
    let mut file = File::open(&path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    if content::hexadecimal(&hash.finalize()) == wanted {
        return Ok(path);
    }
    Err(io::Error::other(format!("blob {wanted} does not have the content that its name promises")))
}

fn document<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_DOCUMENT).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Applies one layer, whiteouts included.
fn apply(layer: impl Read, rootfs: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(layer);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(io::Error::other(format!("{} leads out of the image", path.display())));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(hidden) = name.strip_prefix(".wh.") {
            let folder = inside(rootfs, path.parent().unwrap_or(Path::new("")))?;
            if hidden == ".wh..opq" {
                for entry in fs::read_dir(&folder).into_iter().flatten() {
                    remove(&entry?.path())?;
                }
            } else if !hidden.is_empty() && hidden != "." && hidden != ".." {
                remove(&folder.join(hidden))?;
            }
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() || kind.is_fifo() {
            continue;
        }
        entry.unpack_in(rootfs)?;
    }
    Ok(())
}

/// A directory of the image, refused when a link leads out of it.
fn inside(rootfs: &Path, path: &Path) -> io::Result<PathBuf> {
    let full = rootfs.join(path.strip_prefix("/").unwrap_or(path));
    if !full.exists() {
        return Ok(full);
    }
    let real = full.canonicalize()?;
    if real.starts_with(rootfs.canonicalize()?) {
        return Ok(real);
    }
    Err(io::Error::other(format!("{} leads out of the image", path.display())))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(info) if info.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes an image with one layer. Everything that could differ from time to time is fixed.
pub(super) fn pack(image: &ImageSummary, layout: &Layout, to: File) -> Result<(), Problem> {
    pack_all(image, layout, to).map_err(|error| {
        Problem::engine(format!("image \"{}\" cannot be exported: {error}", image.name), "check the disk for space")
    })
}

fn pack_all(image: &ImageSummary, layout: &Layout, to: File) -> io::Result<()> {
    let mut layer = tempfile::tempfile_in(layout.images())?;
    let mut builder = tar::Builder::new(BufWriter::new(&mut layer));
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    // Containerd knows no sparse files in layers.
    builder.sparse(false);
    for path in content::entries(&image.rootfs)? {
        if path != Path::new(".") {
            builder.append_path_with_name(image.rootfs.join(&path), &path)?;
        }
    }
    builder.into_inner()?.flush()?;
    let (layer_digest, layer_size) = hash_file(&mut layer)?;

    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let configuration = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"User": "1000:1000", "Entrypoint": image.command, "WorkingDir": "/home/user"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", content::hexadecimal(&Sha256::digest(bytes))), "size": bytes.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_size,
        }],
        "annotations": {"dev.cubicle.image.digest": image.digest},
    }))?;
    let mut reference = descriptor(MANIFEST, &manifest);
    // containerd keeps an imported image under this name: nodes then find it by its digest.
    let pinned = format!("{REGISTRY}/{}@{}", image.name, reference["digest"].as_str().unwrap_or_default());
    reference["annotations"] =
        json!({"org.opencontainers.image.ref.name": image.name, "io.containerd.image.name": pinned});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [reference]}))?;

    let mut archive = tar::Builder::new(BufWriter::new(to));
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", &index)?;
    for blob in [&configuration, &manifest] {
        append(&mut archive, &format!("blobs/sha256/{}", content::hexadecimal(&Sha256::digest(blob))), blob)?;
    }
    layer.seek(SeekFrom::Start(0))?;
    let mut header = header(layer_size);
    archive.append_data(&mut header, format!("blobs/sha256/{layer_digest}"), layer)?;
    archive.into_inner()?.flush()
}

fn hash_file(file: &mut File) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 16];
    file.seek(SeekFrom::Start(0))?;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((content::hexadecimal(&hash.finalize()), size));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), path, bytes)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_exported_imports_with_the_same_content_and_the_same_bytes_each_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let layout = Layout::new(folder.path());
        let rootfs = layout.images().join("x/rootfs");
        fs::create_dir_all(rootfs.join("bin")).expect("folder");
        fs::write(rootfs.join("bin/tool"), b"content").expect("file");
        std::os::unix::fs::symlink("tool", rootfs.join("bin/link")).expect("link");
        content::prepare(&rootfs).expect("prepared");
        let image = ImageSummary {
            home_later: false,
            name: "x".to_owned(),
            digest: "sha256:0".to_owned(),
            command: vec!["/bin/tool".to_owned()],
            created_at: Timestamp::UNIX_EPOCH,
            size: 0,
            rootfs: rootfs.clone(),
        };
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        for path in [&one, &two] {
            pack(&image, &layout, File::create(path).expect("file")).expect("packed");
        }
        assert_eq!(fs::read(&one).expect("one"), fs::read(&two).expect("two"));
        let imported = super::super::import(&layout, &one, "y").expect("imported");
        assert_eq!(imported.command, ["/bin/tool"]);
        let digest = content::digest(&rootfs).expect("digest").0;
        assert_eq!(imported.digest, format!("sha256:{digest}"));
        fs::write(&two, b"not a tar file").expect("damaged");
        assert!(super::super::import(&layout, &two, "z").is_err());
    }
}
