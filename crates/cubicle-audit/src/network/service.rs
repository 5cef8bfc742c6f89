//! Services, and the addresses behind them that no selector finds.
//!
//! Facts: the API's description of Service, Endpoints and EndpointSlice, and the documentation of
//! "Virtual IPs and Service Proxies".

use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::{Cluster, NamespaceId};
use super::port::{Interval, Protocol};
use super::reader::Reader;
use super::selector::{Requirement, Selector, Symbol};
use crate::snapshot::{Node, Object, ObjectId};

/// Ports that the API server takes node ports from where a manifest names none: the default of
/// its `--service-node-port-range`.
const NODE_PORTS: Interval = (30_000, 32_767);

/// The label by which an EndpointSlice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The controller that writes the slices of a service's own selector.
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// An address of the cluster that leads to its pods.
    ClusterIp,
    /// No address: names lead to the pods themselves, on whatever port a client dials.
    Headless,
    /// And a port of every node.
    NodePort,
    /// And addresses of a load balancer.
    LoadBalancer,
    /// Another name.
    ExternalName(Arc<str>),
}

/// The port of a pod that a port of a service leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that each pod gives it.
    Name(Symbol),
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for the only one.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The port of the pods behind it.
    pub target: TargetPort,
    /// The port of every node that leads here, or the ports it may be one of.
    pub node_port: Option<Interval>,
}

/// An address that a manifest puts behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Its ports: name, protocol and number. None: the target ports of the service.
    pub ports: Vec<(Arc<str>, Protocol, u16)>,
    /// The Endpoints or EndpointSlice.
    pub object: ObjectId,
    /// Line and column.
    pub place: (u32, u32),
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its name.
    pub name: Arc<str>,
    /// The object.
    pub object: ObjectId,
    /// What it is.
    pub kind: ServiceKind,
    /// Its addresses in the cluster; empty where the manifest does not tell.
    pub addresses: Vec<IpAddr>,
    /// Addresses outside that it takes for itself: `externalIPs`.
    pub external: Vec<IpAddr>,
    /// Addresses of its load balancers, from its status or asked for in its specification.
    pub balancers: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The pods behind it, in its own namespace; none: only [`Self::endpoints`] are.
    pub selector: Option<Selector>,
    /// Addresses behind it that its selector did not find.
    pub endpoints: Vec<Endpoint>,
    /// `externalTrafficPolicy: Local`: the source of what comes from outside is kept.
    pub keeps_source: bool,
    /// `internalTrafficPolicy: Local`: only pods of the client's node are used.
    pub node_local: bool,
}

impl Service {
    /// Whether ports of nodes lead to it.
    #[must_use]
    pub fn has_node_ports(&self) -> bool {
        self.ports.iter().any(|port| port.node_port.is_some())
    }

    /// The port of a protocol and number.
    #[must_use]
    pub fn port(&self, protocol: Protocol, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.protocol == protocol && port.port == number)
    }
}

pub(super) fn add(cluster: &mut Cluster, id: ObjectId, object: &Object) {
    let namespace = cluster.namespace(object.namespace.as_deref().unwrap_or("default"));
    let mut reader = Reader::new(cluster, object);
    let spec = &object.value["spec"];
    let kind = kind(&mut reader, spec);
    let exposed = matches!(kind, ServiceKind::NodePort | ServiceKind::LoadBalancer)
        && spec.get("allocateLoadBalancerNodePorts").and_then(Node::bool) != Some(false);
    let mut ports = Vec::new();
    for node in reader.list(spec, "ports") {
        ports.extend(port(&mut reader, node, exposed));
    }
    let selector = selector(&mut reader, spec);
    let external = reader.addresses(spec, "externalIPs");
    let mut balancers: Vec<IpAddr> = reader.addresses_of(spec.get("loadBalancerIP")).into_iter().collect();
    for ingress in object.value["status"]["loadBalancer"]["ingress"].items() {
        balancers.extend(reader.addresses_of(ingress.get("ip")));
    }
    balancers.sort_unstable();
    balancers.dedup();
    let mut addresses = Vec::new();
    if !matches!(kind, ServiceKind::Headless | ServiceKind::ExternalName(_)) {
        addresses = reader.addresses(spec, "clusterIPs");
        addresses.extend(reader.addresses_of(spec.get("clusterIP")));
        addresses.sort_unstable();
        addresses.dedup();
    }
    let is_local = |key: &str| spec.text_at(key) == Some("Local");
    cluster.services.push(Service {
        namespace,
        name: Arc::clone(&object.name),
        object: id,
        kind,
        addresses,
        external,
        balancers,
        ports,
        selector,
        endpoints: Vec::new(),
        keeps_source: is_local("externalTrafficPolicy"),
        node_local: is_local("internalTrafficPolicy"),
    });
}

