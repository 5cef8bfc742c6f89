//! The image that hub and controller run on: this very program, and what the dynamic linker gave it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cubicle_core::problem::Problem;
use jiff::Timestamp;

use super::{ImageSummary, PROGRAM_IMAGE, oci};
use crate::layout::Layout;

/// Where the program is in the image.
const PROGRAM: &str = "usr/local/bin/cubicle";
/// The path that programs of this architecture name as their interpreter (System V ABI supplement).
const INTERPRETER: &str =
    if cfg!(target_arch = "aarch64") { "lib/ld-linux-aarch64.so.1" } else { "lib64/ld-linux-x86-64.so.2" };

pub(super) fn export(layout: &Layout, to: File) -> Result<(), Problem> {
    let failed = |error: io::Error| {
        Problem::engine(format!("the program's image cannot be made: {error}"), "check the disk for space")
    };
    let draft = tempfile::Builder::new().prefix(".export-").tempdir_in(layout.images()).map_err(failed)?;
    let rootfs = draft.path().join("rootfs");
    // The kubelet mounts all but the first.
    for folder in ["tmp", "proc", "sys", "dev", "etc", "run"] {
        fs::create_dir_all(rootfs.join(folder)).map_err(failed)?;
    }
    let program = std::env::current_exe().map_err(failed)?;
    copy(&program, &rootfs.join(PROGRAM)).map_err(failed)?;
    let maps = fs::read_to_string("/proc/self/maps").map_err(failed)?;
    for library in libraries(&maps) {
        // The loader looks into the folders of its own distribution without a cache.
        let inside = library.strip_prefix("/").unwrap_or(&library);
        copy(&library, &rootfs.join(inside)).map_err(failed)?;
        if library.file_name() == Path::new(INTERPRETER).file_name() {
            copy(&library, &rootfs.join(INTERPRETER)).map_err(failed)?;
        }
    }
    let image = ImageSummary {
        home_later: false,
        name: PROGRAM_IMAGE.to_owned(),
        digest: String::new(),
        command: vec![format!("/{PROGRAM}")],
        created_at: Timestamp::UNIX_EPOCH,
        size: 0,
        rootfs,
    };
    oci::pack(&image, layout, to)
}

/// The shared libraries in a process's map of memory (proc_pid_maps(5)); none for a static program.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    paths.filter(|path| path.contains(".so") && !path.ends_with(" (deleted)")).map(PathBuf::from).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_a_map() {
        let maps = "55d0-55d1 r-xp 00000000 08:01 1   /usr/local/bin/cubicle\n\
                    7f00-7f01 r--p 00000000 08:01 2   /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f01-7f02 r-xp 00001000 08:01 2   /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7ffc-7ffd rw-p 00000000 00:00 0   [stack]\n";
        assert_eq!(libraries(maps), BTreeSet::from([PathBuf::from("/usr/lib/x86_64-linux-gnu/libc.so.6")]));
    }
}
