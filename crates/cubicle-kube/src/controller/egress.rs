//! The egress proxy's list: which workspaces it knows, from where, and what each may reach.
//!
//! One map per workspace in the proxy's namespace, written before anything is proven and deleted
//! when the launch ends. It holds a digest of the workspace's credential; the credential itself is
//! made of the site's route key anew whenever it is needed.

use std::net::{IpAddr, SocketAddr};

use cubicle_core::attempt::ProxyCredential;
use cubicle_core::plan::EgressDoor;
use cubicle_core::problem::Problem;
use cubicle_core::template::{EgressMode, Template as Document};
use cubicle_egress::{Caller, Config};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use secrecy::ExposeSecret;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::reconcile::Error;
use super::{Context, MANAGER};
use crate::egress_table::{CALLER, DOCUMENT};
use crate::names::{COMPONENT, MANAGED_BY};
use crate::objects::{EGRESS_PORT, Request};
use crate::resources::Workspace;

/// The Service of the egress proxy, in its namespace.
const SERVICE: &str = "cubicle-egress";

fn has_list(template: &Document) -> bool {
    template.egress().mode == EgressMode::AllowList
}

/// Puts a workspace on the list, with these addresses, when it has a door: without an allow-list it has no way to
/// the proxy at all.
pub(super) async fn admit(
    context: &Context,
    workspace: &Workspace,
    request: &Request<'_>,
    addresses: &[IpAddr],
    door: Option<&EgressDoor>,
) -> Result<(), Error> {
    let Some(door) = door else { return Ok(()) };
    let settings = &context.settings;
    let id = workspace.name_any();
    let digest = Sha256::digest(door.credential.password.as_bytes());
    let caller = Caller {
        workspace: id.clone(),
        addresses: addresses.to_vec(),
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        config: Config::new(&request.template.egress(), settings.denied.iter().map(ToString::to_string).collect()),
    };
    let text = serde_json::to_string(&caller)
        .map_err(|error| Error::Problem(Problem::engine(format!("the egress list cannot be written: {error}"), "")))?;
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": id,
            "labels": {MANAGED_BY.0: MANAGED_BY.1, COMPONENT: CALLER},
            "ownerReferences": [{
                "apiVersion": "cubicle.dev/v1alpha1",
                "kind": "Workspace",
                "name": id,
                "uid": request.uid,
            }],
        },
        "data": {DOCUMENT: text},
    });
    list(context).patch(&id, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&manifest)).await?;
    Ok(())
}

/// The door that a workspace will find, whether or not it is on the list yet. None without an allow-list.
pub(super) async fn door(context: &Context, request: &Request<'_>, nonce: &str) -> Result<Option<EgressDoor>, Error> {
    if !has_list(request.template) {
        return Ok(None);
    }
    let namespace = &context.settings.egress_namespace;
    let services = Api::<Service>::namespaced(context.client.clone(), namespace);
    let service = services.get_opt(SERVICE).await?;
    let ip = service.and_then(|service| service.spec?.cluster_ip?.parse::<IpAddr>().ok()).ok_or_else(|| {
        Error::Problem(Problem::engine(
            format!("there is no egress proxy: no Service {SERVICE} in namespace {namespace}"),
            "install the chart's egress proxy, or set egress.mode: none",
        ))
    })?;
    let secret = context.route_key.egress_secret(request.uid, nonce);
    let user = request.identity.id.to_string();
    let credential = ProxyCredential { user, password: secret.expose_secret().to_owned() };
    Ok(Some(EgressDoor { proxy: SocketAddr::new(ip, EGRESS_PORT), credential }))
}

/// Takes it off the list.
pub(super) async fn dismiss(context: &Context, workspace: &Workspace) -> Result<(), kube::Error> {
    let launched = workspace.status.as_ref().and_then(|status| status.launched.as_ref());
    let document = launched.and_then(|text| serde_json::from_str::<Document>(text).ok());
    if !document.as_ref().is_some_and(has_list) {
        return Ok(());
    }
    match list(context).delete(&workspace.name_any(), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

fn list(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.settings.egress_namespace)
}
