//! Who may sign in, and by whom they are known: the site's document, read in one go with all of
//! its mistakes.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::document::{self, Node, Value};
use cubicle_core::problem::Problem;
use openidconnect::url::{self, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;

use super::front_settings::FrontSettings;
use super::portal_settings::PortalSettings;
use crate::accounting::Prices;
use crate::caps::Caps;

/// How people sign in.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Whether name and password are taken.
    pub passwords: bool,
    /// Whom else the hub believes, in the order of their buttons.
    pub providers: Vec<ProviderSettings>,
    /// Who has signed people in before they come here.
    pub front: Option<FrontSettings>,
    /// A portal that shows workspaces on its own origin.
    pub portal: Option<PortalSettings>,
    /// What people may have at once.
    pub caps: Caps,
    /// What an hour costs.
    pub prices: Prices,
}

impl Default for SignIn {
    /// One machine: name and password, and nobody else.
    fn default() -> Self {
        Self {
            passwords: true,
            providers: Vec::new(),
            front: None,
            portal: None,
            caps: Caps::default(),
            prices: Prices::default(),
        }
    }
}

/// An OpenID Connect provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its name in addresses: lower-case letters, digits and `-`.
    pub name: String,
    /// What its button says.
    pub title: String,
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there; none for a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    /// Who vouches for its certificate; whom the machine trusts, when empty.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that people are called by.
    pub name_claim: String,
    /// The claim with groups, a list of texts or a text.
    pub groups_claim: String,
    /// The claim with roles.
    pub roles_claim: String,
    /// Values of that claim that make an administrator.
    pub admin_roles: Vec<String>,
    /// Values of that claim that make an auditor.
    pub auditor_roles: Vec<String>,
    /// Only members of one of these groups may sign in; everybody when empty.
    pub required_groups: Vec<String>,
    /// By how much its clock may differ from ours.
    pub clock_skew: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
}

impl SignIn {
    /// Reads the site's document.
    ///
    /// # Errors
    /// All mistakes at once, each with file and line.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problem::bad_input(
                format!("{}: {error}", path.display()),
                "the file must be there and readable for the hub's user",
            )
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Problem> {
        let mut reader = Reader(document::Reader::new(path));
        let settings = match document::read(text) {
            Ok(node) => reader.sign_in(&node),
            Err(broken) => {
                reader.wrong(broken.line, broken.what);
                Self::default()
            }
        };
        match reader.0.told() {
            None => Ok(settings),
            Some(mistakes) => Err(Problem::bad_input(
                mistakes,
                "docs/sign-in.md lists every key; nothing is started until all of these are mended",
            )),
        }
    }
}

/// Reads the document and remembers what is wrong with it.
pub(super) struct Reader<'path>(document::Reader<'path>);

