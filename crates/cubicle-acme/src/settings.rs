//! What a site says under `tls` in site.yaml, read in one go with all of its mistakes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cubicle_core::document::{self, Node, Reader, Value};
use cubicle_core::problem::Problem;
use cubicle_core::template;
use hyper::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;

use crate::hook;
use crate::names::Names;

/// The authority that is asked when the site names none.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// How long a hook may take when the site does not say.
const HOOK_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that a site may give it.
const MOST_HOOK_TIMEOUT: u64 = 1800;
/// The largest file that a setting may name, in bytes.
const MOST_FILE: u64 = 1 << 20;
/// Every key of `tls.acme`.
const KEYS: [&str; 7] = ["directory", "contacts", "termsAgreed", "hook", "hookTimeout", "externalAccount", "roots"];

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The authority's directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// Where the authority may write to its customer, as `mailto:` addresses.
    pub contacts: Vec<String>,
    /// The site's program that writes into the DNS.
    pub hook: PathBuf,
    /// How long one run of it may take.
    pub hook_timeout: Duration,
    /// Who the site is at an authority with customers of its own.
    pub external_account: Option<ExternalAccount>,
    /// Whom the authority's own certificate is checked with, in PEM; whom the machine trusts, when absent.
    pub roots: Option<String>,
}

/// A customer that the authority knows already (RFC 8555, section 7.3.4).
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// The key's name there.
    pub key_id: String,
    /// The key, in base64url as authorities give it.
    pub key: SecretString,
}

/// What else the hub was told, which the settings must agree with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The hub's names, or why it has none that a certificate could be for.
    pub names: Result<Names, String>,
    /// Whether the site gave files with a certificate, too.
    pub files_given: bool,
}

impl Settings {
    /// Reads `tls` out of a site's document; nothing when the site does not want ACME.
    ///
    /// # Errors
    /// All mistakes at once, each with file and line.
    pub fn read(path: &Path, surroundings: &Surroundings) -> Result<Option<Self>, Problem> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path, surroundings),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Problem::bad_input(
                format!("{}: {error}", path.display()),
                "correct its permissions, or remove it for the defaults",
            )),
        }
    }

    fn parse(text: &str, path: &Path, surroundings: &Surroundings) -> Result<Option<Self>, Problem> {
        let mut reader = Reader::new(path);
        let settings = match document::read(text) {
            Ok(node) => site(&mut reader, &node, surroundings),
            Err(broken) => {
                reader.wrong(broken.line, broken.what);
                None
            }
        };
        match reader.told() {
            None => Ok(settings),
            Some(mistakes) => Err(Problem::bad_input(
                mistakes,
                "docs/how-to/tls.md lists every key of tls.acme; nothing is started until all of these are mended",
            )),
        }
    }
}

fn site(reader: &mut Reader<'_>, node: &Node, surroundings: &Surroundings) -> Option<Settings> {
    // The other keys are read elsewhere.
    let Value::Map(entries) = &node.value else { return None };
    let mut found = None;
    for (_, line, value) in entries.iter().filter(|(key, _, _)| key == "tls") {
        if found.is_some() {
            reader.wrong(*line, "key \"tls\" is given twice");
        }
        for (key, line, value) in reader.entries(value, "tls", &["acme"]) {
            if key == "acme" {
                found = acme(reader, *line, value, surroundings);
            }
        }
    }
    found
}

