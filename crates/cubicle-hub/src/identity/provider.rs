//! One provider: its document and keys, the way to it, and what it answers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use cubicle_core::problem::Problem;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreResponseType,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::url::Url;
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, DiscoveryError, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdToken,
    IdTokenFields, IdTokenVerifier, IssuerUrl, JsonWebTokenType, LogoutRequest, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl, ProviderMetadataWithLogout, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse, StandardTokenResponse,
    SubjectIdentifier, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::Failure;
use super::attempt::Attempt;
use super::claims::Person;
use super::portal_settings::PortalSettings;
use super::settings::ProviderSettings;
use super::used::Used;
use super::web::{Web, WebError};
use crate::pages::sign_in::ProviderLink;

/// How long a provider's document and keys are taken for true.
const FRESH: Duration = Duration::from_secs(3600);
/// How often at most they are asked for again because a token names an unknown key: anybody can
/// send such a token.
const BETWEEN_RELOADS: Duration = Duration::from_secs(10);
/// How long a failure answers for the provider, so that people who wait do not queue up.
const FAILURE_LASTS: Duration = Duration::from_secs(2);
/// How old a token may be when it comes, besides the difference of clocks.
const TOKEN_AGE: Duration = Duration::from_secs(600);

/// Signatures that only the provider can make. Keyed hashes are not among them.
const SIGNATURES: [CoreJwsSigningAlgorithm; 10] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EcdsaP521Sha512,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The event of a token that ends sessions (Back-Channel Logout 1.0, 2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Claims besides the standard ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Extra(Map<String, Value>);

impl AdditionalClaims for Extra {}

type Token = IdToken<Extra, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type TokenAnswer = StandardTokenResponse<
    IdTokenFields<
        Extra,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;
type Client = openidconnect::Client<
    Extra,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;
type Metadata = ProviderMetadataWithLogout;

/// A provider of identities.
pub(crate) struct Provider {
    /// What the site said about it.
    pub(crate) settings: ProviderSettings,
    issuer: IssuerUrl,
    web: Web,
    known: Mutex<Known>,
    used: Used,
}

/// What is known of a provider.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Instant)>,
    keys_asked: Option<Instant>,
    failed: Option<(StatusCode, String, Instant)>,
}

/// What came back by way of the browser.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    iss: Option<String>,
    error: Option<String>,
}

/// Whose sessions a provider ended.
pub(crate) struct Ended {
    /// Whose.
    pub(crate) subject: String,
    /// Which; all when none.
    pub(crate) session: Option<String>,
}

/// Whoever a bearer token is of.
pub(crate) struct Bearer {
    /// The person.
    pub(crate) person: Person,
    /// What a front calls the person, by the claim that the portal's settings name.
    pub(crate) called: Option<String>,
    /// Whether the token says anything about roles.
    pub(crate) tells_roles: bool,
    /// Whether the token says anything about groups.
    pub(crate) tells_groups: bool,
}

impl Provider {
    /// Prepares it; nothing is asked yet, so that the hub starts while the provider is down.
    pub(super) fn new(settings: &ProviderSettings) -> Result<Self, Problem> {
        let failed = |error: &dyn std::fmt::Display| {
            Problem::bad_input(format!("provider \"{}\": {error}", settings.name), "see docs/sign-in.md")
        };
        Ok(Self {
            issuer: IssuerUrl::new(settings.issuer.clone()).map_err(|error| failed(&error))?,
            web: Web::new(settings.timeout, &settings.authorities).map_err(|error| failed(&error))?,
            settings: settings.clone(),
            known: Mutex::default(),
            used: Used::default(),
        })
    }

    /// What the sign-in page shows of it.
    pub(crate) fn link(&self) -> ProviderLink {
        ProviderLink { name: self.settings.name.clone(), title: self.settings.title.clone() }
    }

    /// Whether it answered when it was last asked for its document. Nothing is asked for this: whoever wants to know
    /// whether the hub is ready would wait for it.
    pub(super) fn answered(&self) -> bool {
        self.known.try_lock().map_or(true, |known| known.failed.is_none())
    }

