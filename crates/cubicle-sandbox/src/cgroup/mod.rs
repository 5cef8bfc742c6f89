//! Control groups of workspaces, on version 2 and on version 1 (also "hybrid").
//!
//! Sources: Documentation/admin-guide/cgroup-v1/, Documentation/admin-guide/cgroup-v2.rst.

mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::attempt::CgroupReading;
use cubicle_core::plan::Limits;

use crate::pipes::wait_until;

/// How long processes may take to stand still.
const FREEZE: Duration = Duration::from_secs(2);

/// Where a hierarchy is mounted and what it controls.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Controllers of version 1; empty for version 2.
    controllers: Vec<String>,
    unified: bool,
}

/// One control group, by its absolute path in every hierarchy, for example `/cubicle/w-...`.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    hierarchies: Vec<Hierarchy>,
}

/// What is set on a control group; nothing means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Swap on top of memory in bytes.
    pub swap: Option<u64>,
    /// CPU in thousandths.
    pub cpu: Option<u64>,
    /// The time over which CPU is counted, in microseconds; the scheduler's usual when none.
    pub cpu_period: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl From<Limits> for Settings {
    fn from(limits: Limits) -> Self {
        Self {
            memory: Some(limits.memory.0),
            swap: Some(0),
            cpu: Some(limits.cpu.0),
            cpu_period: None,
            pids: Some(u64::from(limits.pids)),
        }
    }
}

/// Every hierarchy that is mounted here.
fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mounts")?))
}

fn parse_mounts(mounts: &str) -> Vec<Hierarchy> {
    const KNOWN: [&str; 12] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
    ];
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(mount), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if !mount.starts_with("/sys/fs/cgroup") || !matches!(kind, "cgroup" | "cgroup2") {
            continue;
        }
        let controllers = if kind == "cgroup" {
            options
                .split(',')
                .filter(|one| KNOWN.contains(one) || one.starts_with("name="))
                .map(str::to_owned)
                .collect()
        } else {
            Vec::new()
        };
        let hierarchy = Hierarchy { mount: PathBuf::from(mount), controllers, unified: kind == "cgroup2" };
        if !found.iter().any(|other| other.mount == hierarchy.mount) {
            found.push(hierarchy);
        }
    }
    found
}

