//! The process that speaks with the authority. It has no right and no file: what it is to do comes by its standard
//! input, what came of it goes to its standard output, and it ends with the engine that started it.

use std::borrow::Cow;
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use crate::messages::{Cause, Failure, MOST_LINE, Record, Request, Sealed, Told, Work};
use crate::web::{Web, WebError};

/// How long an authority may take to look for the records, and to sign.
const PATIENCE: Duration = Duration::from_secs(120);
/// How its problems begin (RFC 8555, section 6.7).
const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// Does what its standard input says, until that ends. Whoever calls this has given up every right before.
pub fn run() -> ExitCode {
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            match input.by_ref().take(MOST_LINE as u64).read_line(&mut line) {
                Ok(length) if length > 0 && sender.send(line).is_ok() => {}
                // The engine is gone, and so is what this was for.
                _ => std::process::exit(0),
            }
        }
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: there is no runtime: {error}");
            return ExitCode::from(5);
        }
    };
    let ended = runtime.block_on(async {
        let line = lines.recv().await.unwrap_or_default();
        let request: Request = serde_json::from_str(&line)
            .map_err(|error| Failure::new(Cause::Machine, format!("what is to be ordered cannot be read: {error}")))?;
        work(&request, &mut lines).await
    });
    match ended.and_then(|told| tell(&told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => match tell(&Told::Failed(failure)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(5),
        },
    }
}

fn tell(told: &Told) -> Result<(), Failure> {
    let write = || {
        let mut output = std::io::stdout().lock();
        serde_json::to_writer(&mut output, told)?;
        output.write_all(b"\n")?;
        output.flush()
    };
    write().map_err(|error: std::io::Error| Failure::new(Cause::Machine, format!("the engine does not read: {error}")))
}

async fn work(request: &Request, lines: &mut mpsc::UnboundedReceiver<String>) -> Result<Told, Failure> {
    let web = Web::new(request.roots.as_deref())
        .map_err(|why| Failure::new(Cause::Untrusted, format!("tls.acme.roots: {why}")))?;
    match &request.work {
        Work::Order { names, request: signing, replaces } => {
            let signing = BASE64_URL_SAFE_NO_PAD
                .decode(signing)
                .map_err(|error| Failure::new(Cause::Machine, format!("the request to sign: {error}")))?;
            let names: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
            let order = ordered(&web, request, &names, replaces.as_deref()).await?;
            let chain = certificate(order, &signing, lines).await?;
            Ok(Told::Certificate(chain))
        }
        Work::Window { certificate } => window(&web, request, certificate).await,
    }
}

// === the account (RFC 8555, section 7.3) ===

async fn registered(web: &Web, request: &Request) -> Result<Account, Failure> {
    let contacts: Vec<&str> = request.contacts.iter().map(String::as_str).collect();
    let external = match &request.external_account {
        Some(customer) => {
            let key = BASE64_URL_SAFE_NO_PAD
                .decode(customer.key.0.expose_secret())
                .map_err(|error| Failure::new(Cause::Machine, format!("externalAccount.keyFile: {error}")))?;
            Some(ExternalAccountKey::new(customer.key_id.clone(), &key))
        }
        None => None,
    };
    // The site's settings are refused unless its administrator agreed.
    let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = Account::builder_with_http(Box::new(web.clone()))
        .create(&new, request.directory.clone(), external.as_ref())
        .await
        .map_err(|error| failure(&error))?;
    let credentials = serde_json::to_string(&credentials)
        .map_err(|error| Failure::new(Cause::Machine, format!("the account cannot be kept: {error}")))?;
    tell(&Told::Account(Sealed(SecretString::from(credentials))))?;
    Ok(account)
}

/// The account that was registered, if what is kept of it is of this directory: who wrote it there may have been taken
/// over, and must not choose whom the next one asks.
async fn known(web: &Web, request: &Request) -> Result<Option<Account>, Failure> {
    let Some(account) = &request.account else { return Ok(None) };
    let wrong =
        |error: serde_json::Error| Failure::new(Cause::Machine, format!("tls/account.json cannot be read: {error}"));
    if !is_of(account.0.expose_secret(), &request.directory).map_err(wrong)? {
        return Ok(None);
    }
    let credentials: AccountCredentials = serde_json::from_str(account.0.expose_secret()).map_err(wrong)?;
    let account = Account::builder_with_http(Box::new(web.clone())).from_credentials(credentials).await;
    account.map(Some).map_err(|error| failure(&error))
}