fn kind(reader: &mut Reader<'_>, spec: &Node) -> ServiceKind {
    match spec.text_at("type") {
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        Some("ExternalName") => match spec.text_at("externalName") {
            Some(name) => ServiceKind::ExternalName(name.trim_end_matches('.').to_ascii_lowercase().into()),
            None => {
                reader.refuse(spec, "this service has no externalName", "give the name it stands for");
                ServiceKind::ExternalName("".into())
            }
        },
        None | Some("ClusterIP") if spec.text_at("clusterIP") == Some("None") => ServiceKind::Headless,
        None | Some("ClusterIP") => ServiceKind::ClusterIp,
        Some(other) => {
            let what = format!("\"{other}\" is no type of a service");
            reader.refuse(&spec["type"], what, "use ClusterIP, NodePort, LoadBalancer or ExternalName");
            ServiceKind::ClusterIp
        }
    }
}

fn port(reader: &mut Reader<'_>, node: &Node, exposed: bool) -> Option<ServicePort> {
    let protocol = reader.protocol(node.get("protocol"))?;
    let Some(number) = node.get("port") else {
        reader.refuse(node, "this port has no port", "give its number");
        return None;
    };
    let number = reader.port(number)?;
    let target = match node.get("targetPort") {
        None => TargetPort::Number(number),
        // The server takes 0 for "as the port".
        Some(target) if target.integer() == Some(0) => TargetPort::Number(number),
        Some(target) if target.text().is_some() => TargetPort::Name(reader.port_name(target)?),
        Some(target) => TargetPort::Number(reader.port(target)?),
    };
    let node_port = match node.get("nodePort").filter(|port| port.integer() != Some(0)) {
        Some(port) => reader.port(port).map(|port| (port, port)),
        None => exposed.then_some(NODE_PORTS),
    };
    let name = node.text_at("name").unwrap_or_default().into();
    Some(ServicePort { name, protocol, port: number, target, node_port })
}

/// The selector of a service: labels that all must be there.
fn selector(reader: &mut Reader<'_>, spec: &Node) -> Option<Selector> {
    let labels = reader.labels(spec.get("selector"));
    let requirements = labels.into_iter().map(|(key, value)| Requirement::In(key, vec![value])).collect();
    Some(Selector::new(requirements)).filter(|selector| !selector.is_everything())
}

/// The addresses of an Endpoints object, or of an EndpointSlice that its service's own selector
/// did not write. They come after all services.
pub(super) fn add_endpoints(cluster: &mut Cluster, id: ObjectId, object: &Object) {
    let namespace = cluster.namespace(object.namespace.as_deref().unwrap_or("default"));
    let labels = &object.value["metadata"]["labels"];
    let is_slice = &*object.kind == "EndpointSlice";
    let managed_by = labels.text_at("endpointslice.kubernetes.io/managed-by");
    if managed_by == Some(SLICE_CONTROLLER) {
        return;
    }
    let name = if is_slice { labels.text_at(SERVICE_NAME) } else { Some(&*object.name) };
    let Some(name) = name else { return };
    let Some(number) = cluster.find_service(namespace, name).map(|number| number as usize) else { return };
    // Of a service with a selector a controller writes the Endpoints; what is in them follows.
    if !is_slice && cluster.services[number].selector.is_some() {
        return;
    }
    let mut reader = Reader::new(cluster, object);
    let mut endpoints = Vec::new();
    if is_slice {
        let ports = endpoint_ports(&mut reader, &object.value);
        for endpoint in reader.list(&object.value, "endpoints") {
            for node in reader.list(endpoint, "addresses") {
                endpoints.extend(endpoint_at(&mut reader, id, node, &ports));
            }
        }
    } else {
        for subset in reader.list(&object.value, "subsets") {
            let ports = endpoint_ports(&mut reader, subset);
            for list in ["addresses", "notReadyAddresses"] {
                for address in reader.list(subset, list) {
                    let node = address.get("ip").unwrap_or(address);
                    endpoints.extend(endpoint_at(&mut reader, id, node, &ports));
                }
            }
        }
    }
    cluster.services[number].endpoints.extend(endpoints);
}

fn endpoint_ports(reader: &mut Reader<'_>, node: &Node) -> Vec<(Arc<str>, Protocol, u16)> {
    let mut ports = Vec::new();
    for port in reader.list(node, "ports") {
        let protocol = reader.protocol(port.get("protocol"));
        let number = port.get("port").and_then(|number| reader.port(number));
        if let (Some(protocol), Some(number)) = (protocol, number) {
            ports.push((port.text_at("name").unwrap_or_default().into(), protocol, number));
        }
    }
    ports
}

fn endpoint_at(
    reader: &mut Reader<'_>,
    object: ObjectId,
    node: &Node,
    ports: &[(Arc<str>, Protocol, u16)],
) -> Option<Endpoint> {
    // Slices may hold names in place of addresses (addressType FQDN); they lead nowhere by themselves.
    let address = node.text()?.parse::<IpAddr>();
    match address {
        Ok(address) => Some(Endpoint {
            address: address.to_canonical(),
            ports: ports.to_vec(),
            object,
            place: (node.line, node.column),
        }),
        Err(_) => {
            reader.warn(node.line, node.column, format!("{} is no address", node.to_json()), "write an IP address");
            None
        }
    }
}