impl Cgroup {
    /// Names a control group. Nothing is made yet.
    ///
    /// # Errors
    /// When the path is not absolute and plain, and when no hierarchy is mounted.
    pub fn new(path: &str) -> io::Result<Self> {
        let plain = path.len() > 1
            && path.starts_with('/')
            && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        if !plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("\"{path}\" is not a plain absolute path"),
            ));
        }
        let hierarchies = hierarchies()?;
        if hierarchies.is_empty() {
            return Err(io::Error::other("no control groups are mounted at /sys/fs/cgroup"));
        }
        Ok(Self { path: path.to_owned(), hierarchies })
    }

    /// The path, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether memory, CPU and process limits come from version 2.
    pub fn is_unified(&self) -> bool {
        !self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"))
    }

    /// The directory in the hierarchy that holds a controller.
    fn directory(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies
            .iter()
            .find(
                |one| {
                    if self.is_unified() { one.unified } else { one.controllers.iter().any(|name| name == controller) }
                },
            )
            .map(|one| self.below(one))
    }

    fn below(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(self.path.trim_start_matches('/'))
    }

    /// Mount point names and directories of version 1, for the tenant's own read-only view.
    pub(crate) fn views(&self) -> Vec<(String, PathBuf)> {
        self.hierarchies
            .iter()
            .filter(|one| !one.unified && one.controllers.iter().any(|name| !name.starts_with("name=")))
            .filter_map(|one| Some((one.mount.file_name()?.to_str()?.to_owned(), self.below(one))))
            .collect()
    }

    /// Makes it in every hierarchy.
    ///
    /// # Errors
    /// What the kernel says, with the directory.
    pub fn create(&self) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            if hierarchy.unified {
                v2::create(&hierarchy.mount, &self.path)?;
            } else {
                v1::create(&hierarchy.mount, &self.path, &hierarchy.controllers)?;
            }
        }
        Ok(())
    }

    /// Sets limits. Fails when any cannot be set: a limit that is not there is a wall left out.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn set(&self, settings: Settings) -> io::Result<()> {
        let directory = |controller: &str| {
            self.directory(controller)
                .ok_or_else(|| io::Error::other(format!("this machine has no {controller} control group")))
        };
        if self.is_unified() {
            v2::set(&directory("memory")?, settings)
        } else {
            v1::set(&directory("memory")?, &directory("cpu")?, &directory("pids")?, settings)
        }
    }

    /// Reads what the kernel says about it. What the kernel does not say is unlimited or zero.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn read(&self) -> io::Result<CgroupReading> {
        let directory = self.directory("memory").ok_or_else(|| io::Error::other("no memory control group"))?;
        if !directory.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", directory.display())));
        }
        Ok(self.read_directories(|controller| self.directory(controller)))
    }

    fn read_directories(&self, directory: impl Fn(&str) -> Option<PathBuf>) -> CgroupReading {
        if self.is_unified() {
            directory("memory").map(|one| v2::read(&one)).unwrap_or_default()
        } else {
            v1::read(directory("memory"), directory("cpu"), directory("cpuacct"), directory("pids"))
        }
    }

    /// Reads the root: what an unlimited control group looks like to the same reader.
    pub fn read_root(&self) -> CgroupReading {
        self.read_directories(|controller| {
            let path = self.directory(controller)?;
            let depth = self.path.split('/').skip(1).count();
            path.ancestors().nth(depth).map(Path::to_path_buf)
        })
    }

    /// Puts the calling process into it, in every hierarchy that `like` is in.
    pub(crate) fn join(&self, like: u32) -> io::Result<()> {
        let member = fs::read_to_string(format!("/proc/{like}/cgroup"))?;
        for line in member.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let hierarchy = self.hierarchies.iter().find(|one| {
                if controllers.is_empty() {
                    one.unified
                } else {
                    controllers.split(',').all(|name| one.controllers.iter().any(|other| other == name))
                }
            });
            if let Some(hierarchy) = hierarchy {
                write(&hierarchy.mount.join(path.trim_start_matches('/')).join("cgroup.procs"), "0")?;
            }
        }
        Ok(())
    }

    /// The processes in it.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            let listed = fs::read_to_string(self.below(hierarchy).join("cgroup.procs")).unwrap_or_default();
            all.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
        all.into_iter().collect()
    }

    /// Lets everything in it stand still; returns when it does.
    ///
    /// # Errors
    /// When it does not within two seconds: then it goes on.
    pub fn freeze(&self) -> io::Result<()> {
        let stands = self.set_frozen(true)?;
        if wait_until(FREEZE, stands) {
            return Ok(());
        }
        self.thaw()?;
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("control group {} does not freeze", self.path)))
    }

    /// Lets everything in it go on.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false).map(|_| ())
    }

    /// Asks for it; answers what says whether it stands still.
    fn set_frozen(&self, frozen: bool) -> io::Result<impl Fn() -> bool + use<>> {
        let of_one = self.directory("freezer").filter(|_| !self.is_unified());
        let of_two = self.hierarchies.iter().find(|one| one.unified).map(|one| self.below(one));
        let (directory, unified) = match (of_one, of_two) {
            (Some(directory), _) => (directory, false),
            (None, Some(directory)) => (directory, true),
            (None, None) => return Err(io::Error::other("this machine has no freezer")),
        };
        if unified { v2::set_frozen(&directory, frozen) } else { v1::set_frozen(&directory, frozen) }?;
        Ok(move || if unified { v2::is_frozen(&directory) } else { v1::is_frozen(&directory) })
    }

    /// Kills everything in it and waits until nothing is left; false when something is.
    pub fn kill_all(&self, within: Duration) -> bool {
        // Version 1 keeps a signal until the process goes on.
        let _ = self.thaw();
        wait_until(within, || {
            for hierarchy in self.hierarchies.iter().filter(|one| one.unified) {
                // Absent before Linux 5.14; the loop below then does the work.
                let _ = fs::write(self.below(hierarchy).join("cgroup.kill"), "1");
            }
            let left = self.processes();
            for pid in &left {
                // SAFETY: kill takes plain numbers; the pid was just listed in our own group.
                unsafe { libc::kill(*pid, libc::SIGKILL) };
            }
            left.is_empty()
        })
    }

    /// Kills everything in it and removes it from every hierarchy.
    ///
    /// # Errors
    /// When something is left after ten seconds.
    pub fn remove(&self) -> io::Result<()> {
        if !self.kill_all(Duration::from_secs(10)) {
            return Err(io::Error::other(format!("processes are left in control group {}", self.path)));
        }
        for hierarchy in &self.hierarchies {
            let directory = self.below(hierarchy);
            let gone = wait_until(Duration::from_secs(5), || {
                remove_tree(&directory);
                !directory.exists()
            });
            if !gone {
                return Err(io::Error::other(format!("control group {} cannot be removed", directory.display())));
            }
        }
        Ok(())
    }
}

