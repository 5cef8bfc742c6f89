//! The engine's side of an order: it starts the process that speaks with the authority, runs the hook, and keeps what
//! came of it.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::certificate::{Leaf, Wanted, joined};
use crate::files::{Account, Files};
use crate::hook::{self, Action};
use crate::messages::{Cause, Customer, Failure, MOST_LINE, Record, Request, Sealed, Told, Work};
use crate::names::Names;
use crate::settings::Settings;
use crate::shown;

/// How long the process may say nothing: it waits up to two minutes for an authority, twice.
const SILENCE: Duration = Duration::from_secs(300);
/// How often an account may be told in one order: with changed contacts, and as another when it was lost.
const MOST_ACCOUNTS: u32 = 2;
/// How many records that could not be taken away are remembered.
const MOST_LEFT: usize = 20;
/// The last second that has a date of four digits (RFC 3339).
const LAST_SECOND: i64 = 253_402_300_799;

/// What the authority said about when to replace a certificate.
pub(crate) enum Said {
    /// Between these times; ask again after so many seconds.
    Window(i64, i64, u64),
    /// Nothing.
    Nothing,
}

/// Everything that an order needs.
#[derive(Debug)]
pub(crate) struct Orders {
    /// This very program.
    pub(crate) program: PathBuf,
    /// The site's settings.
    pub(crate) settings: Settings,
    /// The names to order.
    pub(crate) names: Names,
    /// Where it is kept.
    pub(crate) files: Files,
}

impl Orders {
    /// Orders a certificate and keeps it. Whatever happens, the hook is told to take away what it has put into the DNS.
    pub(crate) async fn order(&self, replaces: Option<String>) -> Result<Leaf, Failure> {
        // What an engine left that was killed in the middle.
        self.clean_up().await;
        let ordered = self.exchange(replaces).await;
        self.clean_up().await;
        ordered
    }

    /// When the authority wants this certificate replaced.
    pub(crate) async fn window(&self, certificate: &str) -> Result<Said, Failure> {
        let mut talk = self.begin(Work::Window { certificate: certificate.to_owned() }).await?;
        match talk.next().await? {
            // A window that ends before it begins is none (RFC 9773, section 4.2).
            Told::Window { start, end, again } if (0..=end).contains(&start) && end <= LAST_SECOND => {
                Ok(Said::Window(start, end, again))
            }
            Told::Window { .. } | Told::NoWindow => Ok(Said::Nothing),
            Told::Failed(failure) => Err(Failure::new(failure.cause, shown(&failure.what))),
            _ => Err(confused()),
        }
    }

    async fn exchange(&self, replaces: Option<String>) -> Result<Leaf, Failure> {
        let wanted = Wanted::new(&self.names).map_err(|error| machine("the key cannot be made", &error))?;
        let names = self.names.all().to_vec();
        let mut talk = self.begin(Work::Order { names, request: wanted.request.clone(), replaces }).await?;
        let (mut presented, mut accounts, mut lost) = (false, 0, false);
        loop {
            match talk.next().await? {
                Told::Account(credentials) if accounts < MOST_ACCOUNTS => {
                    accounts += 1;
                    let account = Account {
                        directory: self.settings.directory.clone(),
                        contacts: self.settings.contacts.clone(),
                        credentials,
                    };
                    if self.files.account(&account.directory).is_ok_and(|known| known.is_none()) {
                        // What is there is another authority's, and would be taken for this one's.
                        self.files.remove_certificate().map_err(|error| {
                            machine("the certificate of another authority cannot be removed", &error)
                        })?;
                    }
                    self.files.keep_account(&account).map_err(|error| machine("the account cannot be kept", &error))?;
                    tracing::info!(directory = %self.settings.directory, "the authority has the account");
                }
                Told::AccountLost if !lost => {
                    lost = true;
                    tracing::warn!(
                        directory = %self.settings.directory,
                        "the authority does not know the account any more; another is registered"
                    );
                }
                Told::Present(records) if !presented => {
                    presented = true;
                    self.present(&records).await?;
                    talk.say(&true).await?;
                }
                Told::Certificate(chain) => {
                    let (text, leaf) = joined(&wanted, &chain, &self.names).map_err(|why| {
                        Failure::new(Cause::Refused, format!("what the authority sent cannot be used: {why}"))
                    })?;
                    self.files
                        .keep_certificate(&text)
                        .map_err(|error| machine("the certificate cannot be kept", &error))?;
                    return Ok(leaf);
                }
                Told::Failed(failure) => return Err(Failure::new(failure.cause, shown(&failure.what))),
                _ => return Err(confused()),
            }
        }
    }