    fn silent(&self, error: &WebError) -> (StatusCode, String) {
        let status = match error {
            WebError::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
            WebError::Down(_) => StatusCode::BAD_GATEWAY,
        };
        tracing::warn!(provider = self.settings.name, %error, "a provider does not answer");
        // Addresses and causes are for the log.
        let why = match error {
            WebError::Slow(_) => error.to_string(),
            WebError::Down(_) => "it cannot be reached".to_owned(),
        };
        (status, format!("{} does not answer: {why}", self.settings.title))
    }

    fn undiscovered(&self, error: &DiscoveryError<WebError>) -> (StatusCode, String) {
        if let DiscoveryError::Request(error) = error {
            return self.silent(error);
        }
        tracing::warn!(provider = self.settings.name, %error, "a provider's document is not valid");
        (StatusCode::BAD_GATEWAY, format!("{} answers what cannot be understood", self.settings.title))
    }

    /// The provider's document and keys: at most [`FRESH`] old, or older when it cannot be asked.
    async fn metadata(&self) -> Result<Arc<Metadata>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((metadata, since)) = &known.metadata
            && since.elapsed() < FRESH
        {
            return Ok(Arc::clone(metadata));
        }
        if let Some((status, what, since)) = &known.failed
            && since.elapsed() < FAILURE_LASTS
        {
            return Err(Failure::of_provider(*status, what.clone()));
        }
        match Metadata::discover_async(self.issuer.clone(), &self.web).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Arc::clone(&metadata), Instant::now()));
                known.failed = None;
                Ok(metadata)
            }
            Err(error) => {
                let (status, what) = self.undiscovered(&error);
                known.failed = Some((status, what.clone(), Instant::now()));
                if let Some((metadata, since)) = &mut known.metadata {
                    // Better old than none; asked again in a minute.
                    *since = Instant::now().checked_sub(FRESH - Duration::from_secs(60)).unwrap_or(*since);
                    return Ok(Arc::clone(metadata));
                }
                Err(Failure::of_provider(status, what))
            }
        }
    }

    /// Its keys anew, because a token was signed with one that is not known.
    async fn reload_keys(&self) -> Result<Option<Arc<Metadata>>, Failure> {
        let mut known = self.known.lock().await;
        let Some((metadata, since)) = known.metadata.clone() else { return Ok(None) };
        if known.keys_asked.is_some_and(|asked| asked.elapsed() < BETWEEN_RELOADS) {
            return Ok(None);
        }
        known.keys_asked = Some(Instant::now());
        let keys = CoreJsonWebKeySet::fetch_async(metadata.jwks_uri(), &self.web).await.map_err(|error| {
            let (status, what) = self.undiscovered(&error);
            Failure::of_provider(status, what)
        })?;
        tracing::info!(provider = self.settings.name, keys = keys.keys().len(), "a provider's keys were read anew");
        let metadata = Arc::new(Metadata::clone(&metadata).set_jwks(keys));
        known.metadata = Some((Arc::clone(&metadata), since));
        Ok(Some(metadata))
    }

    fn client(&self, metadata: &Metadata) -> Client {
        let secret =
            self.settings.client_secret.as_ref().map(|text| ClientSecret::new(text.expose_secret().to_owned()));
        let id = ClientId::new(self.settings.client_id.clone());
        let client = Client::from_provider_metadata(metadata.clone(), id, secret);
        // Basic is the default where the document says nothing (Discovery 1.0, 3).
        match metadata.token_endpoint_auth_methods_supported() {
            Some(methods)
                if !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                    && methods.contains(&CoreClientAuthMethod::ClientSecretPost) =>
            {
                client.set_auth_type(AuthType::RequestBody)
            }
            _ => client,
        }
    }

    /// Where to send the browser. `back` is where it shall come back to.
    pub(crate) async fn begin(&self, attempt: &Attempt, back: &str) -> Result<String, Failure> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(attempt.verifier()));
        let (state, nonce) = (attempt.state(), attempt.nonce());
        let mut request = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                || CsrfToken::new(state),
                || Nonce::new(nonce),
            )
            .set_pkce_challenge(challenge)
            .set_redirect_uri(Cow::Owned(self.address(back)?));
        for scope in &self.settings.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, _, _) = request.url();
        Ok(url.into())
    }

    fn address(&self, back: &str) -> Result<RedirectUrl, Failure> {
        RedirectUrl::new(back.to_owned())
            .map_err(|error| Problem::engine(format!("{back} is not an address: {error}"), "set CUBICLE_URL").into())
    }

    /// Who came back.
    pub(crate) async fn finish(&self, attempt: &Attempt, back: &str, returned: Returned) -> Result<Person, Failure> {
        if !attempt.is_its_state(&returned.state) {
            return Err(Failure::unproven("this answer belongs to another attempt to sign in"));
        }
        // RFC 9207: whose answer it is, where the provider says so.
        if returned.iss.as_ref().is_some_and(|issuer| *issuer != self.settings.issuer) {
            return Err(Failure::unproven("this answer comes from another provider"));
        }
        if let Some(error) = returned.error {
            let shown: String = error.chars().take(60).flat_map(char::escape_default).collect();
            return Err(Failure::unproven(format!("{} did not sign you in: {shown}", self.settings.title)));
        }
        if returned.code.is_empty() || returned.code.len() > 4096 {
            return Err(Failure::unproven("the provider's answer holds no code"));
        }
        let metadata = self.metadata().await?;
        let client = self.client(&metadata);
        let answer = client
            .exchange_code(AuthorizationCode::new(returned.code))
            .map_err(|_| self.nonsense("its document names no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(attempt.verifier()))
            .set_redirect_uri(Cow::Owned(self.address(back)?))
            .request_async(&self.web)
            .await
            .map_err(|error| match error {
                RequestTokenError::Request(error) => {
                    let (status, what) = self.silent(&error);
                    Failure::of_provider(status, what)
                }
                RequestTokenError::ServerResponse(answer) => {
                    tracing::warn!(provider = self.settings.name, error = %answer.error(), "a code was not taken");
                    Failure::unproven(format!("{} did not take the code", self.settings.title))
                }
                other => self.nonsense(&other.to_string()),
            })?;
        let token = answer.id_token().ok_or_else(|| self.nonsense("there is no ID token"))?;
        let nonce = Nonce::new(attempt.nonce());
        let mut claims = self.claims(&metadata, token, &Expected::Nonce(&nonce)).await?;
        // Only now: anybody can make up an attempt and come back with it, and what is remembered has an end.
        if !self.used.first_use(&returned.state, Duration::from_secs(super::LIFETIME.unsigned_abs())) {
            return Err(Failure::unproven("this answer was used before"));
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        if subject.is_empty() || subject.len() > 255 {
            return Err(Failure::unproven("the token names nobody"));
        }
        if self.misses_something(&claims) && metadata.userinfo_endpoint().is_some() {
            let told = self.user_info(&client, &answer, &subject).await?;
            for (name, value) in told {
                // What is signed counts.
                claims.entry(name).or_insert(value);
            }
        }
        let person = Person::of(&self.settings, &subject, &claims);
        self.require_group(&person)?;
        Ok(person)
    }

    /// Refuses who is in none of the groups that may use this site.
    pub(crate) fn require_group(&self, person: &Person) -> Result<(), Failure> {
        super::require_group(&self.settings.required_groups, &self.settings.title, person)
    }

    /// Whose bearer token it is, for a portal that forwards what its users came with.
    pub(crate) async fn bearer(&self, token: &str, portal: &PortalSettings) -> Result<Bearer, Failure> {
        let token: Token = token.parse().map_err(|_| Failure::unproven("the access token cannot be read"))?;
        let metadata = self.metadata().await?;
        let claims = self.claims(&metadata, &token, &Expected::Bearer(&portal.audiences)).await?;
        // One provider signs many things: what ends sessions (Back-Channel Logout 1.0, 2.4) and what is
        // exchanged for tokens (Fence: `pur`) opens nothing.
        if claims.contains_key("events") || claims.get("pur").is_some_and(|purpose| purpose != "access") {
            return Err(Failure::unproven("this is no access token"));
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > 255 {
            return Err(Failure::unproven("the token names nobody"));
        }
        Ok(Bearer {
            person: Person::of(&self.settings, subject, &claims),
            called: called(&claims, &portal.remote_user_claim),
            tells_roles: claims.contains_key(&self.settings.roles_claim),
            tells_groups: claims.contains_key(&self.settings.groups_claim),
        })
    }

    fn nonsense(&self, why: &str) -> Failure {
        tracing::warn!(provider = self.settings.name, why, "a provider's answer is not valid");
        let what = format!("{} answers what cannot be understood", self.settings.title);
        Failure::of_provider(StatusCode::BAD_GATEWAY, what)
    }

    fn misses_something(&self, claims: &Map<String, Value>) -> bool {
        let settings = &self.settings;
        let roles_matter = !settings.admin_roles.is_empty() || !settings.auditor_roles.is_empty();
        !claims.contains_key(&settings.name_claim)
            || !claims.contains_key(&settings.groups_claim)
            || (roles_matter && !claims.contains_key(&settings.roles_claim))
    }

    async fn user_info(
        &self,
        client: &Client,
        answer: &TokenAnswer,
        subject: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let expected = SubjectIdentifier::new(subject.to_owned());
        let told: UserInfoClaims<Extra, CoreGenderClaim> = client
            .user_info(answer.access_token().clone(), Some(expected))
            .map_err(|error| self.nonsense(&error.to_string()))?
            .request_async(&self.web)
            .await
            .map_err(|error| match error {
                UserInfoError::Request(error) => {
                    let (status, what) = self.silent(&error);
                    Failure::of_provider(status, what)
                }
                other => self.nonsense(&other.to_string()),
            })?;
        object(&told).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// The claims of a token, after everything about it was checked. An unknown key is asked for.
    async fn claims(
        &self,
        metadata: &Arc<Metadata>,
        token: &Token,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let mut checked = self.checked(metadata, token, expected);
        if let Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::AmbiguousKeyId(_),
        )) = &checked
            && let Some(metadata) = self.reload_keys().await?
        {
            checked = self.checked(&metadata, token, expected);
        }
        let claims = checked.map_err(|error| {
            tracing::warn!(provider = self.settings.name, %error, "a token was refused");
            Failure::unproven(format!("the token of {} was refused: {}", self.settings.title, in_words(&error)))
        })?;
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + self.settings.clock_skew;
        // RFC 7519, 4.1.5; the library does not look at it.
        let begins = match claims.get("nbf") {
            None => 0.0,
            Some(value) => value.as_f64().unwrap_or(f64::INFINITY),
        };
        if begins > now.as_secs_f64() {
            return Err(Failure::unproven("the token is not valid yet"));
        }
        Ok(claims)
    }

    fn checked(
        &self,
        metadata: &Metadata,
        token: &Token,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, ClaimsVerificationError> {
        let lives_long = matches!(expected, Expected::Bearer(_));
        let (skew, id) = (self.settings.clock_skew, ClientId::new(self.settings.client_id.clone()));
        // As for a public client: a keyed hash proves nothing about who made it.
        let mut verifier = IdTokenVerifier::new_public_client(id, self.issuer.clone(), metadata.jwks().clone())
            .set_allowed_algs(SIGNATURES)
            .set_other_audience_verifier_fn(|_| false)
            .set_time_fn(move || SystemTime::now().checked_sub(skew).unwrap_or(SystemTime::UNIX_EPOCH).into())
            .set_issue_time_verifier_fn(move |issued| {
                let (issued, now) = (SystemTime::from(issued), SystemTime::now());
                match (issued.duration_since(now), now.duration_since(issued)) {
                    (Ok(ahead), _) if ahead > skew => Err("issued in the future".to_owned()),
                    (_, Ok(age)) if !lives_long && age > TOKEN_AGE + skew => Err("issued too long ago".to_owned()),
                    _ => Ok(()),
                }
            });
        let claims = match expected {
            Expected::Bearer(audiences) => {
                // RFC 9068, 2.1 names the second one.
                let types = ["JWT", "at+jwt"].map(|name| JsonWebTokenType::new(name.to_owned()).normalize());
                verifier = verifier.set_allowed_jose_types(types.into_iter().flatten()).require_audience_match(false);
                let claims = token.claims(&verifier, |_: Option<&Nonce>| Ok(()))?;
                if !claims.audiences().iter().any(|audience| audiences.contains(audience)) {
                    return Err(ClaimsVerificationError::InvalidAudience("it is for none of ours".to_owned()));
                }
                claims
            }
            Expected::Nonce(nonce) => token.claims(&verifier, *nonce)?,
            Expected::Logout => {
                let types = ["JWT", "logout+jwt"].map(|name| JsonWebTokenType::new(name.to_owned()).normalize());
                verifier = verifier.set_allowed_jose_types(types.into_iter().flatten());
                token.claims(&verifier, |nonce: Option<&Nonce>| match nonce {
                    None => Ok(()),
                    Some(_) => Err("a token that ends sessions has no nonce".to_owned()),
                })?
            }
        };
        object(claims).map_err(|error| ClaimsVerificationError::Other(error.to_string()))
    }

    /// Whose session a token says has ended (Back-Channel Logout 1.0, 2.6).
    pub(crate) async fn ended(&self, token: &str) -> Result<Ended, Failure> {
        let bad = |why: &str| Failure::from(Problem::bad_input(why, "send a logout token of this provider"));
        if token.len() > 16 << 10 {
            return Err(bad("the logout token is too long"));
        }
        let token: Token = token.parse().map_err(|_| bad("the logout token cannot be read"))?;
        let metadata = self.metadata().await?;
        let claims =
            self.claims(&metadata, &token, &Expected::Logout).await.map_err(|failure| match failure.status {
                StatusCode::UNAUTHORIZED => bad(&failure.problem.what),
                _ => failure,
            })?;
        if !claims.get("events").and_then(|events| events.get(LOGOUT_EVENT)).is_some_and(Value::is_object) {
            return Err(bad("the token ends no session"));
        }
        let id = claims.get("jti").and_then(Value::as_str).ok_or_else(|| bad("the logout token has no jti"))?;
        if !self.used.first_use(&format!("logout {id}"), TOKEN_AGE + 2 * self.settings.clock_skew) {
            return Err(bad("this logout token was used before"));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Ended { subject: text("sub").unwrap_or_default(), session: text("sid") })
    }

    /// Where the browser ends the provider's own session; nothing when it offers no such place.
    pub(crate) async fn sign_out(&self, back: &str) -> Result<Option<String>, Failure> {
        let metadata = self.metadata().await?;
        let Some(place) = metadata.additional_metadata().end_session_endpoint.clone() else { return Ok(None) };
        let back = PostLogoutRedirectUrl::new(back.to_owned())
            .map_err(|error| Problem::engine(format!("{back} is not an address: {error}"), "set CUBICLE_URL"))?;
        let request = LogoutRequest::from(place)
            .set_client_id(ClientId::new(self.settings.client_id.clone()))
            .set_post_logout_redirect_uri(back);
        let url: Url = request.http_get_url();
        Ok(Some(url.into()))
    }
}

/// What a token must hold besides.
enum Expected<'nonce> {
    /// The nonce of the attempt.
    Nonce(&'nonce Nonce),
    /// None, and the event that ends sessions.
    Logout,
    /// One of these audiences.
    Bearer(&'nonce [String]),
}

/// What a claim calls a person; dots lead into objects.
fn called(claims: &Map<String, Value>, path: &str) -> Option<String> {
    let found = claims.get(path).or_else(|| {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })?;
    match found {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Claims of all kinds as one object.
fn object(claims: &impl Serialize) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(claims)? {
        Value::Object(claims) => Ok(claims),
        _ => Ok(Map::new()),
    }
}

/// Why a token was refused, without what it holds.
fn in_words(error: &ClaimsVerificationError) -> &'static str {
    match error {
        ClaimsVerificationError::Expired(_) => "it is too old, or from the future",
        ClaimsVerificationError::InvalidAudience(_) => "it is for somebody else",
        ClaimsVerificationError::InvalidIssuer(_) => "somebody else made it",
        ClaimsVerificationError::InvalidNonce(_) => "it belongs to another attempt",
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoSignature) => "it is not signed",
        ClaimsVerificationError::SignatureVerification(_) => "its signature does not prove who made it",
        _ => "it is not valid",
    }
}
