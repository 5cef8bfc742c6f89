//! The log of decisions: one JSON object per line.
//!
//! A workspace decides how many lines are written, so the file is bounded: its first half is
//! kept for good, and when the second half is full it is emptied and begun again. Flooding thus
//! hides neither how it began nor what comes last, and a line says what was dropped.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::sync::Mutex;

use serde::Serialize;

use crate::config::LogDetail;
use crate::refusal::Refusal;
use crate::target::Target;

/// The size that the log never exceeds by more than two lines, in bytes.
const LIMIT: u64 = 8 << 20;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    /// `allowed` (connected), `refused` (by a rule), `failed` (could not), `dropped` (lines).
    verdict: &'static str,
    /// Who asked, where several share the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    host: &'a str,
    port: Option<u16>,
    /// The dialled address, or the one that decided.
    address: Option<IpAddr>,
    reason: &'a str,
}

/// The log.
#[derive(Debug)]
pub struct Journal {
    detail: LogDetail,
    file: Mutex<Bounded>,
}

#[derive(Debug)]
struct Bounded {
    file: File,
    /// Present length; `None` for a pipe, which has no length to bound.
    length: Option<u64>,
    limit: u64,
    /// Where the second half begins, once it does.
    half: Option<u64>,
    /// Whether that is amid a line: an earlier proxy of this workspace wrote the file.
    torn: bool,
    /// Lines in the second half.
    lines: u64,
}

impl Journal {
    /// A log at the end of this file.
    pub fn new(file: File, detail: LogDetail) -> io::Result<Self> {
        Self::with_limit(file, detail, LIMIT)
    }

    fn with_limit(mut file: File, detail: LogDetail, limit: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let length = if metadata.is_file() { Some(file.seek(SeekFrom::End(0))?) } else { None };
        let half = length.filter(|length| *length >= limit / 2).map(|_| limit / 2);
        let torn = half.is_some();
        Ok(Self { detail, file: Mutex::new(Bounded { file, length, limit, half, torn, lines: 0 }) })
    }

    pub(crate) fn allowed(&self, workspace: Option<&str>, target: &Target, address: IpAddr) {
        if self.detail == LogDetail::All {
            self.write(&Line {
                time: now(),
                verdict: "allowed",
                workspace,
                rule: None,
                host: &target.host.to_string(),
                port: Some(target.port),
                address: Some(address),
                reason: "connected",
            });
        }
    }

    pub(crate) fn refused(&self, workspace: Option<&str>, refusal: &Refusal) {
        self.write(&Line {
            time: now(),
            verdict: if refusal.rule.failed() { "failed" } else { "refused" },
            workspace,
            rule: Some(refusal.rule.word()),
            host: &refusal.host,
            port: refusal.port,
            address: refusal.address,
            reason: &refusal.reason,
        });
    }

    fn write(&self, line: &Line<'_>) {
        let mut bounded = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk must not stop the workspace's connections: the walls do not depend on
        // the log. The next line is tried again.
        let _ = bounded.append(line);
    }
}

impl Bounded {
    fn append(&mut self, line: &Line<'_>) -> io::Result<()> {
        if self.length.is_some_and(|length| length >= self.limit)
            && let Some(half) = self.half
        {
            self.file.set_len(half)?;
            self.file.seek(SeekFrom::Start(half))?;
            self.length = Some(half);
            if self.torn {
                self.file.write_all(b"\n")?;
                self.torn = false;
                self.half = Some(half + 1);
                self.length = Some(half + 1);
            }
            let reason = format!("{} lines were dropped here to bound this file", self.lines);
            self.lines = 0;
            self.put(&Line {
                time: now(),
                verdict: "dropped",
                workspace: None,
                rule: None,
                host: "",
                port: None,
                address: None,
                reason: &reason,
            })?;
        }
        self.put(line)
    }

    fn put(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        if let Some(length) = &mut self.length {
            *length += text.len() as u64;
            if self.half.is_some() {
                self.lines += 1;
            } else if *length >= self.limit / 2 {
                self.half = Some(*length);
            }
        }
        Ok(())
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Rule;

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("the log");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn hostile_text_stays_one_short_line() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let journal = Journal::new(path.reopen().expect("the file"), LogDetail::All).expect("a journal");
        let hostile = format!("\n{{\"verdict\":\"allowed\"}}\r\u{1b}[2J\u{202e}\0{}", "x".repeat(100_000));
        journal.refused(None, &Refusal::malformed(&hostile, crate::target::Malformed::Label));
        let text = std::fs::read_to_string(path.path()).expect("the log");
        assert!(text.len() < 700 && text.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(lines(path.path())[0]["verdict"], "refused");
    }

    #[test]
    fn flooding_keeps_the_first_and_the_last_lines_and_says_so() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let journal = Journal::with_limit(path.reopen().expect("the file"), LogDetail::All, 8192).expect("a journal");
        for number in 0..1000 {
            journal.refused(None, &Refusal::without_target(Rule::Busy, format!("number {number}")));
            assert!(path.path().metadata().expect("size").len() < 8192 + 512);
        }
        let lines = lines(path.path());
        assert_eq!(lines[0]["reason"], "number 0");
        assert_eq!(lines.last().expect("a line")["reason"], "number 999");
        let dropped = lines.iter().filter(|line| line["verdict"] == "dropped").count();
        assert_eq!(dropped, 1, "one line stands for all that was dropped before it");
    }

    #[test]
    fn a_proxy_that_is_started_again_goes_on_within_the_same_bound() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        for start in 0..5 {
            let file = File::options().append(true).open(path.path()).expect("the file");
            let journal = Journal::with_limit(file, LogDetail::All, 8192).expect("a journal");
            for number in 0..100 {
                journal.refused(None, &Refusal::without_target(Rule::Busy, format!("start {start} number {number}")));
                assert!(path.path().metadata().expect("size").len() < 8192 + 512);
            }
        }
        let text = std::fs::read_to_string(path.path()).expect("the log");
        assert!(text.lines().next().expect("the first").contains("start 0 number 0"));
        assert!(text.lines().last().expect("the last").contains("start 4 number 99"));
        let broken = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err()).count();
        assert!(broken <= 1, "only the line at the cut may be broken: {broken}");
    }

    #[test]
    fn refusals_only_leaves_out_where_a_person_went() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let journal = Journal::new(path.reopen().expect("the file"), LogDetail::Refusals).expect("a journal");
        let target = Target::parse("example.org:443", None).expect("valid");
        journal.allowed(None, &target, "8.8.8.8".parse().expect("address"));
        assert!(lines(path.path()).is_empty());
        journal.refused(None, &Refusal::of(&target, Rule::Port, "no"));
        assert_eq!(lines(path.path()).len(), 1);
    }
}
