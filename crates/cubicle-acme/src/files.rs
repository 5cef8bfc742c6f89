//! What is kept: the certificate with its key for the hub, and the rest for root alone.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::messages::{Record, Sealed};

/// How the names of files begin that are being written.
const DRAFT: &str = ".new-";

/// The files of one installation, in a folder that is root's and that the hub may look into.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
    reader: u32,
}

/// An account at an authority.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// The directory of the authority where it was registered.
    pub(crate) directory: String,
    /// Where it may write to.
    pub(crate) contacts: Vec<String>,
    /// Its key and its name there.
    pub(crate) credentials: Sealed,
}

/// What the authority said of when to replace a certificate (RFC 9773, section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wishes {
    /// Which certificate.
    pub(crate) certificate: String,
    /// From when until when, in seconds since 1970; nothing if it has no wishes.
    pub(crate) window: Option<(i64, i64)>,
    /// The second in it that was drawn.
    pub(crate) drawn: Option<i64>,
    /// When it is asked again.
    pub(crate) ask: i64,
}

impl Files {
    /// The files in this folder; certificate and key are readable for this group.
    pub fn new(folder: impl Into<PathBuf>, reader: u32) -> Self {
        Self { folder: folder.into(), reader }
    }

    /// Key and chain of the hub, in one file, so that they change at once.
    pub fn hub(&self) -> PathBuf {
        self.folder.join("hub.pem")
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    fn wishes_file(&self) -> PathBuf {
        self.folder.join("renewal.json")
    }

    fn presented_file(&self) -> PathBuf {
        self.folder.join("presented.json")
    }

    /// Key and chain, if there are any.
    pub(crate) fn certificate(&self) -> io::Result<Option<SecretString>> {
        Ok(text(&self.hub())?.map(SecretString::from))
    }

    pub(crate) fn keep_certificate(&self, text: &SecretString) -> io::Result<()> {
        self.write(&self.hub(), text.expose_secret().as_bytes(), Some(self.reader))
    }

    pub(crate) fn remove_certificate(&self) -> io::Result<()> {
        remove(&self.hub())
    }

    /// Removes what an engine left that was killed while it wrote.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The account at this authority, if there is one.
    pub(crate) fn account(&self, directory: &str) -> io::Result<Option<Account>> {
        Ok(json::<Account>(&self.account_file())?.filter(|account| account.directory == directory))
    }

    pub(crate) fn keep_account(&self, account: &Account) -> io::Result<()> {
        self.write(&self.account_file(), &serde_json::to_vec(account)?, None)
    }

    /// What the authority said of this certificate.
    pub(crate) fn wishes(&self, certificate: &str) -> io::Result<Option<Wishes>> {
        Ok(json::<Wishes>(&self.wishes_file())?.filter(|wishes| wishes.certificate == certificate))
    }

    pub(crate) fn keep_wishes(&self, wishes: &Wishes) -> io::Result<()> {
        self.write(&self.wishes_file(), &serde_json::to_vec(wishes)?, None)
    }

    /// Records that may be in the DNS still.
    pub(crate) fn presented(&self) -> io::Result<Vec<Record>> {
        Ok(json(&self.presented_file())?.unwrap_or_default())
    }

    pub(crate) fn keep_presented(&self, records: &[Record]) -> io::Result<()> {
        if !records.is_empty() {
            return self.write(&self.presented_file(), &serde_json::to_vec(records)?, None);
        }
        remove(&self.presented_file())
    }

    /// Writes beside, then renames: whoever reads sees the old file or the new one.
    fn write(&self, path: &Path, bytes: &[u8], reader: Option<u32>) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        if let Some(group) = reader {
            fchown(file.as_file(), None, Some(group))?;
            file.as_file().set_permissions(Permissions::from_mode(0o640))?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn text(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(text) = text(path)? else { return Ok(None) };
    Ok(Some(serde_json::from_str(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_secrets_are_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(folder.path(), rustix::process::getegid().as_raw());
        assert!(files.certificate().expect("read").is_none() && files.account("a").expect("read").is_none());
        files.keep_certificate(&SecretString::from("pem")).expect("written");
        assert_eq!(files.certificate().expect("read").expect("there").expose_secret(), "pem");
        assert_eq!(fs::metadata(files.hub()).expect("there").permissions().mode() & 0o777, 0o640);
        let account = Account {
            directory: "a".to_owned(),
            contacts: Vec::new(),
            credentials: Sealed(SecretString::from("word")),
        };
        assert!(!format!("{account:?}").contains("word"));
        files.keep_account(&account).expect("written");
        assert_eq!(fs::metadata(files.account_file()).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(files.account("a").expect("read").expect("there").credentials.0.expose_secret(), "word");
        assert!(files.account("another authority").expect("read").is_none());
        let record = Record { name: "n".to_owned(), value: "v".to_owned() };
        files.keep_presented(std::slice::from_ref(&record)).expect("written");
        assert_eq!(files.presented().expect("read"), [record]);
        for _ in 0..2 {
            files.keep_presented(&[]).expect("removed");
        }
        assert!(files.presented().expect("read").is_empty());
        fs::write(folder.path().join(".new-half"), "key").expect("written");
        files.sweep().expect("swept");
        files.remove_certificate().expect("removed");
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("read").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["account.json"]);
    }
}