impl<'path> Deref for Reader<'path> {
    type Target = document::Reader<'path>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Reader<'_> {
    fn seconds(&mut self, key: &str, node: &Node, most: u64) -> Option<Duration> {
        let given = match &node.value {
            Value::Text { text, plain: true } => text.parse::<u64>().ok(),
            _ => None,
        };
        match given {
            Some(seconds) if seconds <= most => Some(Duration::from_secs(seconds)),
            _ => {
                self.wrong(node.line, format!("{key} must be a whole number of seconds up to {most}"));
                None
            }
        }
    }

    fn sign_in(&mut self, node: &Node) -> SignIn {
        let mut settings = SignIn::default();
        const KEYS: [&str; 6] = ["passwords", "providers", "front", "portal", "limits", "prices"];
        let (mut list, mut portal, mut front) = (None, None, None);
        for (key, _, value) in self.entries(node, "the document", &KEYS) {
            match key.as_str() {
                "passwords" => settings.passwords = self.switch(key, value).unwrap_or(true),
                "providers" => list = Some(value),
                "front" => front = Some(value),
                "portal" => portal = Some(value),
                "prices" => settings.prices = self.prices(value),
                "limits" => settings.caps = self.caps(value),
                _ => {}
            }
        }
        settings.front = front.and_then(|front| self.front(front));
        if let (Some(_), Some(portal)) = (front, portal) {
            // Each would have its own say in who a header names.
            self.wrong(
                portal.line,
                "a front and a portal cannot both be given: both say by a header who their user is",
            );
        }
        let somebody = settings.passwords || front.is_some();
        let Some(list) = list else {
            if !somebody {
                self.wrong(node.line, "passwords is false and there is no provider: nobody could sign in");
            }
            if let Some(portal) = portal {
                self.portal(portal, &[]);
            }
            return settings;
        };
        let Value::List(items) = &list.value else {
            self.wrong(list.line, "providers must be a list");
            return settings;
        };
        if items.is_empty() && !somebody {
            self.wrong(list.line, "passwords is false and there is no provider: nobody could sign in");
        }
        for item in items {
            let Some(provider) = self.provider(item) else { continue };
            if settings.providers.iter().any(|other| other.name == provider.name) {
                self.wrong(item.line, format!("two providers are named \"{}\"", provider.name));
            } else if settings.providers.iter().any(|other| other.issuer == provider.issuer) {
                // Two doors to one issuer could disagree about who is an administrator.
                self.wrong(item.line, format!("two providers have the issuer \"{}\"", provider.issuer));
            } else if settings.front.as_ref().is_some_and(|front| front.name == provider.name) {
                self.wrong(item.line, format!("the front is named \"{}\", too", provider.name));
            }
            settings.providers.push(provider);
        }
        if let Some(portal) = portal {
            let known: Vec<_> =
                settings.providers.iter().map(|one| (one.name.clone(), one.client_id.clone())).collect();
            settings.portal = self.portal(portal, &known);
        }
        settings
    }

    fn provider(&mut self, node: &Node) -> Option<ProviderSettings> {
        const KEYS: [&str; 15] = [
            "name",
            "title",
            "issuer",
            "clientId",
            "clientSecretFile",
            "authorityFile",
            "scopes",
            "nameClaim",
            "groupsClaim",
            "rolesClaim",
            "adminRoles",
            "auditorRoles",
            "requiredGroups",
            "clockSkewSeconds",
            "timeoutSeconds",
        ];
        let before = self.mistakes.len();
        let entries = self.entries(node, "a provider", &KEYS);
        let (mut name, mut issuer, mut client_id) = (None, None, None);
        let mut provider = ProviderSettings {
            name: String::new(),
            title: String::new(),
            issuer: String::new(),
            client_id: String::new(),
            client_secret: None,
            authorities: Vec::new(),
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            name_claim: "preferred_username".to_owned(),
            groups_claim: "groups".to_owned(),
            roles_claim: "roles".to_owned(),
            admin_roles: Vec::new(),
            auditor_roles: Vec::new(),
            required_groups: Vec::new(),
            clock_skew: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        };
        for (key, line, value) in entries {
            match key.as_str() {
                "name" => name = self.text(key, value).filter(|name| self.is_name(*line, name)),
                "title" => provider.title = self.text(key, value).unwrap_or_default(),
                "issuer" => issuer = self.text(key, value).filter(|issuer| self.is_issuer(*line, issuer)),
                "clientId" => client_id = self.text(key, value),
                "clientSecretFile" => provider.client_secret = self.secret(key, value),
                "authorityFile" => provider.authorities = self.authorities(key, value),
                "scopes" => provider.scopes = self.texts(key, value),
                "nameClaim" => provider.name_claim = self.text(key, value).unwrap_or_default(),
                "groupsClaim" => provider.groups_claim = self.text(key, value).unwrap_or_default(),
                "rolesClaim" => provider.roles_claim = self.text(key, value).unwrap_or_default(),
                "adminRoles" => provider.admin_roles = self.texts(key, value),
                "auditorRoles" => provider.auditor_roles = self.texts(key, value),
                "requiredGroups" => provider.required_groups = self.texts(key, value),
                "clockSkewSeconds" => {
                    provider.clock_skew = self.seconds(key, value, 300).unwrap_or(provider.clock_skew);
                }
                "timeoutSeconds" => {
                    provider.timeout =
                        self.seconds(key, value, 60).unwrap_or(provider.timeout).max(Duration::from_secs(1));
                }
                _ => {}
            }
        }
        for key in ["name", "issuer", "clientId"] {
            if matches!(node.value, Value::Map(_)) && !entries.iter().any(|(given, _, _)| given == key) {
                self.wrong(node.line, format!("a provider needs {key}"));
            }
        }
        if self.mistakes.len() > before {
            return None;
        }
        provider.name = name?;
        provider.issuer = issuer?;
        provider.client_id = client_id?;
        if provider.title.is_empty() {
            provider.title.clone_from(&provider.name);
        }
        Some(provider)
    }

    pub(super) fn is_name(&mut self, line: usize, name: &str) -> bool {
        let good = name.len() <= 32
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-');
        if !good {
            self.wrong(line, "name must be up to 32 lower-case letters, digits and -");
        }
        good
    }

    fn is_issuer(&mut self, line: usize, issuer: &str) -> bool {
        let good = Url::parse(issuer).is_ok_and(|url| {
            is_guarded(&url) && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
        });
        if !good {
            self.wrong(
                line,
                "issuer must be an https address without query and fragment; plain http only for a loopback address",
            );
        }
        good
    }

    /// A file that is named in the document: relative to it, so that both can be moved together.
    fn beside(&self, given: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(given)
    }

    fn authorities(&mut self, key: &str, node: &Node) -> Vec<CertificateDer<'static>> {
        let Some(file) = self.text(key, node).map(|given| self.beside(&given)) else { return Vec::new() };
        let read = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => {
                self.wrong(node.line, format!("{key}: {} has no certificate in PEM", file.display()));
                Vec::new()
            }
            Err(error) => {
                self.wrong(node.line, format!("{key}: {}: {error}", file.display()));
                Vec::new()
            }
        }
    }

    pub(super) fn secret(&mut self, key: &str, node: &Node) -> Option<SecretString> {
        let given = self.text(key, node)?;
        let file = self.beside(&given);
        match std::fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => Some(SecretString::from(text.trim())),
            Ok(_) => {
                self.wrong(node.line, format!("{key}: {} is empty", file.display()));
                None
            }
            Err(error) => {
                self.wrong(node.line, format!("{key}: {}: {error}", file.display()));
                None
            }
        }
    }
}