/// Whether credentials lead to this directory alone.
fn is_of(credentials: &str, directory: &str) -> serde_json::Result<bool> {
    #[derive(serde::Deserialize)]
    struct Leads {
        directory: Option<String>,
        urls: Option<serde_json::Value>,
    }
    let leads: Leads = serde_json::from_str(credentials)?;
    Ok(leads.directory.as_deref() == Some(directory) && leads.urls.is_none())
}

// === an order (RFC 8555, section 7.4) ===

async fn ordered(web: &Web, request: &Request, names: &[Identifier], replaces: Option<&str>) -> Result<Order, Failure> {
    let Some(known) = known(web, request).await? else {
        if request.account.is_some() {
            tell(&Told::AccountLost)?;
        }
        return placed(&registered(web, request).await?, names, replaces).await.map_err(|error| failure(&error));
    };
    if let (true, Some(account)) = (request.contacts_changed, &request.account) {
        let contacts: Vec<&str> = request.contacts.iter().map(String::as_str).collect();
        match known.update_contacts(&contacts).await {
            Ok(()) => tell(&Told::Account(account.clone()))?,
            // Told below, where another is registered.
            Err(error) if is_problem(&error, "accountDoesNotExist") => {}
            Err(error) => return Err(failure(&error)),
        }
    }
    match placed(&known, names, replaces).await {
        Err(error) if is_problem(&error, "accountDoesNotExist") => {
            tell(&Told::AccountLost)?;
            placed(&registered(web, request).await?, names, replaces).await.map_err(|error| failure(&error))
        }
        placed => placed.map_err(|error| failure(&error)),
    }
}

/// Orders, and says what is replaced if the authority wants to hear that: it may then count the order differently
/// (RFC 9773, section 5).
async fn placed(account: &Account, names: &[Identifier], replaces: Option<&str>) -> Result<Order, Error> {
    let order = NewOrder::new(names);
    let Some(replaces) = replaces.and_then(identifier) else { return account.new_order(&order).await };
    match account.new_order(&NewOrder::new(names).replaces(replaces)).await {
        // It does not know that certificate, or not as this account's.
        Err(Error::Unsupported(_) | Error::Other(_)) => account.new_order(&order).await,
        Err(error @ Error::Api(_))
            if !["accountDoesNotExist", "badNonce", "rateLimited"].iter().any(|kind| is_problem(&error, kind)) =>
        {
            account.new_order(&order).await
        }
        placed => placed,
    }
}

fn identifier(text: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = text.split_once('.')?;
    Some(CertificateIdentifier { authority_key_identifier: Cow::Borrowed(authority), serial: Cow::Borrowed(serial) })
}

async fn certificate(
    mut order: Order,
    request: &[u8],
    lines: &mut mpsc::UnboundedReceiver<String>,
) -> Result<String, Failure> {
    let patience = RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(PATIENCE);
    let mut records = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| failure(&error))?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization
            .challenge(ChallengeType::Dns01)
            .ok_or_else(|| Failure::new(Cause::Refused, format!("the authority offers no DNS challenge for {name}")))?;
        let Identifier::Dns(base) = challenge.identifier().identifier else {
            return Err(Failure::new(Cause::Refused, format!("the authority asks about {name}, which is no name")));
        };
        let value = challenge.key_authorization().dns_value();
        records.push(Record { name: format!("_acme-challenge.{base}"), value });
    }
    // All of them before the first is looked for: a name and its wildcard have the same record's name.
    if !records.is_empty() {
        tell(&Told::Present(records))?;
        let _ = lines.recv().await;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| failure(&error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(ChallengeType::Dns01) {
                challenge.set_ready().await.map_err(|error| failure(&error))?;
            }
        }
    }
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(reasons(&mut order).await.unwrap_or_else(|| refused("the order became invalid"))),
        Err(error @ Error::Api(_)) => return Err(reasons(&mut order).await.unwrap_or_else(|| failure(&error))),
        Err(error) => return Err(failure(&error)),
    }
    order.finalize_csr(request).await.map_err(|error| failure(&error))?;
    order.poll_certificate(&patience).await.map_err(|error| failure(&error))
}

/// What the authority says of the challenges that it did not find met.
async fn reasons(order: &mut Order) -> Option<Failure> {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        for problem in state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
            found.push(format!("{name}: {}", words(problem)));
        }
    }
    (!found.is_empty()).then(|| refused(&found.join("; ")))
}

// === renewal information (RFC 9773) ===

