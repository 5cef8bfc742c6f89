//! The hub's certificate, ordered and renewed by ACME (RFC 8555) with the DNS challenge, the one that proves a wildcard
//! (baseline requirements of the CA/Browser Forum, 3.2.2.4.19 and 3.2.2.4.20).
//!
//! Two processes share the work. The engine, as root, has the keys' files, the certificate's key, and the site's hook,
//! which writes into the DNS. It starts another for every order (`authority`): that one speaks with the authority and
//! parses what it answers, and has no right, no environment and no file. The engine believes it nothing: a record is
//! presented only below a name that was ordered, and a certificate is taken only when it fits key and names.
#![forbid(unsafe_code)]

mod authority;
mod certificate;
mod files;
mod hook;
mod keep;
mod messages;
mod names;
mod order;
mod schedule;
mod settings;
mod web;

pub use authority::run;
pub use files::Files;
pub use keep::Keeper;
pub use names::Names;
pub use settings::{Settings, Surroundings};

/// What somebody else wrote, for a line of the log or an error: escaped and bounded.
fn shown(text: &str) -> String {
    const MOST: usize = 600;
    let mut shown = String::new();
    for character in text.trim().chars().take(MOST) {
        // Quotes are no danger, and problems are quoted already.
        match character {
            '"' | '\'' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.trim().chars().count() > MOST {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn the_words_of_others_are_one_line() {
        assert_eq!(shown(" a\nb\u{1b}[2J \"c\" \n"), "a\\nb\\u{1b}[2J \"c\"");
        assert!(shown(&"x".repeat(5000)).chars().count() == 601);
    }
}
