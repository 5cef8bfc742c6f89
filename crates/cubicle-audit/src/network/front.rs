//! Ingresses and the routes of the Gateway API: who, from outside, reaches which services.
//!
//! Facts: the API's description of Ingress and IngressClass, and the Gateway API's of its routes,
//! of ReferenceGrant and of the label that the pods of a Gateway carry (GEP-1762).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cluster::{Cluster, NamespaceId};
use super::reader::Reader;
use super::selector::{Requirement, Selector};
use crate::snapshot::{Node, Object, ObjectId, Snapshot};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The routes that lead to services.
const ROUTES: [&str; 5] = ["GRPCRoute", "HTTPRoute", "TCPRoute", "TLSRoute", "UDPRoute"];

/// The label of the pods that a Gateway runs on.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Which port of a service a front leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
    /// It names none.
    Any,
}

/// A service that a front leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The namespace of the service.
    pub namespace: NamespaceId,
    /// Its name.
    pub service: Arc<str>,
    /// Its port.
    pub port: BackendPort,
    /// Line and column.
    pub place: (u32, u32),
}

/// The pods of a front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Their namespace; none: any.
    pub namespace: Option<NamespaceId>,
    /// Their labels.
    pub pods: Selector,
}

/// An Ingress or a route: it lets whoever can speak with its controller reach its backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// For example `HTTPRoute`.
    pub kind: Arc<str>,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its name.
    pub name: Arc<str>,
    /// The object.
    pub object: ObjectId,
    /// The Gateways a route is for.
    pub gateways: Vec<(NamespaceId, Arc<str>)>,
    /// Where its controller's pods would be; none of them may be there.
    pub controllers: Vec<Controller>,
    /// The services it leads to.
    pub backends: Vec<Backend>,
}

/// Controllers of IngressClasses that run as pods, by the labels their own charts and manifests
/// give them. Of others (a cloud's load balancer, Cilium's on the host's network) nothing is known.
const CONTROLLERS: &[(&str, &[(&str, &str)])] = &[
    // kubernetes/ingress-nginx: charts/ingress-nginx/templates/_helpers.tpl
    (
        "k8s.io/ingress-nginx",
        &[("app.kubernetes.io/name", "ingress-nginx"), ("app.kubernetes.io/component", "controller")],
    ),
    // traefik/traefik-helm-chart: traefik/templates/_helpers.tpl
    ("traefik.io/ingress-controller", &[("app.kubernetes.io/name", "traefik")]),
    // haproxy-ingress/charts: haproxy-ingress/templates/_helpers.tpl
    ("haproxy-ingress.github.io/controller", &[("app.kubernetes.io/name", "haproxy-ingress")]),
    // haproxytech/helm-charts: kubernetes-ingress/templates/_helpers.tpl
    ("haproxy.org/ingress-controller", &[("app.kubernetes.io/name", "kubernetes-ingress")]),
    // Kong/charts: charts/kong/templates/_helpers.tpl
    ("ingress-controllers.konghq.com/kong", &[("app.kubernetes.io/name", "kong")]),
    // istio/istio: manifests/charts/gateways/istio-ingress
    ("istio.io/ingress-controller", &[("istio", "ingressgateway")]),
];

/// Adds the fronts of a snapshot. Services come before.
pub(super) fn add_all(cluster: &mut Cluster, snapshot: &Snapshot) {
    let classes = classes(snapshot);
    let grants = grants(snapshot);
    for (id, object) in (0..).map(ObjectId).zip(&snapshot.objects) {
        let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, &*object.kind) {
            ("networking.k8s.io" | "extensions", "Ingress") => add_ingress(cluster, id, object, &classes),
            (GATEWAY_GROUP, kind) if ROUTES.contains(&kind) => add_route(cluster, id, object, &grants),
            _ => {}
        }
    }
}

/// The controllers of the classes of Ingresses by name; the default one under "".
fn classes(snapshot: &Snapshot) -> FxHashMap<String, String> {
    let mut classes = FxHashMap::default();
    for (_, object) in snapshot.of_kind("networking.k8s.io", "IngressClass") {
        let controller = object.value["spec"].text_at("controller").unwrap_or_default().to_owned();
        let annotations = &object.value["metadata"]["annotations"];
        if annotations.text_at("ingressclass.kubernetes.io/is-default-class") == Some("true") {
            classes.insert(String::new(), controller.clone());
        }
        classes.insert(object.name.to_string(), controller);
    }
    classes
}

fn add_ingress(cluster: &mut Cluster, id: ObjectId, object: &Object, classes: &FxHashMap<String, String>) {
    let namespace = cluster.namespace(object.namespace.as_deref().unwrap_or("default"));
    let spec = &object.value["spec"];
    let class = spec
        .text_at("ingressClassName")
        .or_else(|| object.value["metadata"]["annotations"].text_at("kubernetes.io/ingress.class"));
    let controller = classes.get(class.unwrap_or_default()).map(String::as_str);
    // A class that is not among the manifests is usually called like its controller.
    let is_meant = |name: &str| match (controller, class) {
        (Some(controller), _) => controller == name,
        (None, Some(class)) => name.split(['/', '.', '-']).any(|part| part == class),
        (None, None) => true,
    };
    let known: Vec<_> = CONTROLLERS.iter().filter(|(name, _)| is_meant(name)).collect();
    let controllers = known.into_iter().map(|(_, labels)| controller_of(cluster, None, labels)).collect();
    let mut reader = Reader::new(cluster, object);
    let mut nodes: Vec<&Node> = ["defaultBackend", "backend"].iter().filter_map(|key| spec.get(key)).collect();
    for rule in reader.list(spec, "rules") {
        for path in reader.list(&rule["http"], "paths") {
            nodes.extend(path.get("backend"));
        }
    }
    let backends = nodes.into_iter().filter_map(|node| ingress_backend(&mut reader, namespace, node)).collect();
    cluster.fronts.push(Front {
        kind: Arc::clone(&object.kind),
        namespace,
        name: Arc::clone(&object.name),
        object: id,
        gateways: Vec::new(),
        controllers,
        backends,
    });
}

