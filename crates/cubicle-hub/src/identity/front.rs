//! A front that has signed people in before they come here, and says by a header who they are.
//!
//! A header proves nothing by itself: whoever reaches the hub can send one. It counts when the same request
//! shows the secret that only the front and the hub know, and a request that names its user without that is
//! refused, whatever it asks for. The front's headers go no further than this: no notebook sees them.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use cubicle_core::problem::{Problem, ProblemKind};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::claims::{Person, groups};
use super::front_settings::FrontSettings;
use super::{Failure, require_group};
use crate::pages::sign_in::ProviderLink;
use crate::store::{Identity, Role, Session};

/// What issuers of fronts begin with. A provider's is an address.
const ISSUER: &str = "front:";

/// The longest name of a person, in bytes: what OpenID Connect Core 1.0, 2, allows a subject.
const LONGEST_SUBJECT: usize = 255;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The front of this site.
pub(crate) struct Front {
    pub(crate) settings: FrontSettings,
}

/// Whom the front says that a request comes from; nobody when it has signed nobody in.
#[derive(Debug, Clone)]
pub(crate) struct Word(pub(crate) Option<Person>);

/// A request that came by way of the front.
pub(crate) struct Arrival {
    /// What it says of its user.
    pub(crate) word: Word,
    /// Whom the front was asked by.
    pub(crate) client: Option<IpAddr>,
}

impl super::Identities {
    /// Whether a session counts for a request about which the front says this, or nothing: where it names somebody only
    /// that person's, otherwise none that began by way of a front.
    pub(crate) fn counts(&self, session: &Session, word: Option<&Word>) -> bool {
        match (&self.front, word) {
            (Some(front), Some(Word(Some(person)))) => front.counts(session, person),
            _ => !session.issuer.as_deref().is_some_and(is_front),
        }
    }
}

/// Whether a session with this issuer began by way of a front.
pub(crate) fn is_front(issuer: &str) -> bool {
    issuer.starts_with(ISSUER)
}

impl Front {
    /// Takes the front's headers off a request. None for a request that carries none of them.
    ///
    /// # Errors
    /// It names its user, or a secret, and is not the front's.
    pub(crate) fn take(&self, headers: &mut HeaderMap) -> Result<Option<Arrival>, Problem> {
        let settings = &self.settings;
        let secrets = all(headers, &settings.secret_header);
        let users = all(headers, &settings.user_header);
        let names = settings.name_header.as_ref().map(|header| all(headers, header)).unwrap_or_default();
        let groups = settings.groups_header.as_ref().map(|header| all(headers, header)).unwrap_or_default();
        if secrets.is_empty() && users.is_empty() && names.is_empty() && groups.is_empty() {
            return Ok(None);
        }
        let [secret] = &secrets[..] else { return Err(self.not_the_front()) };
        // Digests, so that not even the length shows in the time it takes.
        let (given, known) =
            (Sha256::digest(secret.as_bytes()), Sha256::digest(settings.secret.expose_secret().as_bytes()));
        if !bool::from(given.ct_eq(&known)) {
            return Err(self.not_the_front());
        }
        let person = match self.only(&users)? {
            None => None,
            Some(user) => Some(self.person(user, self.only(&names)?, &groups)?),
        };
        // The last one is whom the front itself has seen; those before it, its client has written.
        let client = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        let client = client.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
        Ok(Some(Arrival { word: Word(person), client }))
    }

