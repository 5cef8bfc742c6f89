//! Signed reports: what a site said about a workspace, checkable by whoever has its public key.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use ed25519_dalek::{SECRET_KEY_LENGTH, Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// A report with its Ed25519 signature (RFC 8032) over exactly the text in `report`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    report: String,
    signature: String,
    key: String,
}

impl Envelope {
    /// The only spelling of an envelope that counts: whatever else a file holds, down to white
    /// space, was not written by us.
    fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// What a check found.
#[derive(Debug)]
pub(crate) enum Checked {
    /// The trusted key signed exactly this report.
    Good(Box<Report>),
    /// It did not, and why.
    Bad(String),
    /// The file is whole, but there is no trusted key to hold it against.
    NoKey,
}

/// Signs a report with this site's key, which is made at its first use. Answers the envelope.
pub(crate) fn sign(home: &Path, report: &Report) -> Result<String, Problem> {
    let unwritable = |error: serde_json::Error| Problem::engine(format!("the report is not JSON: {error}"), "");
    let key = match read_key(home)? {
        Some(key) => key,
        None => make_key(home)?,
    };
    let report = serde_json::to_string(report).map_err(unwritable)?;
    let envelope = Envelope {
        signature: STANDARD.encode(key.sign(report.as_bytes()).to_bytes()),
        key: STANDARD.encode(key.verifying_key().to_bytes()),
        report,
    };
    envelope.text().map_err(unwritable)
}

/// Checks an envelope against a key that is trusted for another reason than being in it.
pub(crate) fn check(envelope: &[u8], trusted: Option<&VerifyingKey>) -> Checked {
    let Ok(parsed) = serde_json::from_slice::<Envelope>(envelope) else {
        return Checked::Bad("this is not a signed report, or it was altered".to_owned());
    };
    if parsed.text().ok().as_deref().map(str::as_bytes) != Some(envelope) {
        return Checked::Bad("the file was altered around the report".to_owned());
    }
    let Ok(key) = parse_key(&parsed.key) else {
        return Checked::Bad("the key in it is none".to_owned());
    };
    let signature = STANDARD.decode(&parsed.signature).ok();
    let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
    let text = parsed.report.as_bytes();
    if signature.is_none_or(|signature| key.verify_strict(text, &signature).is_err()) {
        return Checked::Bad("report and signature do not belong together".to_owned());
    }
    match (trusted, serde_json::from_str(&parsed.report)) {
        (Some(trusted), _) if *trusted != key => Checked::Bad("another key than the trusted one signed it".to_owned()),
        (_, Err(error)) => Checked::Bad(format!("what was signed is not a report: {error}")),
        (None, Ok(_)) => Checked::NoKey,
        (Some(_), Ok(report)) => Checked::Good(Box::new(report)),
    }
}

/// A public key as people pass it on: base64 of its 32 bytes.
pub(crate) fn parse_key(text: &str) -> Result<VerifyingKey, Problem> {
    let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).ok_or_else(|| {
        Problem::bad_input("--key is not an Ed25519 public key", "give 32 bytes in base64, as `key` in a signed report")
    })
}

/// This site's public key, when it has one.
pub(crate) fn site_key(home: &Path) -> Result<Option<VerifyingKey>, Problem> {
    Ok(read_key(home)?.map(|key| key.verifying_key()))
}

fn path(home: &Path) -> PathBuf {
    home.join("keys/report.key")
}

fn read_key(home: &Path) -> Result<Option<SigningKey>, Problem> {
    let path = path(home);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(unusable(&path, &error.to_string())),
    };
    let bytes = <[u8; SECRET_KEY_LENGTH]>::try_from(bytes).map_err(|_| unusable(&path, "it does not have 32 bytes"))?;
    Ok(Some(SigningKey::from_bytes(&bytes)))
}

/// Makes the key in a file of its own name and then gives it its place, so that two that sign
/// for the first time at once agree on one key.
fn make_key(home: &Path) -> Result<SigningKey, Problem> {
    let path = path(home);
    let failed = |error: io::Error| unusable(&path, &error.to_string());
    let secret: [u8; SECRET_KEY_LENGTH] = rand::random();
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    let placed = file.write_all(&secret).and_then(|()| file.sync_all()).and_then(|()| {
        fs::hard_link(&fresh, &path).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
    });
    let _ = fs::remove_file(&fresh);
    placed.map_err(failed)?;
    read_key(home)?.ok_or_else(|| unusable(&path, "it is gone again"))
}

fn unusable(path: &Path, why: &str) -> Problem {
    Problem::engine(
        format!("the site's key {} cannot be used: {why}", path.display()),
        "run it as root on the machine that `./up` set up",
    )
}

#[cfg(test)]
mod tests {
    use cubicle_core::report::Summary;

    use super::*;

    fn report() -> Report {
        Report {
            workspace: "w-0123456789ab".parse().expect("valid"),
            engine: cubicle_core::level::EngineKind::Local,
            level: cubicle_core::level::Level::Standard,
            template: "jupyterlab".parse().expect("valid"),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 412,
            summary: Summary { held: 50, ..Summary::default() },
            guarantees: Vec::new(),
        }
    }

    fn site() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir(home.path().join("keys")).expect("a folder");
        home
    }

    #[test]
    fn every_single_altered_byte_fails() {
        let home = site();
        let envelope = sign(home.path(), &report()).expect("signed").into_bytes();
        let key = site_key(home.path()).expect("readable").expect("made by signing");
        assert!(matches!(check(&envelope, Some(&key)), Checked::Good(_)));
        assert!(matches!(check(&envelope, None), Checked::NoKey));
        for position in 0..envelope.len() {
            for flip in [0x01, 0x80] {
                let mut altered = envelope.clone();
                altered[position] ^= flip;
                assert!(matches!(check(&altered, Some(&key)), Checked::Bad(_)), "byte {position} ^ {flip:#x}");
            }
            let mut shorter = envelope.clone();
            shorter.remove(position);
            assert!(matches!(check(&shorter, Some(&key)), Checked::Bad(_)), "without byte {position}");
        }
    }

    #[test]
    fn another_site_signs_nothing_for_us() {
        let (ours, theirs) = (site(), site());
        let envelope = sign(theirs.path(), &report()).expect("signed").into_bytes();
        sign(ours.path(), &report()).expect("makes our key");
        let key = site_key(ours.path()).expect("readable");
        assert!(matches!(check(&envelope, key.as_ref()), Checked::Bad(_)));
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = site();
        let first = make_key(home.path()).expect("made");
        assert_eq!(make_key(home.path()).expect("found").to_bytes(), first.to_bytes());
        let mode = fs::metadata(path(home.path())).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path().join("keys")).expect("a folder").count(), 1);
    }

    /// With a key of small order anybody can sign anything, in the equation that RFC 8032 asks for at least.
    #[test]
    fn a_key_that_proves_nothing_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        // R is the same point and s is zero: s * B = R + k * A for every k.
        let signature = [identity, [0; 32]].concat();
        let envelope = Envelope {
            report: serde_json::to_string(&report()).expect("json"),
            signature: STANDARD.encode(signature),
            key: STANDARD.encode(identity),
        };
        let key = parse_key(&envelope.key).expect("a point on the curve");
        let envelope = envelope.text().expect("json").into_bytes();
        assert!(matches!(check(&envelope, Some(&key)), Checked::Bad(_)));
    }
}
