//! One attempt to sign in with a provider, which only the browser that began it can finish.
//!
//! Nothing is kept here, so that any replica can finish what another began: the browser holds a
//! short-lived cookie with a random secret, from which state, nonce and the PKCE verifier are
//! derived together with all that must not change on the way.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::origin::safe_next;
use crate::secret::{self, Digest, Purpose};

/// How long an attempt may take, in seconds: somebody may have to find a second factor.
pub(crate) const LIFETIME: i64 = 10 * 60;

/// What the cookie holds.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    secret: String,
    provider: String,
    /// Seconds since the epoch.
    began: i64,
    next: String,
}

impl Attempt {
    /// A new attempt that leads to `next` when it ends well.
    pub(crate) fn begin(provider: &str, next: &str) -> Self {
        Self {
            secret: secret::generate().expose_secret().to_owned(),
            provider: provider.to_owned(),
            began: Timestamp::now().as_second(),
            next: safe_next(Some(next)),
        }
    }

    /// The cookie's value.
    pub(crate) fn cookie(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a cookie of an attempt with this provider that is not too old.
    pub(crate) fn read(cookie: &str, provider: &str) -> Option<Self> {
        Self::read_at(cookie, provider, Timestamp::now().as_second())
    }

    fn read_at(cookie: &str, provider: &str, now: i64) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let attempt: Self = serde_json::from_slice(&bytes).ok()?;
        let age = now.checked_sub(attempt.began)?;
        ((0..=LIFETIME).contains(&age) && attempt.provider == provider && attempt.secret.len() >= 43).then_some(attempt)
    }

    /// Where to go afterwards: a path on this origin, whatever the cookie says.
    pub(crate) fn next(&self) -> String {
        safe_next(Some(&self.next))
    }

    fn derived(&self, purpose: Purpose) -> String {
        // Lengths first: no two attempts have one text.
        let text = format!(
            "{}:{}:{}:{}:{}:{}",
            self.secret.len(),
            self.secret,
            self.provider.len(),
            self.provider,
            self.began,
            self.next
        );
        Digest::of(purpose, &text).text()
    }

    /// Comes back in the address, by way of the browser.
    pub(crate) fn state(&self) -> String {
        self.derived(Purpose::State)
    }

    /// Comes back in the token, by way of the provider.
    pub(crate) fn nonce(&self) -> String {
        self.derived(Purpose::Nonce)
    }

    /// Proves to the provider that who fetches the token is who began (RFC 7636).
    pub(crate) fn verifier(&self) -> String {
        self.derived(Purpose::Verifier)
    }

    /// Whether a state belongs to this attempt; in constant time.
    pub(crate) fn is_its_state(&self, state: &str) -> bool {
        use subtle::ConstantTimeEq as _;
        self.state().as_bytes().ct_eq(state.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_belongs_to_its_browser_its_provider_and_its_time() {
        let attempt = Attempt::begin("campus", "/account");
        let read = Attempt::read(&attempt.cookie(), "campus").expect("read");
        assert!(read.is_its_state(&attempt.state()));
        assert_eq!((read.nonce(), read.verifier()), (attempt.nonce(), attempt.verifier()));
        assert_eq!(read.next(), "/account");
        assert!(Attempt::read(&attempt.cookie(), "other").is_none());
        assert!(Attempt::read("", "campus").is_none());
        assert!(Attempt::read("e30", "campus").is_none());
        let now = attempt.began;
        assert!(Attempt::read_at(&attempt.cookie(), "campus", now + LIFETIME).is_some());
        assert!(Attempt::read_at(&attempt.cookie(), "campus", now + LIFETIME + 1).is_none());
        assert!(Attempt::read_at(&attempt.cookie(), "campus", now - 1).is_none());
        assert!(!Attempt::begin("campus", "/account").is_its_state(&attempt.state()));
    }

    #[test]
    fn whoever_changes_the_cookie_has_another_state() {
        let attempt = Attempt::begin("campus", "/account");
        for changed in [
            Attempt { next: "/other".to_owned(), ..attempt.clone() },
            Attempt { began: attempt.began + 1, ..attempt.clone() },
            Attempt { provider: "other".to_owned(), ..attempt.clone() },
        ] {
            assert!(!changed.is_its_state(&attempt.state()));
        }
        let planted = Attempt { next: "//evil.example".to_owned(), ..attempt.clone() };
        assert_eq!(planted.next(), "/");
        let three = [attempt.state(), attempt.nonce(), attempt.verifier()];
        assert!(three[0] != three[1] && three[1] != three[2] && three[0] != three[2]);
        assert!(three.iter().all(|text| text.len() == 43), "RFC 7636 asks for 43 letters or more");
    }
}
