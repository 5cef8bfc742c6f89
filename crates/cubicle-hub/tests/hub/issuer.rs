//! An OpenID Connect provider of the test's own that can be made to lie in every way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Our name at this provider.
pub(crate) const CLIENT: &str = "cubicle";
const SECRET: &str = "a secret of the client";

#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Mutex<Plan>>,
    /// Ends with the last of us.
    _server: Arc<tokio::task::JoinSet<()>>,
}

/// How it answers.
pub(crate) struct Plan {
    /// Kept for ever; the last one signs.
    keys: Vec<(String, EcdsaKeyPair)>,
    /// How many of the last keys are told to who asks.
    pub(crate) published: usize,
    /// What the next token says.
    pub(crate) claims: Map<String, Value>,
    /// What the answer to the question for more about the person says.
    pub(crate) user_info: Map<String, Value>,
    /// Changes the next tokens.
    pub(crate) spoil: fn(&mut Value, &mut Value),
    /// How long every answer takes.
    pub(crate) delay: Duration,
    /// What is sent instead of an answer.
    pub(crate) broken: Option<(StatusCode, &'static str)>,
    challenge: String,
    /// How often keys were asked for.
    pub(crate) keys_asked: usize,
}

fn key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key")
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let state = Arc::new(Mutex::new(Plan {
            keys: vec![("first".to_owned(), key())],
            published: 1,
            claims: Map::new(),
            user_info: Map::new(),
            spoil: |_, _| (),
            delay: Duration::ZERO,
            broken: None,
            challenge: String::new(),
            keys_asked: 0,
        }));
        let issuer = Self { url, state, _server: Arc::default() };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state(issuer.clone());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { _server: Arc::new(server), ..issuer }
    }

    /// The site's document that names this provider.
    pub(crate) fn settings(&self, name: &str, more: &str) -> String {
        format!(
            "providers:\n- name: {name}\n  title: {name} login\n  issuer: {}\n  clientId: {CLIENT}\n  \
             clientSecretFile: secret\n  timeoutSeconds: 1\n{more}",
            self.url
        )
    }

    pub(crate) fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.state.lock().expect("unpoisoned")
    }

    /// Signs with a new key from now on.
    pub(crate) fn rotate(&self, name: &str) {
        self.plan().keys.push((name.to_owned(), key()));
    }

    /// Somebody has agreed to sign in: what the hub asked for goes into the next token.
    pub(crate) fn agree(&self, asked: &HashMap<String, String>, subject: &str, more: Value) {
        assert_eq!((asked["client_id"].as_str(), asked["response_type"].as_str()), (CLIENT, "code"));
        assert_eq!(asked["code_challenge_method"], "S256");
        let now = Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.url, "sub": subject, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
        });
        if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
            claims.extend(more);
        }
        let mut plan = self.plan();
        plan.challenge.clone_from(&asked["code_challenge"]);
        plan.claims = claims.as_object().expect("an object").clone();
    }

    /// A token with these claims, spoilt as planned.
    pub(crate) fn signed(&self, claims: Value, kind: &str) -> String {
        let plan = self.plan();
        let (name, key) = plan.keys.last().expect("a key");
        let mut header = json!({"alg": "ES256", "kid": name, "typ": kind});
        let mut claims = claims;
        (plan.spoil)(&mut header, &mut claims);
        let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = key.sign(&SystemRandom::new(), text.as_bytes()).expect("signed");
        match header["alg"].as_str() {
            Some("none") => format!("{text}."),
            Some("HS256") => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
                format!("{text}.{}", BASE64.encode(ring::hmac::sign(&key, text.as_bytes())))
            }
            _ => format!("{text}.{}", BASE64.encode(signature)),
        }
    }

    /// The token by which the provider ends a session.
    pub(crate) fn logout_token(&self, more: Value) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 120, "jti": format!("{:x}", rand::random::<u64>()),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
            claims.extend(more);
            claims.retain(|_, value| !value.is_null());
        }
        self.signed(claims, "logout+jwt")
    }

    async fn answer(&self, good: Response) -> Response {
        let (delay, broken) = {
            let plan = self.plan();
            (plan.delay, plan.broken)
        };
        tokio::time::sleep(delay).await;
        match broken {
            Some((status, text)) => (status, [("content-type", "application/json")], text).into_response(),
            None => good,
        }
    }
}

async fn document(State(issuer): State<Issuer>) -> Response {
    let url = &issuer.url;
    let document = json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/me"), "jwks_uri": format!("{url}/keys"),
        "end_session_endpoint": format!("{url}/end"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
    });
    issuer.answer(Json(document).into_response()).await
}

async fn keys(State(issuer): State<Issuer>) -> Response {
    let document = {
        let mut plan = issuer.plan();
        plan.keys_asked += 1;
        let keys: Vec<Value> = plan.keys[plan.keys.len() - plan.published..]
            .iter()
            .map(|(name, key)| {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": name,
                       "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])})
            })
            .collect();
        json!({"keys": keys})
    };
    issuer.answer(Json(document).into_response()).await
}

async fn token(
    State(issuer): State<Issuer>,
    headers: axum::http::HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let authorization = headers["authorization"].to_str().expect("text").to_owned();
    let basic = base64::engine::general_purpose::STANDARD
        .decode(authorization.strip_prefix("Basic ").expect("basic"))
        .expect("base64");
    let challenge = BASE64.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    let good = String::from_utf8_lossy(&basic) == format!("{CLIENT}:{}", SECRET.replace(' ', "+"))
        && form["grant_type"] == "authorization_code"
        && form["code"] == "the-code"
        && challenge == issuer.plan().challenge;
    if !good {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    }
    let claims = Value::Object(issuer.plan().claims.clone());
    let token = issuer.signed(claims, "JWT");
    let answer = json!({"access_token": "an-access-token", "token_type": "Bearer", "id_token": token});
    issuer.answer(Json(answer).into_response()).await
}

async fn me(State(issuer): State<Issuer>, headers: axum::http::HeaderMap) -> Response {
    assert_eq!(headers["authorization"], "Bearer an-access-token");
    let mut answer = issuer.plan().user_info.clone();
    let subject = issuer.plan().claims["sub"].clone();
    answer.entry("sub").or_insert(subject);
    issuer.answer(Json(answer).into_response()).await
}

/// Writes the secret beside a document and reads the document.
pub(crate) fn read(text: &str) -> Result<cubicle_hub::SignIn, cubicle_core::problem::Problem> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), SECRET).expect("written");
    let file = folder.path().join("sign-in.yaml");
    std::fs::write(&file, text).expect("written");
    cubicle_hub::SignIn::read(&file)
}
