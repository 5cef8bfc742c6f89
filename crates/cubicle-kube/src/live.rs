//! The objects of a live cluster, for an audit: read only, page by page, and whatever may not be
//! read is told with its reason.

use std::collections::BTreeSet;

use cubicle_core::problem::Problem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

/// Objects that the server sends at once.
const PAGE: u32 = 500;

/// Objects that are read at most: about 4 GiB of memory in a cluster of large ones.
const MOST_OBJECTS: usize = 1_000_000;

/// How often a list is begun again that the server has forgotten while it was being read.
const MOST_BEGINNINGS: usize = 3;

/// Fields of a secret's data that are kept: what known platforms keep there as their settings.
/// No other value of a secret is held.
const SETTINGS: [&str; 1] = ["values.yaml"];

/// What to do with a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Read every object.
    Read,
    /// Only count them.
    Count,
    /// Leave it alone.
    Nothing,
}

/// What a cluster holds.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The objects, kind by kind, with `apiVersion` and `kind`, without `managedFields`.
    pub objects: Vec<Value>,
    /// Kinds that were only counted: version, kind and how many, if the server told.
    pub counted: Vec<(String, String, Option<usize>)>,
    /// Group, kind and reason of what could not be read.
    pub unread: Vec<(String, String, String)>,
}

/// Reads a cluster as the account of the kubeconfig or of the pod sees it.
///
/// # Errors
/// The cluster cannot be found or does not answer, or says nothing about its kinds.
pub async fn read(wish: impl Fn(&str, &str) -> Wish) -> Result<Live, Problem> {
    let client = Client::try_default().await.map_err(|error| {
        Problem::engine(
            format!("no cluster can be found: {error}"),
            "set KUBECONFIG to a file that names one, or run inside a pod",
        )
    })?;
    read_with(&client, wish).await
}

/// The same with a client.
///
/// # Errors
/// The cluster does not answer, or says nothing about its kinds.
pub async fn read_with(client: &Client, wish: impl Fn(&str, &str) -> Wish) -> Result<Live, Problem> {
    let mut live = Live::default();
    for (resource, can_list) in served(client, &mut live).await? {
        let wish = wish(&resource.group, &resource.kind);
        if wish == Wish::Nothing {
            continue;
        }
        if !can_list {
            continue;
        }
        match wish {
            Wish::Read => all(client, &resource, &mut live).await?,
            _ => count(client, &resource, &mut live).await?,
        }
    }
    Ok(live)
}

fn silent(error: &kube::Error) -> Problem {
    Problem::engine(
        format!("the API server does not answer: {error}"),
        "check KUBECONFIG and that the server can be reached",
    )
}

/// Every kind that the server has, in the version that it prefers.
async fn served(client: &Client, live: &mut Live) -> Result<Vec<(ApiResource, bool)>, Problem> {
    let mut found = Vec::new();
    let core = client.list_core_api_resources("v1").await.map_err(|error| silent(&error))?;
    add(&mut found, "", "v1", &core.resources);
    let groups = client.list_api_groups().await.map_err(|error| silent(&error))?;
    for group in &groups.groups {
        let preferred = group.preferred_version.as_ref().map(|version| version.version.clone());
        let mut versions: Vec<&str> = group.versions.iter().map(|version| version.version.as_str()).collect();
        versions.sort_by_key(|version| preferred.as_deref() != Some(*version));
        for version in versions {
            let name = format!("{}/{version}", group.name);
            match client.list_api_group_resources(&name).await {
                Ok(list) => add(&mut found, &group.name, version, &list.resources),
                // A group behind a service that is down: what it holds is not known.
                Err(error) => live.unread.push((
                    group.name.clone(),
                    "*".to_owned(),
                    format!("the server does not tell the kinds of {name}: {}", told(&error)),
                )),
            }
        }
    }
    Ok(found)
}

fn add(found: &mut Vec<(ApiResource, bool)>, group: &str, version: &str, resources: &[APIResource]) {
    let known: BTreeSet<String> =
        found.iter().filter(|(one, _)| one.group == group).map(|(one, _)| one.kind.clone()).collect();
    for resource in resources {
        // `pods/log` and the like hold no objects.
        if resource.name.contains('/') || known.contains(&resource.kind) {
            continue;
        }
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let can_list = resource.verbs.iter().any(|verb| verb == "list");
        found.push((
            ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version,
                kind: resource.kind.clone(),
                plural: resource.name.clone(),
            },
            can_list,
        ));
    }
}