    /// Runs the hook for each record. What the other process asks for is no more than an order needs, or it is refused.
    async fn present(&self, records: &[Record]) -> Result<(), Failure> {
        // A digest of SHA-256 in base64url (RFC 8555, section 8.4).
        let is_value = |value: &str| {
            value.len() == 43 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let good = records.iter().all(|record| self.names.is_record(&record.name) && is_value(&record.value));
        if !good || records.len() > self.names.all().len() {
            return Err(Failure::new(Cause::Machine, "records were to be presented that no order needs"));
        }
        let mut all = self.files.presented().unwrap_or_default();
        all.extend_from_slice(records);
        self.files.keep_presented(&all).map_err(|error| machine("the records cannot be kept", &error))?;
        for record in records {
            tracing::info!(name = %record.name, "a record is put into the DNS");
            hook::run(&self.settings.hook, self.settings.hook_timeout, Action::Present, record)
                .await
                .map_err(|why| Failure::new(Cause::Hook, why))?;
        }
        Ok(())
    }

    /// Has the hook take away what may be in the DNS. One that fails is told, and the hook asked again with the next order
    /// and at the next start; nothing waits for it.
    pub(crate) async fn clean_up(&self) {
        let records = self.files.presented().unwrap_or_else(|error| {
            tracing::warn!(%error, "records that may be in the DNS are not known any more");
            Vec::new()
        });
        let mut left = Vec::new();
        for record in records.into_iter().rev() {
            let ended = hook::run(&self.settings.hook, self.settings.hook_timeout, Action::Cleanup, &record).await;
            if let Err(problem) = ended {
                tracing::warn!(%problem, name = %record.name, "a record may be in the DNS still");
                if left.len() < MOST_LEFT {
                    left.insert(0, record);
                }
            }
        }
        if let Err(error) = self.files.keep_presented(&left) {
            tracing::warn!(%error, "records will be taken away once more");
        }
    }

    async fn begin(&self, work: Work) -> Result<Talk, Failure> {
        let account = self
            .files
            .account(&self.settings.directory)
            .map_err(|error| machine("tls/account.json cannot be read", &error))?;
        let request = Request {
            directory: self.settings.directory.clone(),
            roots: self.settings.roots.clone(),
            contacts: self.settings.contacts.clone(),
            contacts_changed: account.as_ref().is_some_and(|account| account.contacts != self.settings.contacts),
            external_account: self
                .settings
                .external_account
                .as_ref()
                .map(|account| Customer { key_id: account.key_id.clone(), key: Sealed(account.key.clone()) }),
            account: account.map(|account| account.credentials),
            work,
        };
        let mut child = Command::new(&self.program)
            .arg("internal-acme")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| machine("the process that asks the authority cannot be started", &error))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(Cause::Machine, "the process that asks the authority has no pipes"));
        };
        let mut talk = Talk { _child: child, to, from: BufReader::new(from) };
        talk.say(&request).await?;
        Ok(talk)
    }
}

/// The process that speaks with the authority. It ends when this is dropped.
struct Talk {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Talk {
    async fn say(&mut self, what: &impl Serialize) -> Result<(), Failure> {
        let lost = |error: io::Error| machine("the process that asks the authority ended", &error);
        let mut line = serde_json::to_vec(what).map_err(|error| lost(error.into()))?;
        line.push(b'\n');
        self.to.write_all(&line).await.map_err(lost)?;
        self.to.flush().await.map_err(lost)
    }

    async fn next(&mut self) -> Result<Told, Failure> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.from).take(MOST_LINE as u64);
        let read = tokio::time::timeout(SILENCE, bounded.read_until(b'\n', &mut line)).await;
        read.map_err(|_| Failure::new(Cause::Unreachable, "the authority is waited for too long"))?
            .map_err(|error| machine("the process that asks the authority ended", &error))?;
        serde_json::from_slice(&line).map_err(|_| confused())
    }
}

fn machine(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Cause::Machine, format!("{what}: {error}"))
}

fn confused() -> Failure {
    Failure::new(Cause::Machine, "the process that asks the authority ended, or said what it should not")
}

#[cfg(test)]
mod tests;