/// What limits come from here: `v1` or `v2`.
pub fn version() -> &'static str {
    match Cgroup::new("/cubicle") {
        Ok(group) if group.is_unified() => "v2",
        Ok(_) => "v1",
        Err(_) => "(not mounted)",
    }
}

/// Whether this machine has a controller for limits: `cpu`, `memory`, `pids` or `io`.
pub fn has_controller(name: &str) -> bool {
    let Ok(group) = Cgroup::new("/cubicle") else { return false };
    group.hierarchies.iter().any(|one| {
        if one.unified {
            let available = fs::read_to_string(one.mount.join("cgroup.controllers")).unwrap_or_default();
            available.split_whitespace().any(|other| other == name)
        } else {
            // Version 1 calls it by what it limits.
            one.controllers.iter().any(|other| other == if name == "io" { "blkio" } else { name })
        }
    })
}

/// Kills everything in a control group and removes it; a group that does not exist is removed.
///
/// # Errors
/// As [`Cgroup::remove`].
pub fn kill_and_remove(path: &str) -> io::Result<()> {
    Cgroup::new(path)?.remove()
}

/// Names of the control groups below `parent` (for example `/cubicle`) in any hierarchy: what
/// crashed helpers may have left.
///
/// # Errors
/// When the mounts cannot be read.
pub fn list(parent: &str) -> io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for hierarchy in hierarchies()? {
        let directory = hierarchy.mount.join(parent.trim_start_matches('/'));
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// Removes `parent` (for example `/cubicle`) and everything below it, killing what runs there.
///
/// # Errors
/// As [`Cgroup::remove`].
pub fn remove_parent(parent: &str) -> io::Result<()> {
    for name in list(parent)? {
        Cgroup::new(&format!("{parent}/{name}"))?.remove()?;
    }
    Cgroup::new(parent)?.remove()
}

/// Control groups are removed one directory at a time, the deepest first.
fn remove_tree(directory: &Path) {
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

fn write(file: &Path, value: &str) -> io::Result<()> {
    fs::write(file, value)
        .map_err(|error| io::Error::new(error.kind(), format!("writing {value} to {}: {error}", file.display())))
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The value of a key in a file of `key value` lines.
fn read_key(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_both_worlds() {
        let hybrid = parse_mounts(
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
             cgroup /elsewhere cgroup rw,pids 0 0\n",
        );
        assert_eq!(hybrid.len(), 4);
        assert_eq!(hybrid[0].controllers, ["cpu", "cpuacct"]);
        let group = Cgroup { path: "/cubicle/w-1".to_owned(), hierarchies: hybrid };
        assert!(!group.is_unified());
        assert_eq!(group.directory("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct/cubicle/w-1".into()));
        assert_eq!(group.directory("pids"), None);

        let unified = parse_mounts("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n");
        let group = Cgroup { path: "/cubicle/w-1".to_owned(), hierarchies: unified };
        assert!(group.is_unified());
        assert_eq!(group.directory("memory"), Some("/sys/fs/cgroup/cubicle/w-1".into()));
    }

    #[test]
    fn paths_that_leave_the_hierarchy_are_refused() {
        for path in ["", "/", "cubicle", "/cubicle/../..", "/cubicle//x", "/cubicle/./x"] {
            assert!(Cgroup::new(path).is_err(), "{path}");
        }
    }
}
