//! The site's program that writes into the DNS: `HOOK present|cleanup NAME VALUE`.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::messages::Record;
use crate::shown;

/// All that a hook has in its environment.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of its words is kept, in bytes.
const MOST_WORDS: u64 = 8 << 10;
/// How long what it left running may hold its words back.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a hook is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Put a TXT record there, beside others of its name, and return once the authority can see it.
    Present,
    /// Take it away again.
    Cleanup,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        })
    }
}

/// The program's file with every link resolved. It runs as root, so nobody else may be able to change it or put
/// another in its place.
///
/// # Errors
/// Why not, in words that go on after "hook".
pub(crate) fn check(given: &Path) -> Result<PathBuf, String> {
    if !given.is_absolute() {
        return Err(format!("{} is not an absolute path", given.display()));
    }
    let path = given.canonicalize().map_err(|error| format!("{}: {error}", given.display()))?;
    let safe = |part: &Path, writable: u32| {
        let metadata = std::fs::metadata(part).map_err(|error| format!("{}: {error}", part.display()))?;
        if metadata.uid() != 0 || metadata.mode() & writable != 0 {
            return Err(format!(
                "{} runs as root, but {} can be changed by others: it must be root's, and writable for nobody else \
                 (chown root, chmod go-w)",
                given.display(),
                part.display()
            ));
        }
        Ok(metadata)
    };
    let program = safe(&path, 0o022)?;
    if !program.is_file() || program.mode() & 0o100 == 0 {
        return Err(format!("{} is no program that can be run (chmod u+x)", given.display()));
    }
    for (depth, folder) in path.ancestors().skip(1).enumerate() {
        let mode = std::fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?.mode();
        // In a sticky folder further up nobody can move what is root's (inode(7)).
        safe(folder, if depth > 0 && mode & 0o1000 != 0 { 0 } else { 0o022 })?;
    }
    Ok(path)
}

/// Processes that are ended with this, also when nobody waits for them any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that is gone is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs it once.
///
/// # Errors
/// It could not be run, took too long, or ended badly; with its words.
pub(crate) async fn run(program: &Path, timeout: Duration, action: Action, record: &Record) -> Result<(), String> {
    let failed = |why: String| format!("the hook `{} {action} {}` {why}", program.display(), record.name);
    let path = check(program).map_err(|why| format!("the hook {why}"))?;
    let mut child = Command::new(path)
        .arg(action.to_string())
        .args([&record.name, &record.value])
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own, so that all of it can be ended.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let words = child.stderr.take();
    let mut words = tokio::spawn(async move {
        let mut text = Vec::new();
        if let Some(mut stream) = words {
            let _ = (&mut stream).take(MOST_WORDS).read_to_end(&mut text).await;
            // Read on, so that it is not ended by what it writes.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let Ok(ended) = tokio::time::timeout(timeout, child.wait()).await else {
        drop(group);
        let _ = child.wait().await;
        words.abort();
        return Err(failed(format!(
            "took longer than {} seconds and was ended; tls.acme.hookTimeout in site.yaml says how long it may take",
            timeout.as_secs()
        )));
    };
    // What one that ended leaves running is its own affair.
    group.0 = None;
    let status = ended.map_err(|error| failed(format!("was lost: {error}")))?;
    if status.success() {
        words.abort();
        return Ok(());
    }
    let said = match tokio::time::timeout(LAST_WORDS, &mut words).await {
        Ok(Ok(text)) => text,
        _ => {
            words.abort();
            String::new()
        }
    };
    let said = if said.trim().is_empty() { "nothing".to_owned() } else { format!("\"{}\"", shown(&said)) };
    Err(failed(format!("ended with {status}, and said {said}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("hook");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("changed");
        path
    }

    #[test]
    fn a_program_that_others_may_change_is_none() {
        assert!(check(Path::new("/usr/bin/env")).is_ok());
        assert!(check(Path::new("env")).expect_err("refused").contains("absolute"));
        assert!(check(Path::new("/not/there")).is_err());
        assert!(check(Path::new("/etc/passwd")).expect_err("refused").contains("chmod u+x"));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = script(folder.path(), "#!/bin/sh\n");
        check(&path).expect("root's, below a sticky folder");
        let change = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        for (part, mode, good) in [(path.as_path(), 0o775, 0o755), (folder.path(), 0o1777, 0o700)] {
            change(part, mode).expect("changed");
            assert!(check(&path).expect_err("refused").contains("can be changed by others"));
            change(part, good).expect("changed");
        }
        std::os::unix::fs::chown(&path, Some(65_534), None).expect("given away");
        assert!(check(&path).is_err());
    }

    #[tokio::test]
    async fn it_gets_three_arguments_and_its_words_are_told() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let record = Record { name: "_acme-challenge.example.org".to_owned(), value: "$(id) ;x".to_owned() };
        let path = script(folder.path(), "#!/bin/sh\necho \"$# $1 $2 $3 $HOME\" >&2\nexit 3\n");
        let ten = Duration::from_secs(10);
        let why = run(&path, ten, Action::Cleanup, &record).await.expect_err("it ends with 3");
        assert!(why.contains("exit status: 3, and said \"3 cleanup _acme-challenge.example.org $(id) ;x\""), "{why}");
        let path = script(folder.path(), "#!/bin/sh\nsleep 60\n");
        let why = run(&path, Duration::from_millis(200), Action::Present, &record).await.expect_err("too long");
        assert!(why.contains("tls.acme.hookTimeout"), "{why}");
        let path = script(folder.path(), "#!/bin/sh\nhead -c 300000 /dev/zero >&2\n");
        run(&path, ten, Action::Present, &record).await.expect("a talkative one is no failure");
    }
}