/// Whether what is sent there cannot be read on the way: https, or this very machine.
pub(super) fn is_guarded(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" && url.has_host() || url.scheme() == "http" && loopback
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::identity) fn read(text: &str) -> Result<SignIn, Problem> {
        SignIn::parse(text, Path::new("sign-in.yaml"))
    }

    #[test]
    fn a_small_document_is_enough() {
        let settings = read(
            "providers:\n- name: campus\n  issuer: https://login.example.org/realms/all\n  clientId: cubicle\n  \
             adminRoles: [operators]\n",
        )
        .expect("valid");
        assert!(settings.passwords);
        let provider = &settings.providers[0];
        assert_eq!((provider.title.as_str(), provider.name_claim.as_str()), ("campus", "preferred_username"));
        assert_eq!(provider.admin_roles, ["operators"]);
        assert!(provider.client_secret.is_none());
        assert!(read("").expect("valid").passwords);
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_lines() {
        let problem = read(
            "passwords: perhaps\nprovider: []\nproviders:\n- name: Campus\n  issuer: http://login.example.org\n  \
             clientId: 12\n  colour: red\n- name: other\n  issuer: https://other.example.org\n  scopes: profile\n  \
             clockSkewSeconds: -1\n  clientSecretFile: not-there\n  authorityFile: nor-this\n- plain\n",
        )
        .expect_err("refused");
        let expected = [
            "sign-in.yaml:1: passwords must be true or false",
            "sign-in.yaml:2: the document has no key \"provider\"",
            "sign-in.yaml:4: name must be up to 32 lower-case letters",
            "sign-in.yaml:5: issuer must be an https address",
            "sign-in.yaml:6: clientId must be text",
            "sign-in.yaml:7: a provider has no key \"colour\"",
            "sign-in.yaml:8: a provider needs clientId",
            "sign-in.yaml:10: scopes must be a list of texts",
            "sign-in.yaml:11: clockSkewSeconds must be a whole number",
            "sign-in.yaml:12: clientSecretFile: not-there: ",
            "sign-in.yaml:13: authorityFile: nor-this: ",
            "sign-in.yaml:14: a provider must be a mapping",
        ];
        let lines: Vec<&str> = problem.what.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{}", problem.what);
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn one_issuer_is_one_provider_and_somebody_can_sign_in() {
        let provider = |name: &str| format!("- name: {name}\n  issuer: https://a.example.org\n  clientId: x\n");
        let two = format!("providers:\n{}{}", provider("a"), provider("b"));
        assert!(read(&two).expect_err("refused").what.contains(":5: two providers have the issuer"));
        let twice = format!("providers:\n{}{}", provider("a"), provider("a"));
        assert!(read(&twice).expect_err("refused").what.contains("two providers are named"));
        assert!(read("passwords: false\n").expect_err("refused").what.contains("nobody could sign in"));
        assert!(read("passwords: false\nproviders: []\n").expect_err("refused").what.contains("nobody"));
        assert!(read("passwords: true\npasswords: false\n").expect_err("refused").what.contains("given twice"));
        assert!(read("providers: [").expect_err("refused").what.starts_with("sign-in.yaml:1:"));
    }
}
