//! What both stores promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cubicle_core::registry::{Kind, Record, Registry};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;

use super::*;
use crate::secret::Purpose;

/// A registry in memory.
#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<(Kind, String), (u64, Value)>>,
}

impl Memory {
    fn records(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Kind, String), (u64, Value)>> {
        self.records.lock().expect("unpoisoned")
    }
}

fn record(name: &str, (version, value): &(u64, Value)) -> Record {
    Record { name: name.to_owned(), value: value.clone(), version: version.to_string() }
}

#[async_trait]
impl Registry for Memory {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        self.get_now(kind, name).await
    }

    async fn get_now(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        Ok(self.records().get(&(kind, name.to_owned())).map(|found| record(name, found)))
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Record>, Problem> {
        self.list_now(kind).await
    }

    async fn list_now(&self, kind: Kind) -> Result<Vec<Record>, Problem> {
        let records = self.records();
        let found = records.iter().filter(|((of, _), _)| *of == kind);
        Ok(found.map(|((_, name), value)| record(name, value)).collect())
    }

    async fn create(&self, kind: Kind, name: &str, value: Value) -> Result<bool, Problem> {
        let mut records = self.records();
        let key = (kind, name.to_owned());
        let new = !records.contains_key(&key);
        if new {
            records.insert(key, (1, value));
        }
        Ok(new)
    }

    async fn replace(&self, kind: Kind, record: Record) -> Result<bool, Problem> {
        let mut records = self.records();
        match records.get_mut(&(kind, record.name)) {
            Some((version, value)) if version.to_string() == record.version => {
                (*version, *value) = (*version + 1, record.value);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn take(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        Ok(self.records().remove(&(kind, name.to_owned())).map(|found| record(name, &found)))
    }

    fn ended_sessions(&self) -> BoxStream<'static, String> {
        futures::stream::pending().boxed()
    }
}

/// Both, and the folder of the first.
fn stores() -> (tempfile::TempDir, [Store; 2]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = Store::File(File::open(folder.path()).expect("a file"));
    (folder, [file, Store::Shared(Shared::new(Arc::new(Memory::default())))])
}

fn soon() -> Timestamp {
    Timestamp::now() + Duration::from_secs(600)
}

fn past() -> Timestamp {
    Timestamp::now() - Duration::from_secs(1)
}

fn workspace(last: char) -> WorkspaceId {
    format!("w-00000000000{last}").parse().expect("valid")
}

async fn person(store: &Store, name: &str) -> Account {
    let new =
        NewAccount { groups: vec!["staff".to_owned()], ..NewAccount::local(name.parse().expect("valid"), Role::User) };
    store.add_account(new).await.expect("added")
}

#[tokio::test]
async fn a_name_is_one_account_however_it_is_spelt() {
    let (_folder, stores) = stores();
    for store in stores {
        let alice = person(&store, "Alice").await;
        let problem = store
            .add_account(NewAccount::local("alice".parse().expect("valid"), Role::Admin))
            .await
            .expect_err("taken");
        assert!(problem.what.contains("\"Alice\""), "{}", problem.what);
        assert_eq!(store.account("aLICE").await.expect("found"), alice);
        assert!(store.account("bob").await.is_err());
        assert_eq!(store.accounts().await.expect("listed"), std::slice::from_ref(&alice));
        store.set_password(alice.id.clone(), "hash".to_owned()).await.expect("set");
        let (found, hash) = store.account_with_password(alice.name.clone()).await.expect("asked").expect("is there");
        assert_eq!((found.has_password, hash.as_deref()), (true, Some("hash")));
    }
}

#[tokio::test]
async fn links_and_tickets_work_once() {
    let (_folder, stores) = stores();
    for store in stores {
        let alice = person(&store, "alice").await;
        let link = Digest::of(Purpose::Link, "l");
        store.add_link(link, alice.id.clone(), soon()).await.expect("kept");
        assert_eq!(store.peek_link(link).await.expect("asked").map(|account| account.id), Some(alice.id.clone()));
        assert_eq!(store.use_link(link).await.expect("asked"), Some(alice.id.clone()));
        assert_eq!(store.use_link(link).await.expect("asked"), None);
        store.add_link(link, alice.id.clone(), past()).await.expect("kept");
        assert_eq!(store.use_link(link).await.expect("asked"), None, "expired");

        let session = Digest::of(Purpose::Session, "s");
        store.begin_session(session, alice.id.clone(), soon(), None).await.expect("begun");
        let (ticket, grant) = (Digest::of(Purpose::Ticket, "t"), Digest::of(Purpose::Grant, "g"));
        store.issue_ticket(ticket, session, workspace('a'), soon()).await.expect("issued");
        assert!(!store.redeem_ticket(ticket, workspace('b'), grant).await.expect("asked"), "another origin");
        assert!(!store.redeem_ticket(ticket, workspace('a'), grant).await.expect("asked"), "burnt");
        store.issue_ticket(ticket, session, workspace('a'), soon()).await.expect("issued");
        assert!(store.redeem_ticket(ticket, workspace('a'), grant).await.expect("asked"));
        assert!(store.granted(grant, workspace('a')).await.expect("asked").is_some());
        assert!(store.granted(grant, workspace('b')).await.expect("asked").is_none());
        store.forget_workspace(workspace('a')).await.expect("forgotten");
        assert!(store.granted(grant, workspace('a')).await.expect("asked").is_none());
    }
}

#[tokio::test]
async fn whatever_hangs_on_a_session_ends_with_it() {
    let (_folder, stores) = stores();
    for store in stores {
        let alice = person(&store, "alice").await;
        let [one, two, old] = ["1", "2", "3"].map(|secret| Digest::of(Purpose::Session, secret));
        for (session, until) in [(one, soon()), (two, soon()), (old, past())] {
            store.begin_session(session, alice.id.clone(), until, None).await.expect("begun");
        }
        assert_eq!(store.session(one).await.expect("asked").map(|session| session.account.id), Some(alice.id.clone()));
        assert!(store.session(old).await.expect("asked").is_none(), "expired");
        let (ticket, grant) = (Digest::of(Purpose::Ticket, "t"), Digest::of(Purpose::Grant, "g"));
        store.issue_ticket(ticket, two, workspace('a'), soon()).await.expect("issued");
        assert!(store.redeem_ticket(ticket, workspace('a'), grant).await.expect("asked"));
        let ended = store.end_other_sessions(alice.id.clone(), one).await.expect("ended");
        assert!(ended.contains(&two) && !ended.contains(&one));
        assert!(store.session(two).await.expect("asked").is_none());
        assert!(store.granted(grant, workspace('a')).await.expect("asked").is_none());
        store.end_session(one).await.expect("ended");
        assert!(store.session(one).await.expect("asked").is_none());
        store.forget_expired().await.expect("forgotten");
    }
}

#[tokio::test]
async fn a_closed_account_has_nothing_left() {
    let (_folder, stores) = stores();
    for store in stores {
        let alice = person(&store, "alice").await;
        let (session, token, link) =
            (Digest::of(Purpose::Session, "s"), Digest::of(Purpose::Token, "t"), Digest::of(Purpose::Link, "l"));
        store.begin_session(session, alice.id.clone(), soon(), None).await.expect("begun");
        let kept = ApiToken {
            id: "id".to_owned(),
            name: "laptop".to_owned(),
            scope: Scope::Read,
            created_at: Timestamp::from_millisecond(1000).expect("valid"),
            expires_at: Timestamp::from_millisecond(soon().as_millisecond()).expect("valid"),
            used_at: None,
        };
        store.add_token(token, alice.id.clone(), kept.clone()).await.expect("kept");
        store.add_link(link, alice.id.clone(), soon()).await.expect("kept");
        assert_eq!(store.tokens(alice.id.clone()).await.expect("listed"), std::slice::from_ref(&kept));
        let at = Timestamp::from_millisecond(2000).expect("valid");
        store.note_token_use(token, at).await.expect("noted");
        let used = ApiToken { used_at: Some(at), ..kept };
        assert_eq!(store.tokens(alice.id.clone()).await.expect("listed"), [used]);
        assert_eq!(store.token(token).await.expect("asked").map(|(_, scope)| scope), Some(Scope::Read));
        assert!(!store.delete_token(alice.id.clone(), "other".to_owned()).await.expect("asked"));
        assert_eq!(store.set_disabled(alice.id.clone(), true).await.expect("closed"), [session]);
        assert!(store.session(session).await.expect("asked").is_none());
        assert!(store.token(token).await.expect("asked").is_none());
        assert!(store.peek_link(link).await.expect("asked").is_none());
        assert!(store.begin_session(session, alice.id.clone(), soon(), None).await.is_err());
        assert!(store.add_link(link, alice.id.clone(), soon()).await.is_err());
        store.set_disabled(alice.id.clone(), false).await.expect("opened");
        store.begin_session(session, alice.id, soon(), None).await.expect("begun");
    }
}

#[tokio::test]
async fn a_person_is_one_account_per_provider() {
    let (_folder, stores) = stores();
    for store in stores {
        let identity = |issuer: &str| Identity { issuer: issuer.to_owned(), subject: "4711".to_owned() };
        let new = |name: &str, issuer: &str| NewAccount {
            identity: Some(identity(issuer)),
            ..NewAccount::local(name.parse().expect("valid"), Role::Auditor)
        };
        let alice = store.add_account(new("alice", "https://one")).await.expect("added");
        assert!(store.add_account(new("alice", "https://two")).await.is_err(), "the name is taken");
        assert!(store.add_account(new("alice-2", "https://one")).await.is_err(), "the person is known");
        let other = store.add_account(new("alice-2", "https://two")).await.expect("added");
        assert_eq!(store.account_of(identity("https://one")).await.expect("asked"), Some(alice.clone()));
        assert_eq!(store.account_of(identity("https://two")).await.expect("asked"), Some(other.clone()));
        assert_eq!(store.account_of(identity("https://three")).await.expect("asked"), None);
        store.set_rights(alice.id.clone(), Role::Admin, vec!["staff".to_owned()]).await.expect("set");
        let changed = store.account("alice").await.expect("found");
        assert_eq!((changed.role, changed.groups), (Role::Admin, vec!["staff".to_owned()]));
        store.set_rights(alice.id.clone(), Role::Auditor, Vec::new()).await.expect("set");
        assert_eq!(store.account("alice").await.expect("found").role, Role::Auditor);

        let [one, two, theirs] = ["1", "2", "3"].map(|secret| Digest::of(Purpose::Session, secret));
        let vouched =
            |session: &str| Some(Vouched { issuer: "https://one".to_owned(), session: Some(session.to_owned()) });
        store.begin_session(one, alice.id.clone(), soon(), vouched("a")).await.expect("begun");
        store.begin_session(two, alice.id.clone(), soon(), vouched("b")).await.expect("begun");
        store.begin_session(theirs, other.id.clone(), soon(), None).await.expect("begun");
        assert_eq!(
            store.session(one).await.expect("asked").and_then(|found| found.issuer).as_deref(),
            Some("https://one")
        );
        let ended = store.end_vouched_sessions(identity("https://one"), Some("a".to_owned())).await.expect("ended");
        assert_eq!(ended, [one]);
        assert!(store.session(two).await.expect("asked").is_some());
        assert_eq!(store.end_vouched_sessions(identity("https://one"), None).await.expect("ended"), [two]);
        assert!(store.session(theirs).await.expect("asked").is_some());
    }
}

#[tokio::test]
async fn a_notice_is_replaced_and_taken_away() {
    let (_folder, stores) = stores();
    for store in stores {
        assert_eq!(store.notice().await.expect("asked"), None);
        let at = Timestamp::from_millisecond(1000).expect("valid");
        for (text, maintenance) in [("Tonight at eight.", false), ("", true)] {
            let notice = Notice { text: text.to_owned(), maintenance, at };
            store.set_notice(Some(notice.clone())).await.expect("set");
            assert_eq!(store.notice().await.expect("asked"), Some(notice));
        }
        store.set_notice(None).await.expect("set");
        assert_eq!(store.notice().await.expect("asked"), None);
    }
}

#[tokio::test]
async fn usage_adds_up_by_day_and_each_sample_is_one_hubs() {
    let (_folder, stores) = stores();
    for store in stores {
        let (alice, bob) = (person(&store, "alice").await.id, person(&store, "bob").await.id);
        let day = |text: &str| text.parse::<Date>().expect("a day");
        let used = |seconds| Used { seconds, cpu: 2, used_cpu: 3, memory: 4, storage: 5 };
        store
            .add_usage(day("2026-01-31"), vec![(alice.clone(), used(1)), (bob.clone(), used(9))])
            .await
            .expect("added");
        store.add_usage(day("2026-01-31"), vec![(alice.clone(), used(10))]).await.expect("added");
        store.add_usage(day("2026-02-01"), vec![(alice.clone(), used(100))]).await.expect("added");
        let of = async |from: &str, to: &str, who: &UserId| {
            let all = store.usage(day(from), day(to)).await.expect("asked");
            all.into_iter().find(|(id, _)| id == who).map(|(_, used)| used)
        };
        assert_eq!(of("2026-01-01", "2026-12-31", &alice).await.expect("used").seconds, 111);
        assert_eq!(of("2026-01-31", "2026-01-31", &alice).await.expect("used"), {
            Used { seconds: 11, cpu: 4, used_cpu: 6, memory: 8, storage: 10 }
        });
        assert_eq!(of("2026-02-01", "2026-02-02", &bob).await, None);

        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).expect("valid");
        let least = Duration::from_secs(30);
        assert_eq!(store.claim_usage(at(0), least).await.expect("asked"), None, "there was no sample before");
        assert_eq!(store.claim_usage(at(10), least).await.expect("asked"), None, "somebody else has it");
        assert_eq!(store.claim_usage(at(60), least).await.expect("asked"), Some(at(0)));
        assert_eq!(store.claim_usage(at(50), least).await.expect("asked"), Some(at(60)), "a clock that was set back");
    }
}
