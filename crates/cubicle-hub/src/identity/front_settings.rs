//! What the site's document says of a front that has signed people in before they come here.

use axum::http::HeaderName;
use cubicle_core::document::{Node, Value};
use openidconnect::url::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::settings::{Reader, is_guarded};

/// The shortest secret, in characters: 128 random bits in hexadecimal digits.
const SHORTEST_SECRET: usize = 32;

/// Headers that begin like a front's and say something else.
const OTHER_MEANING: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-request-id"];

/// A front that says by a header who its user is, and by a secret that it is the front.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Its name in names of accounts: lower-case letters, digits and `-`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The header with whoever it has signed in, by what never changes about them.
    pub user_header: HeaderName,
    /// The header with what they are called; the former when absent.
    pub name_header: Option<HeaderName>,
    /// The header with their groups, separated by commas.
    pub groups_header: Option<HeaderName>,
    /// The header with the secret.
    pub secret_header: HeaderName,
    /// What only the front and the hub know.
    pub secret: SecretString,
    /// Groups that make an administrator.
    pub admin_groups: Vec<String>,
    /// Groups that make an auditor.
    pub auditor_groups: Vec<String>,
    /// Only members of one of these groups may sign in; everybody when empty.
    pub required_groups: Vec<String>,
    /// Where people sign out of it.
    pub sign_out_url: Option<String>,
}

