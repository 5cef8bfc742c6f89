//! The site's two keys: one opens gates, one makes the notebooks' tokens.

use std::fmt;

use cubicle_core::problem::Problem;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::Sha256;

/// The key that opens gates; the controller alone has it.
#[derive(Clone)]
pub struct GateKey(SigningKey);

/// The key that notebooks' tokens are made of; hub and controller have it, so that no token is
/// ever written into an object.
#[derive(Clone)]
pub struct RouteKey([u8; 32]);

impl fmt::Debug for GateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GateKey")
    }
}

impl fmt::Debug for RouteKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RouteKey")
    }
}

fn parse(text: &str, what: &str) -> Result<[u8; 32], Problem> {
    let text = text.trim();
    let digit = |at: usize| text.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(at).filter(|_| text.len() == 64).ok_or_else(|| {
            // Never the text itself: it may be most of a key.
            Problem::bad_input(
                format!("the {what} key is not 64 hexadecimal digits"),
                "make one with `openssl rand -hex 32`",
            )
        })?;
    }
    Ok(bytes)
}

impl GateKey {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Ok(Self(SigningKey::from_bytes(&parse(text, "gate")?)))
    }

    /// What gates know of it.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }
}

impl RouteKey {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Ok(Self(parse(text, "route")?))
    }

    /// The notebook's token: another one for every proof.
    pub fn token(&self, workspace_uid: &str, nonce: &str) -> SecretString {
        self.derived(b"cubicle notebook token 1\0", workspace_uid, nonce)
    }

    /// What a workspace shows to the egress proxy: another one for every proof.
    pub(crate) fn egress_secret(&self, workspace_uid: &str, nonce: &str) -> SecretString {
        self.derived(b"cubicle egress secret 1\0", workspace_uid, nonce)
    }

    fn derived(&self, purpose: &[u8], workspace_uid: &str, nonce: &str) -> SecretString {
        // A key of 32 bytes is always taken; no key at all would give no token.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return SecretString::from(String::new()) };
        mac.update(purpose);
        mac.update(workspace_uid.as_bytes());
        mac.update(b"\0");
        mac.update(nonce.as_bytes());
        let bytes = mac.finalize().into_bytes();
        SecretString::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn keys_are_read_and_never_shown() {
        let text = "07".repeat(32);
        assert!(GateKey::parse(&format!("{text}\n")).is_ok());
        for bad in ["", "07", &"zz".repeat(32), &"07".repeat(33)] {
            assert!(!GateKey::parse(bad).expect_err("refused").what.contains("07"));
        }
        let key = RouteKey::parse(&text).expect("valid");
        assert!(!format!("{key:?}").contains('7'));
        let token = |uid: &str, nonce: &str| key.token(uid, nonce).expose_secret().to_owned();
        assert_eq!(token("a", "b").len(), 64);
        assert_ne!(token("a", "b"), token("a", "c"));
        assert_ne!(token("ab", "c"), token("a", "bc"));
        assert_ne!(token("a", "b"), key.egress_secret("a", "b").expose_secret());
    }
}
