//! What stands around a workspace: read from the API server anew for every proof.

use std::net::{IpAddr, SocketAddr};

use cubicle_core::plan::Cluster;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::names::COMPONENT;
use crate::settings::Settings;

/// Where a metadata service would be: dialled from the gate's first instruction on.
const METADATA: &str = "169.254.169.254:80";
/// Addresses of one kind that the gate dials from its first instruction on.
const IN_WINDOW: usize = 3;
/// The port of reference pods.
pub const REFERENCE_PORT: u16 = 8887;
/// The ports of canaries: a notebook's, and a name server's.
const CANARY_PORT: u16 = 8888;
const NAME_SERVER_PORT: u16 = 53;
/// Where canaries are a proxy that refuses nothing.
const CARELESS_PORT: u16 = 3128;

/// The cluster as it is now.
#[derive(Debug, Clone)]
pub struct Surroundings {
    nodes: Vec<Node>,
    canaries: Vec<Pod>,
    references: Vec<Pod>,
    platform: Vec<Pod>,
    services: Vec<Service>,
    api_server: Vec<SocketAddr>,
}

impl Surroundings {
    /// Reads it.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn read(client: &Client, settings: &Settings) -> Result<Self, kube::Error> {
        let everything = ListParams::default();
        let pods = |namespace: &str| Api::<Pod>::namespaced(client.clone(), namespace);
        let nodes = Api::<Node>::all(client.clone());
        let (reference, of_references) = (pods(&settings.reference_namespace), component("reference"));
        let platform = pods(&settings.system_namespace);
        let services = Api::<Service>::namespaced(client.clone(), &settings.canary_namespace);
        let (nodes, canaries, references, platform, services, api_server) = tokio::try_join!(
            nodes.list(&everything),
            canaries(client, settings),
            reference.list(&of_references),
            platform.list(&everything),
            services.list(&everything),
            api_server(client),
        )?;
        Ok(Self {
            nodes: nodes.items,
            canaries,
            references: references.items.into_iter().filter(is_ready).collect(),
            // Not what goes just now: whether it answers is a matter of luck.
            platform: platform.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect(),
            services: services.items,
            api_server,
        })
    }

    /// What the gate is to dial from its first instruction on.
    pub fn window(&self) -> Vec<SocketAddr> {
        window_of(&self.canaries, &self.api_server)
    }

    /// The reference pod of a node.
    pub fn reference(&self, node: &str) -> Option<SocketAddr> {
        let pod = self.references.iter().find(|pod| node_of(pod) == Some(node))?;
        Some(SocketAddr::new(address(pod)?, REFERENCE_PORT))
    }

    /// The boot id that the node's kubelet has read.
    pub fn boot_id(&self, node: &str) -> Option<String> {
        let node = self.nodes.iter().find(|known| known.name_any() == node)?;
        Some(node.status.as_ref()?.node_info.as_ref()?.boot_id.clone())
    }

    /// Everything around a workspace on this node.
    pub fn cluster(&self, node: &str, window: Vec<SocketAddr>) -> Cluster {
        let on = |port: u16, here: bool| {
            self.canaries
                .iter()
                .filter(|pod| (node_of(pod) == Some(node)) == here)
                .filter_map(address)
                .map(|ip| SocketAddr::new(ip, port))
                .collect::<Vec<_>>()
        };
        let careless_proxy = on(CARELESS_PORT, true).into_iter().chain(on(CARELESS_PORT, false)).next();
        let same_node = on(CANARY_PORT, true);
        let mut other_node = on(CANARY_PORT, false);
        if other_node.is_empty() && self.nodes.len() == 1 {
            // There is no other node: any other workspace is on this one.
            other_node.clone_from(&same_node);
        }
        let mut name_servers = on(NAME_SERVER_PORT, true);
        name_servers.extend(on(NAME_SERVER_PORT, false));
        let nodes = |own: bool| {
            self.nodes.iter().filter(|known| (known.name_any() == node) == own).flat_map(node_addresses).collect()
        };
        let (own_node, other_nodes): (Vec<IpAddr>, Vec<IpAddr>) = (nodes(true), nodes(false));
        let everywhere: Vec<IpAddr> = own_node.iter().chain(&other_nodes).copied().collect();
        Cluster {
            api_server: self.api_server.clone(),
            same_node,
            other_node,
            services: self.services.iter().flat_map(|one| ports_of(one, &cluster_addresses(one))).collect(),
            node_ports: self
                .services
                .iter()
                .flat_map(|service| service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()))
                .filter_map(|port| u16::try_from(port.node_port?).ok())
                .flat_map(|port| everywhere.iter().map(move |ip| SocketAddr::new(*ip, port)))
                .collect(),
            platform: self.platform.iter().flat_map(listeners).collect(),
            name_servers,
            window,
            careless_proxy,
            egress: None,
            own_node,
            other_nodes,
        }
    }
}