    /// The value of a header that may be there once. An empty one says nothing.
    fn only<'value>(&self, values: &'value [HeaderValue]) -> Result<Option<&'value str>, Problem> {
        match values {
            [] => Ok(None),
            [value] if value.is_empty() => Ok(None),
            [value] => text(value).map(Some).ok_or_else(|| self.unreadable()),
            _ => Err(self.unreadable()),
        }
    }

    fn person(&self, user: &str, called: Option<&str>, lists: &[HeaderValue]) -> Result<Person, Problem> {
        let settings = &self.settings;
        let lists: Option<Vec<&str>> = lists.iter().map(|list| std::str::from_utf8(list.as_bytes()).ok()).collect();
        let lists = lists.ok_or_else(|| self.unreadable())?;
        // HTTP's own white space only: what looks like it may be a part of another group's name.
        let groups = groups(lists.iter().flat_map(|list| list.split(',')).map(|group| group.trim_matches([' ', '\t'])));
        let one_of = |wanted: &[String]| wanted.iter().any(|group| groups.contains(group));
        let role = if one_of(&settings.admin_groups) {
            Role::Admin
        } else if one_of(&settings.auditor_groups) {
            Role::Auditor
        } else {
            Role::User
        };
        Ok(Person {
            identity: Identity { issuer: format!("{ISSUER}{}", settings.name), subject: user.to_owned() },
            called: Some(called.unwrap_or(user).to_owned()),
            role,
            groups,
            session: None,
        })
    }

    fn not_the_front(&self) -> Problem {
        let FrontSettings { user_header, secret_header, title, .. } = &self.settings;
        Problem::new(
            ProblemKind::NotAllowed,
            format!("the request says who its user is ({user_header}), and does not show that {title} has sent it"),
            format!("come by way of {title}; it must send the header {secret_header} as docs/sign-in.md says"),
        )
    }

    fn unreadable(&self) -> Problem {
        let FrontSettings { user_header, title, .. } = &self.settings;
        Problem::new(
            ProblemKind::NotAllowed,
            format!("{title} has sent headers that name nobody, or several people"),
            format!("have it send {user_header} once, as UTF-8 of at most {LONGEST_SUBJECT} bytes"),
        )
    }

    /// Whether a session is this person's, with the rights that they have now.
    fn counts(&self, session: &Session, person: &Person) -> bool {
        let account = &session.account;
        account.identity.as_ref() == Some(&person.identity)
            && account.role == person.role
            && account.groups == person.groups
            && self.require_group(person).is_ok()
    }

    /// Refuses who is in none of the groups that may use this site.
    pub(crate) fn require_group(&self, person: &Person) -> Result<(), Failure> {
        require_group(&self.settings.required_groups, &self.settings.title, person)
    }

    /// What the page after signing out links.
    pub(crate) fn link(&self) -> Option<ProviderLink> {
        let FrontSettings { name, title, sign_out_url, .. } = &self.settings;
        sign_out_url.as_ref().map(|_| ProviderLink { name: name.clone(), title: title.clone() })
    }

    /// Why nobody can sign in who did not come by way of it.
    pub(crate) fn passed_by(&self) -> Failure {
        let title = &self.settings.title;
        let problem = Problem::new(
            ProblemKind::NotAllowed,
            format!("{title} signs people in here, and this request did not come by way of it"),
            format!("use the address of {title}"),
        );
        Failure { status: StatusCode::UNAUTHORIZED, problem }
    }
}

/// Takes every value of a header off.
fn all(headers: &mut HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    let found = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    found
}