fn controller_of(cluster: &mut Cluster, namespace: Option<NamespaceId>, labels: &[(&str, &str)]) -> Controller {
    let symbols = &mut cluster.symbols;
    let requirements =
        labels.iter().map(|(key, value)| Requirement::In(symbols.intern(key), vec![symbols.intern(value)])).collect();
    Controller { namespace, pods: Selector::new(requirements) }
}

/// A backend of an Ingress; none where it is another resource than a service. Before v1 the
/// service's name and port stood side by side.
fn ingress_backend(reader: &mut Reader<'_>, namespace: NamespaceId, node: &Node) -> Option<Backend> {
    let place = (node.line, node.column);
    let (name, port) = match node.get("service") {
        Some(service) => {
            let port = &service["port"];
            (service.text_at("name")?, port.get("number").or_else(|| port.get("name")))
        }
        None => (node.text_at("serviceName")?, node.get("servicePort")),
    };
    let port = match port {
        None => BackendPort::Any,
        Some(port) if port.text().is_some() => BackendPort::Name(port.text()?.into()),
        Some(port) => BackendPort::Number(reader.port(port)?),
    };
    Some(Backend { namespace, service: name.into(), port, place })
}

/// What a ReferenceGrant allows: (its namespace, the kind and the namespace of the route, the
/// name of the service; none: all).
type Grant = (String, String, String, Option<String>);

fn grants(snapshot: &Snapshot) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (_, object) in snapshot.of_kind(GATEWAY_GROUP, "ReferenceGrant") {
        let own = object.namespace.as_deref().unwrap_or("default");
        let spec = &object.value["spec"];
        for from in spec["from"].items().iter().filter(|from| from.text_at("group") == Some(GATEWAY_GROUP)) {
            for to in spec["to"].items() {
                if to.text_at("group").unwrap_or_default().is_empty() && to.text_at("kind") == Some("Service") {
                    let text = |key| from.text_at(key).unwrap_or_default().to_owned();
                    grants.push((
                        own.to_owned(),
                        text("kind"),
                        text("namespace"),
                        to.text_at("name").map(str::to_owned),
                    ));
                }
            }
        }
    }
    grants
}

fn add_route(cluster: &mut Cluster, id: ObjectId, object: &Object, grants: &[Grant]) {
    let own = object.namespace.as_deref().unwrap_or("default");
    let namespace = cluster.namespace(own);
    let spec = &object.value["spec"];
    let mut gateways: Vec<(NamespaceId, Arc<str>)> = Vec::new();
    for parent in spec["parentRefs"].items() {
        let is_gateway = parent.text_at("kind").is_none_or(|kind| kind == "Gateway");
        if let (true, Some(name)) = (is_gateway, parent.text_at("name")) {
            gateways.push((cluster.namespace(parent.text_at("namespace").unwrap_or(own)), name.into()));
        }
    }
    // A route for a service is one of a mesh: its sources are the pods themselves.
    if gateways.is_empty() {
        return;
    }
    let controllers = gateways
        .iter()
        .map(|(namespace, name)| controller_of(cluster, Some(*namespace), &[(GATEWAY_NAME, name)]))
        .collect();
    let mut reader = Reader::new(cluster, object);
    let mut nodes: Vec<&Node> = Vec::new();
    for rule in reader.list(spec, "rules") {
        nodes.extend(reader.list(rule, "backendRefs"));
        nodes.extend(rule["filters"].items().iter().filter_map(|filter| filter["requestMirror"].get("backendRef")));
    }
    let mut backends = Vec::new();
    for node in nodes {
        let is_service = node.text_at("group").unwrap_or_default().is_empty()
            && node.text_at("kind").is_none_or(|kind| kind == "Service");
        let (true, Some(name)) = (is_service, node.text_at("name")) else { continue };
        let target = node.text_at("namespace").unwrap_or(own);
        let is_granted = grants.iter().any(|(granting, kind, from, only)| {
            granting == target
                && **kind == *object.kind
                && from == own
                && only.as_deref().is_none_or(|only| only == name)
        });
        if target != own && !is_granted {
            let what =
                format!("no ReferenceGrant in namespace {target} lets this {} lead to Service {name}", object.kind);
            reader.warn(node.line, node.column, what, "grant it there, or leave the backend out");
            continue;
        }
        let port = match node.get("port") {
            None => BackendPort::Any,
            Some(port) => match reader.port(port) {
                Some(number) => BackendPort::Number(number),
                None => continue,
            },
        };
        let namespace = reader.cluster.namespace(target);
        backends.push(Backend { namespace, service: name.into(), port, place: (node.line, node.column) });
    }
    cluster.fronts.push(Front {
        kind: Arc::clone(&object.kind),
        namespace,
        name: Arc::clone(&object.name),
        object: id,
        gateways,
        controllers,
        backends,
    });
}