/// `networkpolicies.networking.k8s.io`, as people name a kind to the authorizer.
fn plural(resource: &ApiResource) -> String {
    match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    }
}

/// An error in a few words.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        other => other.to_string(),
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

async fn all(client: &Client, resource: &ApiResource, live: &mut Live) -> Result<(), Problem> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let unread = |live: &mut Live, reason: String| {
        live.unread.push((resource.group.clone(), resource.kind.clone(), reason));
    };
    let begin = live.objects.len();
    let mut token: Option<String> = None;
    let mut beginnings = 1;
    loop {
        let mut parameters = ListParams::default().limit(PAGE);
        if let Some(token) = &token {
            parameters = parameters.continue_token(token);
        }
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(error) => match code(&error) {
                Some(401 | 403) => {
                    unread(live, format!("this account may not list {}", plural(resource)));
                    return Ok(());
                }
                // The kind went away in the meantime: a definition was removed.
                Some(404) => return Ok(()),
                Some(410) if beginnings < MOST_BEGINNINGS => {
                    beginnings += 1;
                    live.objects.truncate(begin);
                    token = None;
                    continue;
                }
                Some(_) => {
                    live.objects.truncate(begin);
                    unread(live, format!("{} could not be listed: {}", plural(resource), told(&error)));
                    return Ok(());
                }
                None => return Err(silent(&error)),
            },
        };
        for object in page.items {
            if let Some(object) = plain(resource, object) {
                live.objects.push(object);
            }
        }
        if live.objects.len() > MOST_OBJECTS {
            live.objects.truncate(begin);
            unread(live, format!("{}: the cluster has more than {MOST_OBJECTS} objects", plural(resource)));
            return Ok(());
        }
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(());
        }
    }
}

/// An object as a manifest would give it, without what nobody audits and nobody should hold.
fn plain(resource: &ApiResource, object: DynamicObject) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    let fields = value.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), resource.api_version.clone().into());
    fields.insert("kind".to_owned(), resource.kind.clone().into());
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // A copy of the whole object, secrets among them.
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    if resource.group.is_empty()
        && resource.kind == "Secret"
        && let Some(data) = fields.get_mut("data").and_then(Value::as_object_mut)
    {
        for (key, value) in data.iter_mut() {
            if !SETTINGS.contains(&key.as_str()) {
                *value = Value::String(String::new());
            }
        }
    }
    Some(value)
}

async fn count(client: &Client, resource: &ApiResource, live: &mut Live) -> Result<(), Problem> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let counted = match api.list(&ListParams::default().limit(1)).await {
        Ok(page) => {
            let more = page.metadata.remaining_item_count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            Some(page.items.len() + more)
        }
        Err(error) if code(&error).is_some() => None,
        Err(error) => return Err(silent(&error)),
    };
    if counted != Some(0) {
        live.counted.push((resource.api_version.clone(), resource.kind.clone(), counted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
        ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    #[test]
    fn no_value_of_a_secret_is_kept() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {
                "name": "s",
                "managedFields": [{"manager": "m"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "c2VjcmV0", "kept": "yes"},
            },
            "type": "Opaque",
            "data": {"password": "c2VjcmV0", "values.yaml": "YTogYgo="},
        }))
        .expect("an object");
        let plain = plain(&resource("", "Secret", "secrets"), object).expect("a value");
        assert_eq!(
            plain,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": "s", "annotations": {"kept": "yes"}},
                "data": {"password": "", "values.yaml": "YTogYgo="},
            })
        );
    }

    #[test]
    fn a_kind_is_taken_once_in_the_version_that_comes_first() {
        let kinds = |names: &[(&str, &str)]| -> Vec<APIResource> {
            names
                .iter()
                .map(|(name, kind)| APIResource {
                    name: (*name).to_owned(),
                    kind: (*kind).to_owned(),
                    verbs: vec!["list".to_owned()],
                    ..APIResource::default()
                })
                .collect()
        };
        let mut found = Vec::new();
        add(&mut found, "x", "v1", &kinds(&[("as", "A"), ("as/status", "A")]));
        add(&mut found, "x", "v1beta1", &kinds(&[("as", "A"), ("bs", "B")]));
        let names: Vec<&str> = found.iter().map(|(one, _)| one.api_version.as_str()).collect();
        assert_eq!(names, ["x/v1", "x/v1beta1"]);
        assert_eq!(plural(&found[1].0), "bs.x");
    }
}