/// What names somebody: not long, without control characters, and not to be taken for somebody else's name with white
/// space around it.
fn text(value: &HeaderValue) -> Option<&str> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    (text.trim() == text && text.len() <= LONGEST_SUBJECT && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn front() -> Front {
        let group = |name: &str| vec![name.to_owned()];
        Front {
            settings: FrontSettings {
                name: "gateway".to_owned(),
                title: "the gateway".to_owned(),
                user_header: HeaderName::from_static("x-remote-user"),
                name_header: Some(HeaderName::from_static("x-remote-name")),
                groups_header: Some(HeaderName::from_static("x-remote-groups")),
                secret_header: HeaderName::from_static("x-cubicle-front"),
                secret: SecretString::from("the-secret"),
                admin_groups: group("ops"),
                auditor_groups: group("audit"),
                required_groups: group("staff"),
                sign_out_url: None,
            },
        }
    }

    fn taken(pairs: &[(&'static str, &[u8])]) -> Result<Option<Arrival>, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let arrival = front().take(&mut headers);
        assert!(headers.keys().all(|name| name == FORWARDED_FOR || name == "accept"), "{headers:?}");
        arrival
    }

    const SECRET: (&str, &[u8]) = ("x-cubicle-front", b"the-secret");

    #[test]
    fn who_shows_the_secret_is_believed() {
        let arrival = taken(&[
            SECRET,
            ("x-remote-user", b"4711"),
            ("x-remote-name", "Zoë".as_bytes()),
            ("x-remote-groups", b"staff, ops"),
            ("x-remote-groups", b"staff,"),
            ("x-forwarded-for", b"203.0.113.9, 2001:db8::1"),
        ]);
        let arrival = arrival.expect("believed").expect("the front's");
        let person = arrival.word.0.expect("somebody");
        assert_eq!((person.identity.issuer.as_str(), person.identity.subject.as_str()), ("front:gateway", "4711"));
        assert_eq!((person.called.as_deref(), person.role), (Some("Zoë"), Role::Admin));
        assert_eq!(person.groups, ["ops", "staff"]);
        assert_eq!(arrival.client, "2001:db8::1".parse().ok());
        assert!(front().require_group(&person).is_ok());
        assert!(front().require_group(&Person { groups: vec!["other".to_owned()], ..person }).is_err());
        for nobody in [taken(&[SECRET]), taken(&[SECRET, ("x-remote-user", b""), ("x-remote-name", b"")])] {
            let nobody = nobody.expect("believed").expect("the front's");
            assert!(nobody.word.0.is_none() && nobody.client.is_none());
        }
        let unnamed = taken(&[SECRET, ("x-remote-user", b"4711"), ("x-remote-name", b"")]);
        let unnamed = unnamed.expect("believed").and_then(|arrival| arrival.word.0).expect("somebody");
        assert_eq!(unnamed.called.as_deref(), Some("4711"));
        let odd = taken(&[SECRET, ("x-remote-user", b"a"), ("x-remote-groups", "ops\u{a0}, staff".as_bytes())]);
        let odd = odd.expect("believed").and_then(|arrival| arrival.word.0).expect("somebody");
        assert_eq!((odd.role, odd.groups.len()), (Role::User, 2));
        assert!(taken(&[("accept", b"*/*"), ("x-forwarded-for", b"192.0.2.1")]).expect("nothing said").is_none());
    }

    #[test]
    fn nobody_else_is() {
        for (why, pairs) in [
            ("no secret", vec![("x-remote-user", &b"ann"[..])]),
            ("another secret", vec![("x-remote-user", b"ann"), ("x-cubicle-front", b"the-secret-")]),
            ("an empty one", vec![("x-remote-user", b"ann"), ("x-cubicle-front", b"")]),
            ("two secrets", vec![("x-remote-user", b"ann"), SECRET, SECRET]),
            ("a secret alone that is none", vec![("x-cubicle-front", b"x")]),
            ("groups alone", vec![("x-remote-groups", b"ops")]),
            ("a name alone", vec![("x-remote-name", b"ann")]),
        ] {
            let problem = taken(&pairs).err().unwrap_or_else(|| panic!("{why}"));
            assert!(problem.what.contains("does not show that the gateway has sent it"), "{why}: {}", problem.what);
        }
        let long = [b'a'; LONGEST_SUBJECT + 1];
        for (why, pairs) in [
            ("two users", vec![SECRET, ("x-remote-user", &b"ann"[..]), ("x-remote-user", b"bob")]),
            ("white space", vec![SECRET, ("x-remote-user", "alice\u{a0}".as_bytes())]),
            ("a space", vec![SECRET, ("x-remote-user", b" alice")]),
            ("no UTF-8", vec![SECRET, ("x-remote-user", b"\xff")]),
            ("too long", vec![SECRET, ("x-remote-user", &long)]),
            ("two names", vec![SECRET, ("x-remote-user", b"a"), ("x-remote-name", b"a"), ("x-remote-name", b"b")]),
            ("groups without UTF-8", vec![SECRET, ("x-remote-user", b"ann"), ("x-remote-groups", b"\xff")]),
        ] {
            let problem = taken(&pairs).err().unwrap_or_else(|| panic!("{why}"));
            assert!(problem.what.contains("name nobody, or several people"), "{why}: {}", problem.what);
        }
    }
}
