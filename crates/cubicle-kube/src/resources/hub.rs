//! What the hubs keep in their own namespace: accounts, sessions and what hangs on them.
//!
//! `cubicle-hub` keeps the meaning (its records are these specifications); this exists for the
//! schemas that the API server enforces. Nothing here opens anything: secrets are digests.

// KubeSchema copies each type into a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]
// Printed columns repeat words that clippy takes for attributes given twice.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

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
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<MicroTime>,
}

/// The specification of [`Notice`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Notice",
    plural = "notices",
    namespaced,
    doc = "What the site tells everybody; the one that is named site counts.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Text", type_ = "string", json_path = ".spec.text"),
    printcolumn(name = "Maintenance", type_ = "boolean", json_path = ".spec.maintenance"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NoticeSpec {
    /// The announcement: one line.
    #[schemars(length(max = 500))]
    pub text: String,
    /// Whether the site is closed for launches.
    pub maintenance: bool,
    /// When it was written.
    pub at: MicroTime,
}

/// The specification of [`Usage`].
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Usage",
    plural = "usages",
    namespaced,
    doc = "What an account used in a month. The hubs alone write it; sampled says when the last sample was.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Month", type_ = "string", json_path = ".spec.month"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct UsageSpec {
    /// The account's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^u-[a-z0-9]{12}$"))]
    pub account: Option<String>,
    /// Which month, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}$"))]
    pub month: Option<String>,
    /// By the day of the month, two digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub days: BTreeMap<String, DayUsage>,
    /// When the last sample was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_at: Option<MicroTime>,
}

/// What was used on a day.
#[derive(schemars::JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayUsage {
    /// Seconds times workspaces that ran.
    pub seconds: u64,
    /// Thousandths of a CPU set aside, times seconds.
    pub cpu: u64,
    /// Processor time really used, in microseconds; 0 where the engine does not count it.
    pub used_cpu: u64,
    /// Memory set aside, in MiB times seconds.
    pub memory: u64,
    /// Storage set aside, in MiB times seconds.
    pub storage: u64,
}
