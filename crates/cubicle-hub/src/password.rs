//! Passwords of local accounts: argon2id, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use cubicle_core::problem::{Problem, ProblemKind};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many hashes are computed at once: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// How long a sign-in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest password (NIST SP 800-63B-4, 3.1.1.2, the floor); the page recommends longer ones.
const SHORTEST: usize = 8;
/// Longest password, so that nobody makes the hub hash megabytes.
const LONGEST: usize = 1024;

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    /// Checked when the account has no hash, so that unknown names take as long as known ones.
    decoy: String,
}

impl Passwords {
    /// Computes the decoy.
    pub(crate) fn new() -> Result<Self, Problem> {
        let decoy = hash_now(&crate::secret::generate())?;
        Ok(Self { turns: Arc::new(Semaphore::new(AT_ONCE)), decoy })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::new(
                ProblemKind::Exhausted,
                "too many people are signing in at this moment",
                "try again in a minute",
            )),
        }
    }

    /// Whether the password is the one of `hash`; without a hash, takes as long and says no.
    pub(crate) async fn check(&self, hash: Option<String>, password: SecretString) -> Result<bool, Problem> {
        let turn = self.turn().await?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = blocking(move || {
            let _turn = turn;
            // Over-long input is cut for the hash and refused after, in the same time.
            let text = password.expose_secret().as_bytes();
            let parsed = PasswordHash::new(&hash).map_err(broken)?;
            let matches = Argon2::default().verify_password(&text[..text.len().min(LONGEST * 4)], &parsed).is_ok();
            Ok(matches && text.len() <= LONGEST * 4)
        })
        .await?;
        Ok(matches && known)
    }

    /// Hashes a new password after checking the rule on its length.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Problem> {
        let length = password.expose_secret().chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Problem::bad_input(
                format!("the password has {length} characters; the rule is {SHORTEST} to {LONGEST}"),
                "choose a few words that belong to you",
            ));
        }
        let turn = self.turn().await?;
        blocking(move || {
            let _turn = turn;
            hash_now(&password)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Problem::engine(format!("password: {error}"), "this is a bug; please report it")))
}

fn hash_now(password: &SecretString) -> Result<String, Problem> {
    Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string()).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Problem {
    Problem::engine(format!("the password's hash cannot be used: {error}"), "set the password again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_passes() {
        let passwords = Passwords::new().expect("passwords");
        let hash = passwords.hash(SecretString::from("correct horse battery")).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(
            passwords.check(Some(hash.clone()), SecretString::from("correct horse battery")).await.expect("checked")
        );
        assert!(!passwords.check(Some(hash), SecretString::from("wrong")).await.expect("checked"));
        assert!(!passwords.check(None, SecretString::from("correct horse battery")).await.expect("checked"));
    }

    #[tokio::test]
    async fn lengths_have_bounds() {
        let passwords = Passwords::new().expect("passwords");
        assert!(passwords.hash(SecretString::from("short")).await.is_err());
        assert!(passwords.hash(SecretString::from("a".repeat(1025))).await.is_err());
        assert!(passwords.hash(SecretString::from("\u{e9}".repeat(1024))).await.is_ok());
        let long = SecretString::from("a".repeat(1 << 20));
        assert!(!passwords.check(None, long).await.expect("checked"));
    }
}
