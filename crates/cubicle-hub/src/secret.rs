//! Random secrets and the digests under which they are kept.
//!
//! Whoever reads `hub.db` learns no secret that opens anything: only digests are stored. All
//! secrets have 256 random bits, so a plain SHA-256 is enough (no salt, no stretching).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

/// What a secret is for. It is part of the digest, so that a secret of one purpose is never
/// accepted for another: the hub's cookie can never be a workspace's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The hub's own cookie.
    Session,
    /// The cookie of one workspace's origin.
    Grant,
    /// The single-use ticket that is exchanged for a grant.
    Ticket,
    /// A one-time sign-in link.
    Link,
    /// An API token.
    Token,
    /// What a provider sends back by way of the browser; derived, never stored.
    State,
    /// What a provider puts into its token; derived, never stored.
    Nonce,
    /// The PKCE verifier; derived, never stored.
    Verifier,
    /// What was used up: attempts to sign in, and tokens that end sessions.
    Used,
    /// What the open connections of a portal's user hang on; derived, never stored.
    Portal,
    /// What forms carry; derived from the session's or visitor's cookie, never stored.
    Form,
}

/// The digest of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of `secret` for one purpose.
    pub(crate) fn of(purpose: Purpose, secret: &str) -> Self {
        let label: &[u8] = match purpose {
            Purpose::Session => b"cubicle session\0",
            Purpose::Grant => b"cubicle grant\0",
            Purpose::Ticket => b"cubicle ticket\0",
            Purpose::Link => b"cubicle link\0",
            Purpose::Token => b"cubicle token\0",
            Purpose::State => b"cubicle state\0",
            Purpose::Nonce => b"cubicle nonce\0",
            Purpose::Verifier => b"cubicle verifier\0",
            Purpose::Used => b"cubicle used\0",
            Purpose::Portal => b"cubicle portal\0",
            Purpose::Form => b"cubicle form\0",
        };
        let mut hasher = Sha256::new();
        hasher.update(label);
        hasher.update(secret.as_bytes());
        Self(hasher.finalize().into())
    }

    /// The bytes, for a database column.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a database column.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest in hexadecimal, for a name.
    pub(crate) fn hexadecimal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads [`Digest::hexadecimal`].
    pub(crate) fn from_hexadecimal(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digest as text.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// A new secret: 256 random bits as 43 URL-safe letters.
pub(crate) fn generate() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// What forms carry so that no other site can post them: a digest of the cookie's secret,
/// which other sites cannot read.
pub(crate) fn form_token(cookie: &str) -> String {
    Digest::of(Purpose::Form, cookie).text()
}

/// Compares what a form carried with what it should carry, in constant time.
pub(crate) fn form_token_matches(cookie: &str, given: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    form_token(cookie).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_never_share_a_digest() {
        let purposes = [
            Purpose::Session,
            Purpose::Grant,
            Purpose::Ticket,
            Purpose::Link,
            Purpose::Token,
            Purpose::State,
            Purpose::Nonce,
            Purpose::Verifier,
            Purpose::Used,
            Purpose::Form,
        ];
        for (position, one) in purposes.into_iter().enumerate() {
            for other in purposes.into_iter().skip(position + 1) {
                assert_ne!(Digest::of(one, "secret"), Digest::of(other, "secret"), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn form_tokens_hang_on_the_cookie() {
        assert!(form_token_matches("a", &form_token("a")));
        assert!(!form_token_matches("a", &form_token("b")));
        assert!(!form_token_matches("a", ""));
    }
}