async fn window(web: &Web, request: &Request, certificate: &str) -> Result<Told, Failure> {
    let (Some(account), Some(identifier)) = (known(web, request).await?, identifier(certificate)) else {
        return Ok(Told::NoWindow);
    };
    match account.renewal_info(&identifier).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
            // Such a window is none (section 4.2).
            Ok(if end < start { Told::NoWindow } else { Told::Window { start, end, again: again.as_secs() } })
        }
        Err(Error::Unsupported(_)) => Ok(Told::NoWindow),
        Err(error) => Err(failure(&error)),
    }
}

// === what went wrong ===

fn is_problem(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem)
        if problem.r#type.as_deref().and_then(|given| given.strip_prefix(PROBLEM)) == Some(kind))
}

fn refused(what: &str) -> Failure {
    Failure::new(Cause::Refused, format!("the authority refuses: {what}"))
}

/// A problem document in one line: what it says, its kind, and the same of its parts.
fn words(problem: &instant_acme::Problem) -> String {
    let said = |detail: &Option<String>, kind: &Option<String>| {
        format!("\"{}\" ({})", detail.as_deref().unwrap_or_default(), kind.as_deref().unwrap_or("about:blank"))
    };
    let mut words = said(&problem.detail, &problem.r#type);
    for part in &problem.subproblems {
        let name = part.identifier.as_ref().map(|name| name.authorized(false).to_string()).unwrap_or_default();
        words.push_str(&format!("; {name}: {}", said(&part.detail, &part.r#type)));
    }
    words
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Api(problem) if ["badNonce", "serverInternal"].iter().any(|kind| is_problem(error, kind)) => {
            Failure::new(Cause::Again, format!("the authority says {}", words(problem)))
        }
        Error::Api(problem) => refused(&words(problem)),
        Error::Timeout(_) => {
            Failure::new(Cause::Refused, format!("the authority did not decide within {} seconds", PATIENCE.as_secs()))
        }
        Error::Json(error) => {
            Failure::new(Cause::Unreachable, format!("the authority's answer is not one of ACME (RFC 8555): {error}"))
        }
        Error::Other(inner) => match inner.downcast_ref::<WebError>() {
            Some(error @ WebError::Untrusted(..)) => Failure::new(Cause::Untrusted, error.to_string()),
            Some(error @ WebError::Failing(..)) => Failure::new(Cause::Again, error.to_string()),
            _ => Failure::new(Cause::Unreachable, inner.to_string()),
        },
        other => Failure::new(Cause::Unreachable, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_quoted_with_its_parts() {
        let problem: instant_acme::Problem = serde_json::from_str(
            r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "no", "status": 400, "subproblems":
               [{"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden", "identifier":
               {"type": "dns", "value": "hub.example.org"}}]}"#,
        )
        .expect("a problem");
        let failure = failure(&Error::Api(problem));
        assert_eq!(
            (failure.cause, failure.what.as_str()),
            (
                Cause::Refused,
                "the authority refuses: \"no\" (urn:ietf:params:acme:error:rejectedIdentifier); hub.example.org: \
                 \"forbidden\" (urn:ietf:params:acme:error:caa)"
            )
        );
    }

    #[test]
    fn credentials_that_lead_elsewhere_are_not_used() {
        let directory = "https://ca.example.org/directory";
        let good = r#"{"id": "x", "directory": "https://ca.example.org/directory"}"#;
        assert!(is_of(good, directory).expect("JSON"));
        for wrong in [
            r#"{"directory": "https://elsewhere.example.org/directory"}"#,
            r#"{"directory": "https://ca.example.org/directory", "urls": {"newOrder": "https://elsewhere.example.org"}}"#,
            r#"{"urls": {}}"#,
            "{}",
        ] {
            assert!(!is_of(wrong, directory).expect("JSON"), "{wrong}");
        }
        assert!(is_of("", directory).is_err());
    }

    #[test]
    fn what_may_be_gone_at_once_is_asked_again() {
        let problem = |kind: &str| {
            let text = format!(r#"{{"type": "{PROBLEM}{kind}", "detail": "x"}}"#);
            Error::Api(serde_json::from_str(&text).expect("a problem"))
        };
        assert_eq!(failure(&problem("badNonce")).cause, Cause::Again);
        assert_eq!(failure(&problem("malformed")).cause, Cause::Refused);
        assert!(is_problem(&problem("accountDoesNotExist"), "accountDoesNotExist"));
        let untrusted = WebError::Untrusted("ca.example.org".to_owned(), "unknown issuer".to_owned());
        assert_eq!(failure(&Error::Other(Box::new(untrusted))).cause, Cause::Untrusted);
    }
}