impl Reader<'_> {
    /// Reads the mapping under `front`.
    pub(super) fn front(&mut self, node: &Node) -> Option<FrontSettings> {
        const KEYS: [&str; 11] = [
            "name",
            "title",
            "userHeader",
            "nameHeader",
            "groupsHeader",
            "secretHeader",
            "secretFile",
            "adminGroups",
            "auditorGroups",
            "requiredGroups",
            "signOutUrl",
        ];
        let before = self.mistakes.len();
        let entries = self.entries(node, "front", &KEYS);
        let (mut name, mut title, mut user_header, mut name_header, mut groups_header) = (None, None, None, None, None);
        let (mut secret_header, mut secret, mut sign_out_url) = (None, None, None);
        let (mut admin_groups, mut auditor_groups, mut required_groups) = (Vec::new(), Vec::new(), Vec::new());
        for (key, line, value) in entries {
            match key.as_str() {
                "name" => name = self.text(key, value).filter(|name| self.is_name(*line, name)),
                "title" => title = self.text(key, value),
                "userHeader" => user_header = self.header(key, *line, value),
                "nameHeader" => name_header = self.header(key, *line, value),
                "groupsHeader" => groups_header = self.header(key, *line, value),
                "secretHeader" => secret_header = self.header(key, *line, value),
                "secretFile" => secret = self.secret(key, value).filter(|secret| self.is_long(key, *line, secret)),
                "adminGroups" => admin_groups = self.texts(key, value),
                "auditorGroups" => auditor_groups = self.texts(key, value),
                "requiredGroups" => required_groups = self.texts(key, value),
                "signOutUrl" => sign_out_url = self.text(key, value).filter(|url| self.is_address(key, *line, url)),
                _ => {}
            }
        }
        for key in ["name", "userHeader", "secretFile"] {
            if matches!(node.value, Value::Map(_)) && !entries.iter().any(|(given, _, _)| given == key) {
                self.wrong(node.line, format!("front needs {key}"));
            }
        }
        let by_group = !(admin_groups.is_empty() && auditor_groups.is_empty() && required_groups.is_empty());
        if by_group && groups_header.is_none() {
            self.wrong(node.line, "front names groups and no groupsHeader that tells them");
        }
        let secret_header = secret_header.unwrap_or(HeaderName::from_static("x-cubicle-front"));
        let mut headers = vec![&secret_header];
        for header in [&user_header, &name_header, &groups_header].into_iter().flatten() {
            if headers.contains(&header) {
                self.wrong(node.line, format!("front gives the header {header} two meanings"));
            }
            headers.push(header);
        }
        if self.mistakes.len() > before {
            return None;
        }
        let name = name?;
        Some(FrontSettings {
            title: title.unwrap_or_else(|| name.clone()),
            name,
            user_header: user_header?,
            name_header,
            groups_header,
            secret_header,
            secret: secret?,
            admin_groups,
            auditor_groups,
            required_groups,
            sign_out_url,
        })
    }

    fn header(&mut self, key: &str, line: usize, node: &Node) -> Option<HeaderName> {
        let given = self.text(key, node)?;
        let lower = given.to_ascii_lowercase();
        let good =
            (lower.starts_with("x-") || lower.starts_with("remote-")) && !OTHER_MEANING.contains(&lower.as_str());
        let header = lower.parse().ok().filter(|_| good);
        if header.is_none() {
            self.wrong(
                line,
                format!("{key} must be a header of its own whose name begins with X- or Remote-, like X-Remote-User"),
            );
        }
        header
    }

    fn is_long(&mut self, key: &str, line: usize, secret: &SecretString) -> bool {
        let secret = secret.expose_secret();
        let good = secret.chars().count() >= SHORTEST_SECRET && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            self.wrong(
                line,
                format!(
                    "{key} must hold {SHORTEST_SECRET} or more letters, digits and signs on one line, as \
                     `openssl rand -hex 32` makes them"
                ),
            );
        }
        good
    }

    fn is_address(&mut self, key: &str, line: usize, text: &str) -> bool {
        let good = Url::parse(text).is_ok_and(|url| is_guarded(&url) && url.username().is_empty());
        if !good {
            self.wrong(line, format!("{key} must be an https address; plain http only for a loopback address"));
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::read;
    use secrecy::ExposeSecret as _;

    fn document(secret: &str, more: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), secret).expect("written");
        let text = format!("front:\n  name: gateway\n  secretFile: {}\n{more}", file.path().display());
        (file, text)
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

    #[test]
    fn a_front_shows_a_secret_that_cannot_be_guessed() {
        let (_file, text) = document(SECRET, "  userHeader: X-Remote-User\npasswords: false\n");
        let front = read(&text).expect("valid").front.expect("a front");
        assert_eq!((front.title.as_str(), front.user_header.as_str()), ("gateway", "x-remote-user"));
        assert_eq!(front.secret_header, "x-cubicle-front");
        assert_eq!(front.secret.expose_secret(), SECRET.trim());
        for secret in ["short", "", "0123456789abcdef 0123456789abcdef", "0123456789abcdef\n0123456789abcdef\n"] {
            let (_file, text) = document(secret, "  userHeader: X-Remote-User\n");
            assert!(read(&text).expect_err(secret).what.contains("secretFile"), "{secret}");
        }
    }

    #[test]
    fn a_fronts_mistakes_are_told_with_their_lines() {
        for (more, expected) in [
            ("", "front needs userHeader"),
            ("  userHeader: Cookie\n", ":4: userHeader must be a header of its own"),
            ("  userHeader: X-Forwarded-For\n", ":4: userHeader must be a header of its own"),
            ("  userHeader: 'X-A B'\n", ":4: userHeader must be a header of its own"),
            ("  userHeader: X-A\n  groupsHeader: x-a\n", "front gives the header x-a two meanings"),
            ("  userHeader: X-Cubicle-Front\n", "front gives the header x-cubicle-front two meanings"),
            ("  userHeader: X-A\n  adminGroups: [ops]\n", "no groupsHeader"),
            ("  userHeader: X-A\n  signOutUrl: ftp://a\n", ":5: signOutUrl must be"),
            ("  userHeader: X-A\n  colour: red\n", ":5: front has no key"),
            ("  userHeader: X-A\nportal: {}\n", "a front and a portal"),
            (
                "  userHeader: X-A\nproviders: [{name: gateway, issuer: 'https://a.example.org', clientId: x}]\n",
                "the front is named \"gateway\", too",
            ),
        ] {
            let (_file, text) = document(SECRET, more);
            let problem = read(&text).expect_err(more);
            assert!(problem.what.contains(expected), "{more}: {}", problem.what);
        }
    }
}
