//! What the hubs keep in their own namespace: accounts, sessions and what hangs on them.
//!
//! `cubicle-hub` keeps the meaning (its records are these specifications); this exists for the
//! schemas that the API server enforces. Nothing here opens anything: secrets are digests.

// KubeSchema copies each type into a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]
// Printed columns repeat words that clippy takes for attributes given twice.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The specification of [`Account`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Account",
    plural = "accounts",
    namespaced,
    doc = "An account: who may sign in. The hubs alone write it.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Admin", type_ = "boolean", json_path = ".spec.admin"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.identity.issuer", priority = 1),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AccountSpec {
    /// What volumes and ownership hang on.
    #[schemars(regex(pattern = r"^u-[a-z0-9]{12}$"))]
    pub id: String,
    /// What the person signs in with.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// May see everything and manage accounts.
    pub admin: bool,
    /// What the account may do, where `admin` does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(admin|auditor|user)$"))]
    pub role: Option<String>,
    /// May not sign in.
    pub disabled: bool,
    /// The password's hash: argon2id in PHC form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub password: Option<String>,
    /// For templates that are restricted.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub groups: Vec<String>,
    /// Who vouches for this person; none for a local account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ProvidedIdentity>,
    /// Not a person: it has tokens and signs in nowhere.
    #[serde(default)]
    pub service: bool,
    /// When it was made.
    pub created_at: MicroTime,
}

/// A person as a provider of identities names them (OpenID Connect Core 1.0, section 5.7).
#[derive(schemars::JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvidedIdentity {
    /// The provider.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The person there; never given to somebody else.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
}

/// The specification of [`Session`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Session",
    plural = "sessions",
    namespaced,
    doc = "Somebody who is signed in; its name is the digest of the cookie. Deleting it signs that browser out everywhere.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SessionSpec {
    /// The account's object.
    #[schemars(length(max = 63))]
    pub account: String,
    /// When it began.
    pub created_at: MicroTime,
    /// When it ends by itself.
    pub expires_at: MicroTime,
    /// The provider that vouched for it; none for a sign-in by password or link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub issuer: Option<String>,
    /// The session there, so that the provider can end it (OpenID Connect Back-Channel Logout 1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub provider_session: Option<String>,
}

/// The specification of [`Grant`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Grant",
    plural = "grants",
    namespaced,
    doc = "The cookie of one workspace's origin; its name is the cookie's digest. It dies with its session.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct GrantSpec {
    /// The session's object.
    #[schemars(length(max = 64))]
    pub session: String,
    /// Which workspace.
    #[schemars(regex(pattern = r"^w-[a-z0-9]{12}$"))]
    pub workspace: String,
    /// When it ends by itself.
    pub expires_at: MicroTime,
}

/// The specification of [`Ticket`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Ticket",
    plural = "tickets",
    namespaced,
    doc = "A single-use ticket that a browser exchanges for a grant.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TicketSpec {
    /// The session's object.
    #[schemars(length(max = 64))]
    pub session: String,
    /// Which workspace.
    #[schemars(regex(pattern = r"^w-[a-z0-9]{12}$"))]
    pub workspace: String,
    /// When it ends by itself.
    pub expires_at: MicroTime,
}

/// The specification of [`SignInLink`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "SignInLink",
    plural = "signinlinks",
    namespaced,
    doc = "A one-time sign-in link; its name is the digest of the secret in it.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SignInLinkSpec {
    /// The account's object.
    #[schemars(length(max = 63))]
    pub account: String,
    /// When it ends by itself.
    pub expires_at: MicroTime,
}

/// The specification of [`ApiToken`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "ApiToken",
    plural = "apitokens",
    namespaced,
    doc = "A token of the REST interface; its name is the token's digest.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Scope", type_ = "string", json_path = ".spec.scope"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenSpec {
    /// The account's object.
    #[schemars(length(max = 63))]
    pub account: String,
    /// Names the token when it is deleted.
    #[schemars(length(max = 63))]
    pub id: String,
    /// What its owner calls it.
    #[schemars(length(max = 256))]
    pub name: String,
    /// `read` or `write`.
    #[schemars(regex(pattern = r"^(read|write)$"))]
    pub scope: String,
    /// When it was made.
    pub created_at: MicroTime,
    /// When it ends by itself.
    pub expires_at: MicroTime,
}