fn acme(reader: &mut Reader<'_>, line: usize, node: &Node, surroundings: &Surroundings) -> Option<Settings> {
    if surroundings.files_given {
        reader.wrong(
            line,
            "tls.acme and CUBICLE_TLS_CERTIFICATE are two certificates for one hub; leave one of them out",
        );
    }
    if let Err(why) = &surroundings.names {
        reader.wrong(line, format!("tls.acme needs a hub with a host name, and {why}"));
    }
    let mut settings = Settings {
        directory: LETS_ENCRYPT.to_owned(),
        contacts: Vec::new(),
        hook: PathBuf::new(),
        hook_timeout: HOOK_TIMEOUT,
        external_account: None,
        roots: None,
    };
    let (mut agreed, mut has_hook) = (false, false);
    for (key, line, value) in reader.entries(node, "tls.acme", &KEYS) {
        match key.as_str() {
            "directory" => settings.directory = directory(reader, key, value).unwrap_or_default(),
            "contacts" => settings.contacts = contacts(reader, key, value),
            "termsAgreed" => {
                agreed = true;
                if reader.switch(key, value) == Some(false) {
                    reader.wrong(*line, "termsAgreed is false: no authority gives a certificate without agreement");
                }
            }
            "hook" => {
                has_hook = true;
                settings.hook = program(reader, key, value).unwrap_or_default();
            }
            "hookTimeout" => settings.hook_timeout = timeout(reader, key, value).unwrap_or(HOOK_TIMEOUT),
            "externalAccount" => settings.external_account = external_account(reader, value),
            "roots" => settings.roots = roots(reader, key, value),
            _ => {}
        }
    }
    if !has_hook {
        reader.wrong(line, "tls.acme needs hook, the absolute path of the program that writes into the DNS");
    }
    if !agreed {
        reader.wrong(line, "tls.acme needs termsAgreed: true; read the authority's terms of service first");
    }
    reader.mistakes.is_empty().then_some(settings)
}