/// What a gate is to dial from its first instruction on, read alone: a launch begins with it.
///
/// # Errors
/// What the API server says.
pub async fn window(client: &Client, settings: &Settings) -> Result<Vec<SocketAddr>, kube::Error> {
    let (canaries, api_server) = tokio::try_join!(canaries(client, settings), api_server(client))?;
    Ok(window_of(&canaries, &api_server))
}

/// Canaries on several nodes, the API server, and the metadata service.
fn window_of(canaries: &[Pod], api_server: &[SocketAddr]) -> Vec<SocketAddr> {
    let canaries = canaries.iter().filter_map(address).map(|ip| SocketAddr::new(ip, CANARY_PORT));
    let api_server = api_server.iter().copied();
    canaries.take(IN_WINDOW).chain(api_server.take(IN_WINDOW)).chain(METADATA.parse()).collect()
}

fn component(name: &str) -> ListParams {
    ListParams::default().labels(&format!("{COMPONENT}={name}"))
}

/// The canaries that answer.
async fn canaries(client: &Client, settings: &Settings) -> Result<Vec<Pod>, kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), &settings.canary_namespace);
    Ok(pods.list(&component("canary")).await?.items.into_iter().filter(is_ready).collect())
}

/// Where the API server is reached: by its service, and at its own addresses.
async fn api_server(client: &Client) -> Result<Vec<SocketAddr>, kube::Error> {
    let kubernetes = Api::<Service>::namespaced(client.clone(), "default");
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    let of_kubernetes = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let (kubernetes, slices) = tokio::try_join!(kubernetes.get("kubernetes"), slices.list(&of_kubernetes))?;
    let mut api_server = ports_of(&kubernetes, &cluster_addresses(&kubernetes));
    for slice in &slices.items {
        for port in slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()) {
            let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
            api_server.extend(addresses.filter_map(|text| Some(SocketAddr::new(text.parse().ok()?, port))));
        }
    }
    Ok(api_server)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// A pod's address.
pub(crate) fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let addresses = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    addresses.filter_map(|text| text.parse().ok()).collect()
}

/// A service's TCP ports at these addresses.
fn ports_of(service: &Service, addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .filter_map(|port| u16::try_from(port.port).ok())
        .flat_map(|port| addresses.iter().map(move |ip| SocketAddr::new(*ip, port)))
        .collect()
}

/// Where hub and controller listen by default.
const PLATFORM_PORTS: [u16; 2] = [8000, 8001];

/// Where a pod of the platform listens: where it says so, and where it may without saying so.
fn listeners(pod: &Pod) -> Vec<SocketAddr> {
    let Some(ip) = address(pod) else { return Vec::new() };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .chain(PLATFORM_PORTS)
        .collect::<std::collections::BTreeSet<u16>>()
        .into_iter()
        .map(|port| SocketAddr::new(ip, port))
        .collect()
}