fn directory(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<String> {
    let given = reader.text(key, node)?;
    let good = given.parse::<Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if !good {
        reader.wrong(node.line, "directory must be the https address of an authority's directory");
    }
    good.then_some(given)
}

fn contacts(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<String> {
    let given = reader.texts(key, node);
    for contact in &given {
        let good = contact.split_once('@').is_some_and(|(person, host)| !person.is_empty() && host.contains('.'))
            && contact.chars().all(|character| character.is_ascii_graphic() && !"?,%:".contains(character));
        if !good {
            reader.wrong(node.line, "each of contacts must be a mail address, for example admin@example.org");
        }
    }
    given.into_iter().map(|contact| format!("mailto:{contact}")).collect()
}

fn program(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<PathBuf> {
    let given = PathBuf::from(reader.text(key, node)?);
    match hook::check(&given) {
        Ok(_) => Some(given),
        Err(why) => {
            reader.wrong(node.line, format!("hook {why}"));
            None
        }
    }
}

fn timeout(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Duration> {
    let given = reader.text(key, node)?;
    match template::Duration::try_from(given) {
        Ok(template::Duration(seconds)) if seconds <= MOST_HOOK_TIMEOUT => Some(Duration::from_secs(seconds)),
        _ => {
            reader.wrong(node.line, format!("{key} must be a duration of 1s to 30m, for example 2m"));
            None
        }
    }
}

fn external_account(reader: &mut Reader<'_>, node: &Node) -> Option<ExternalAccount> {
    let (mut key_id, mut secret) = (None, None);
    let entries = reader.entries(node, "externalAccount", &["keyId", "keyFile"]);
    for (key, _, value) in entries {
        match key.as_str() {
            "keyId" => key_id = reader.text(key, value),
            "keyFile" => secret = key_file(reader, key, value),
            _ => {}
        }
    }
    for key in ["keyId", "keyFile"] {
        if matches!(node.value, Value::Map(_)) && !entries.iter().any(|(given, _, _)| given == key) {
            reader.wrong(node.line, format!("externalAccount needs {key}"));
        }
    }
    Some(ExternalAccount { key_id: key_id?, key: secret? })
}

fn key_file(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<SecretString> {
    let text = file(reader, key, node)?;
    let text = text.trim().trim_end_matches('=');
    if text.is_empty() || BASE64_URL_SAFE_NO_PAD.decode(text).is_err() {
        reader.wrong(node.line, format!("{key} must name a file with the key in base64url, as the authority gave it"));
        return None;
    }
    Some(SecretString::from(text))
}

fn roots(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<String> {
    let text = file(reader, key, node)?;
    let good = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .is_ok_and(|certificates| !certificates.is_empty());
    if !good {
        reader.wrong(node.line, format!("{key} must name a file with certificates in PEM"));
    }
    good.then_some(text)
}

fn file(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<String> {
    let path = PathBuf::from(reader.text(key, node)?);
    let read = || {
        if !path.is_absolute() {
            return Err("is not an absolute path".to_owned());
        }
        let metadata = std::fs::metadata(&path).map_err(|error| error.to_string())?;
        if !metadata.is_file() || metadata.len() > MOST_FILE {
            return Err("is no file of at most 1 MiB".to_owned());
        }
        std::fs::read_to_string(&path).map_err(|error| error.to_string())
    };
    match read() {
        Ok(text) => Some(text),
        Err(why) => {
            reader.wrong(node.line, format!("{key}: {}: {why}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Surroundings {
        Surroundings {
            names: Names::new("hub.example.org", "hub.example.org").ok_or_else(String::new),
            files_given: false,
        }
    }

    fn read(text: &str, surroundings: &Surroundings) -> Result<Option<Settings>, Problem> {
        Settings::parse(text, Path::new("site.yaml"), surroundings)
    }

    #[test]
    fn a_site_without_it_has_none() {
        for text in ["", "warm: {members: 2}\n", "tls: {}\n"] {
            assert!(
                read(text, &Surroundings { names: Err(String::new()), files_given: true }).expect("good").is_none(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_few_lines_are_enough() {
        let text = "tls:\n  acme:\n    contacts: [admin@example.org]\n    termsAgreed: true\n    hook: /usr/bin/env\n";
        let settings = read(text, &named()).expect("good").expect("wanted");
        assert_eq!(settings.directory, LETS_ENCRYPT);
        assert_eq!(settings.contacts, ["mailto:admin@example.org"]);
        assert_eq!((settings.hook, settings.hook_timeout), (PathBuf::from("/usr/bin/env"), HOOK_TIMEOUT));
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_lines() {
        let problem = read(
            "launchesAtOnce: 2\ntls:\n  files: x\n  acme:\n    directory: http://ca.example.org\n    contacts: [nobody]\n    \
             termsAgreed: false\n    hook: dns.sh\n    hookTimeout: 2\n    externalAccount: {keyId: a}\n    \
             roots: /not/there.pem\n    colour: red\n",
            &Surroundings { names: Err("CUBICLE_URL is not set".to_owned()), files_given: true },
        )
        .expect_err("refused");
        let expected = [
            "site.yaml:3: tls has no key \"files\"; it has acme",
            "site.yaml:4: tls.acme and CUBICLE_TLS_CERTIFICATE",
            "site.yaml:4: tls.acme needs a hub with a host name, and CUBICLE_URL is not set",
            "site.yaml:5: directory must be the https address",
            "site.yaml:6: each of contacts must be a mail address",
            "site.yaml:7: termsAgreed is false",
            "site.yaml:8: hook dns.sh is not an absolute path",
            "site.yaml:9: hookTimeout must be text",
            "site.yaml:10: externalAccount needs keyFile",
            "site.yaml:11: roots: /not/there.pem: ",
            "site.yaml:12: tls.acme has no key \"colour\"",
        ];
        let lines: Vec<&str> = problem.what.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{}", problem.what);
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
        let problem = read("tls: {acme: {}}\n", &named()).expect_err("half");
        assert!(problem.what.contains("needs hook") && problem.what.contains("needs termsAgreed"), "{}", problem.what);
    }

    #[test]
    fn a_customers_key_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "c2VjcmV0LWtleQ==\n").expect("written");
        let text = format!(
            "tls: {{acme: {{termsAgreed: true, hook: /usr/bin/env, externalAccount: {{keyId: a, keyFile: {}}}}}}}\n",
            path.display()
        );
        let settings = read(&text, &named()).expect("good").expect("wanted");
        assert!(!format!("{settings:?}").contains("c2VjcmV0"), "{settings:?}");
        std::fs::write(&path, "no key!\n").expect("written");
        assert!(read(&text, &named()).expect_err("refused").what.contains("base64url"));
    }
}
