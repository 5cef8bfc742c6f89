//! Guarantees about where a workspace can connect to without the egress proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::entry::{
    Attempts, BOTH, DIAL_CONTROL, Entry, FACT_CONTROL, KUBERNETES, fact, machine_addresses, sockets, tcp, udp, v4,
};
use crate::attempt::{Action, Fact, Phase, SocketKind};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

/// What the gate dials from its first instruction on, before it has read its plan: one
/// address of every kind that a wall may forget. Nothing listens on them inside.
pub const START_UP_WINDOW: &[SocketAddr] = &[
    SocketAddr::new(v4(169, 254, 169, 254), 80),
    SocketAddr::new(v4(168, 63, 129, 16), 80),
    SocketAddr::new(v4(10, 0, 0, 1), 443),
    SocketAddr::new(v4(192, 168, 0, 1), 443),
    SocketAddr::new(v4(100, 100, 100, 200), 80),
    SocketAddr::new(v4(1, 1, 1, 1), 443),
    SocketAddr::new(IpAddr::V6(METADATA_V6), 80),
    SocketAddr::new(IpAddr::V6(PUBLIC_V6), 443),
];

/// How long the gate keeps dialling them, in milliseconds.
const WINDOW_MS: u64 = 300;

const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const POD_IDENTITY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);
const PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);

/// One address in each range that is not public: the sentinels.
const PRIVATE_V4: &[IpAddr] = &[
    v4(10, 0, 0, 1),
    v4(10, 96, 0, 1),
    v4(172, 16, 0, 1),
    v4(172, 17, 0, 1),
    v4(192, 168, 0, 1),
    v4(100, 64, 0, 1),
    v4(169, 254, 1, 1),
];
const PRIVATE_V6: &[Ipv6Addr] =
    &[Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1)];

fn tcp_all(addresses: &[IpAddr], ports: &[u16]) -> Attempts {
    addresses.iter().flat_map(|address| ports.iter().map(move |port| tcp(*address, *port))).collect()
}

/// A link-local address on the only interface that there is.
fn link_local(last: u16, port: u16) -> (String, Action) {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, last);
    let address = SocketAddr::V6(SocketAddrV6::new(address, port, 0, 1));
    (format!("tcp {address}"), Action::TcpConnect { address, refusal_reaches: true })
}

fn platform_ports(situation: &Situation, phase: Phase) -> Attempts {
    let mut addresses: Vec<IpAddr> = machine_addresses(situation).collect();
    // Later the tenant may listen on its own loopback address; before user code nobody does.
    if phase == Phase::Gate {
        addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    tcp_all(&addresses, &situation.platform_ports)
}

fn other_workspaces(situation: &Situation, phase: Phase) -> Attempts {
    let mut attempts: Attempts =
        machine_addresses(situation).map(|address| tcp(address, situation.notebook_port)).collect();
    // A notebook listens on the loopback address of its own namespace. Before this one's has
    // started, whatever answers there is somebody else's.
    if phase == Phase::Gate {
        attempts.push(tcp(IpAddr::V4(Ipv4Addr::LOCALHOST), situation.notebook_port));
        attempts.push(tcp(IpAddr::V6(Ipv6Addr::LOCALHOST), situation.notebook_port));
    }
    attempts.extend([v4(10, 244, 0, 2), v4(172, 17, 0, 2)].map(|address| tcp(address, situation.notebook_port)));
    attempts
}

const fn entry(guarantee: Guarantee, attempts: fn(&Situation, Phase) -> Attempts) -> Entry {
    Entry { guarantee, attempts: Some(attempts) }
}

const NO_INTERFACE: &str = "The workspace has no network interface but its own loopback, so there is no route to anything; on Kubernetes network policy.";
const MATRIX: &str =
    "The reachability matrix over the policies, evaluated before and after address translation, does not hold it.";
const NETWORK_POLICY: &str = "https://kubernetes.io/docs/concepts/services-networking/network-policies/";

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Guarantee {
            id: "network.other-workspace",
            alias: "NW-01",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot open a TCP connection to another workspace.",
            mechanism: NO_INTERFACE,
            static_rule: MATRIX,
            live_probe: "Dials the notebook port at every address of the machine, and before user code at the loopback addresses too. A refused connection counts as reached.",
            positive_control: DIAL_CONTROL,
            references: &[NETWORK_POLICY, "man 7 network_namespaces"],
        },
        other_workspaces,
    ),
    entry(
        Guarantee {
            id: "network.other-workspace-udp",
            alias: "NW-04",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot exchange UDP datagrams with another workspace.",
            mechanism: NO_INTERFACE,
            static_rule: MATRIX,
            live_probe: "Sends a datagram to the notebook port of every address of the machine and waits for the echo.",
            positive_control: "The same probe as root gets the echo in a network namespace that owns the very address, before and after.",
            references: &[NETWORK_POLICY],
        },
        |situation, _| {
            machine_addresses(situation)
                .chain([v4(10, 244, 0, 2)])
                .map(|address| udp(address, situation.notebook_port))
                .collect()
        },
    ),
    entry(
        Guarantee {
            id: "network.sctp",
            alias: "NW-05",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot use SCTP.",
            mechanism: "System-call filter; on Kubernetes network policy.",
            static_rule: MATRIX,
            live_probe: "Makes an SCTP socket.",
            positive_control: "Root without a filter makes the same socket; a kernel without SCTP has nothing to reach.",
            references: &["RFC 9260", NETWORK_POLICY],
        },
        |_, _| sockets(&[("sctp", SocketKind::Sctp)]),
    ),
    entry(
        Guarantee {
            id: "network.ipv6",
            alias: "NW-07",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot get around its network walls over IPv6.",
            mechanism: NO_INTERFACE,
            static_rule: "Policies for both families.",
            live_probe: "Dials public, unique-local and link-local IPv6 addresses.",
            positive_control: DIAL_CONTROL,
            references: &["RFC 4193", "RFC 4291", NETWORK_POLICY],
        },
        |_, _| {
            let mut attempts: Attempts = PRIVATE_V6.iter().map(|address| tcp(IpAddr::V6(*address), 443)).collect();
            attempts.push(tcp(IpAddr::V6(PUBLIC_V6), 443));
            attempts.push(udp(IpAddr::V6(PUBLIC_V6), 53));
            attempts.push(link_local(1, 80));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "network.metadata-ipv4",
            alias: "NW-12",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the cloud's metadata service.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to 169.254.169.254; hop limit 1.",
            live_probe: "Dials 169.254.169.254 on ports 80 and 443. No credential path is ever asked for.",
            positive_control: DIAL_CONTROL,
            references: &[
                "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html",
                "RFC 3927",
                "NSA/CISA Kubernetes Hardening Guide: protecting the metadata service",
            ],
        },
        |_, _| tcp_all(&[v4(169, 254, 169, 254)], &[80, 443]),
    ),
    entry(
        Guarantee {
            id: "network.metadata-ipv6",
            alias: "NW-13",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the cloud's metadata service over IPv6.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to fd00:ec2::254.",
            live_probe: "Dials [fd00:ec2::254]:80.",
            positive_control: DIAL_CONTROL,
            references: &[
                "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html",
            ],
        },
        |_, _| vec![tcp(IpAddr::V6(METADATA_V6), 80)],
    ),
    entry(
        Guarantee {
            id: "network.credential-doors",
            alias: "NW-14",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the side doors where clouds hand out credentials.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to 169.254.170.2, 169.254.170.23, fd00:ec2::23, 169.254.169.252.",
            live_probe: "Dials the credential endpoints of ECS, EKS Pod Identity and GKE.",
            positive_control: DIAL_CONTROL,
            references: &[
                "https://docs.aws.amazon.com/eks/latest/userguide/pod-identities.html",
                "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html",
                "https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity",
            ],
        },
        |_, _| {
            vec![
                tcp(v4(169, 254, 170, 2), 80),
                tcp(v4(169, 254, 170, 23), 80),
                tcp(IpAddr::V6(POD_IDENTITY_V6), 80),
                tcp(v4(169, 254, 169, 252), 80),
                tcp(v4(169, 254, 169, 254), 988),
            ]
        },
    ),
    entry(
        Guarantee {
            id: "network.cloud-fabric",
            alias: "NW-15",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the cloud's own machinery on addresses that look public.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to 168.63.129.16, 100.100.100.200, 100.80.80.80, fe80::a9fe:a9fe.",
            live_probe: "Dials the Azure WireServer, the metadata services of Alibaba and UCloud, and OpenStack's link-local one.",
            positive_control: DIAL_CONTROL,
            references: &[
                "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16",
                "https://docs.openstack.org/nova/latest/user/metadata.html",
            ],
        },
        |_, _| {
            vec![
                tcp(v4(168, 63, 129, 16), 80),
                tcp(v4(168, 63, 129, 16), 32526),
                tcp(v4(100, 100, 100, 200), 80),
                tcp(v4(100, 80, 80, 80), 80),
                link_local(0xa9fe, 80),
            ]
        },
    ),
    entry(
        Guarantee {
            id: "network.private-ranges",
            alias: "NW-16",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach private networks.",
            mechanism: NO_INTERFACE,
            static_rule: "The matrix for 10/8, 172.16/12, 192.168/16, 100.64/10, 169.254/16, fc00::/7 and fe80::/10.",
            live_probe: "Dials one address in each range that is not public.",
            positive_control: DIAL_CONTROL,
            references: &["RFC 1918", "RFC 6598", "RFC 3927", "RFC 4193"],
        },
        |_, _| {
            let mut attempts = tcp_all(PRIVATE_V4, &[443]);
            attempts.extend(PRIVATE_V6.iter().map(|address| tcp(IpAddr::V6(*address), 80)));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "network.internet",
            alias: "NW-17",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the internet except through its egress proxy.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress but to the proxy.",
            live_probe: "Dials public addresses directly.",
            positive_control: DIAL_CONTROL,
            references: &["RFC 9110 section 9.3.6 (CONNECT)"],
        },
        |_, _| vec![tcp(v4(1, 1, 1, 1), 443), tcp(v4(8, 8, 8, 8), 443), tcp(v4(1, 1, 1, 1), 80)],
    ),
    entry(
        Guarantee {
            id: "network.mail",
            alias: "NW-18",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot send mail directly.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to ports 25, 465 and 587.",
            live_probe: "Dials the mail ports of a public address.",
            positive_control: DIAL_CONTROL,
            references: &["RFC 5321", "RFC 8314"],
        },
        |_, _| tcp_all(&[v4(1, 1, 1, 1)], &[25, 465, 587]),
    ),
    entry(
        Guarantee {
            id: "network.raw-sockets",
            alias: "NW-19",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot forge packets.",
            mechanism: "No CAP_NET_RAW, and the system-call filter.",
            static_rule: "capabilities drop ALL (at least NET_RAW).",
            live_probe: "Makes packet and raw sockets.",
            positive_control: "Root without a filter makes the same sockets.",
            references: &["man 7 packet", "man 7 raw", "CVE-2020-14386"],
        },
        |_, _| {
            sockets(&[
                ("packet", SocketKind::Packet),
                ("raw ipv4", SocketKind::RawIpv4),
                ("raw ipv6", SocketKind::RawIpv6),
            ])
        },
    ),
    entry(
        Guarantee {
            id: "network.start-up-window",
            alias: "NW-20",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot slip out before its network walls stand.",
            mechanism: "The namespace never has an interface; on Kubernetes a network plugin in strict mode.",
            static_rule: "The network plugin's mode.",
            live_probe: "The workspace's first process dials from its first instruction on, for 300 ms, again and again.",
            positive_control: "The same probe as root in a network namespace that owns the very address and listens there connects, at the latest while the window is open, and again after; on Kubernetes, the reference pod.",
            references: &["https://github.com/aws/aws-network-policy-agent/issues/345"],
        },
        |_, phase| match phase {
            Phase::Gate => START_UP_WINDOW
                .iter()
                .map(|address| {
                    (
                        format!("from the start {address}"),
                        Action::TcpWindow { address: *address, milliseconds: WINDOW_MS },
                    )
                })
                .collect(),
            Phase::Later => Vec::new(),
        },
    ),
    entry(
        Guarantee {
            id: "network.platform-ports",
            alias: "NW-22",
            layer: Layer::PlatformServices,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot reach the hub or what runs beside it.",
            mechanism: NO_INTERFACE,
            static_rule: "No egress to the hub's namespace.",
            live_probe: "Dials every port of the platform at every address of the machine, and before user code at the loopback addresses too.",
            positive_control: DIAL_CONTROL,
            references: &[NETWORK_POLICY],
        },
        platform_ports,
    ),
    entry(
        Guarantee {
            id: "network.dns-servers",
            alias: "NW-24",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot ask name servers directly.",
            mechanism: "No interface; names are resolved outside, by the egress proxy. On Kubernetes port 53 only to the cluster's own name servers.",
            static_rule: "Egress to port 53 only to the name servers' pods.",
            live_probe: "Sends to port 53, UDP and TCP, of public, private and the machine's addresses.",
            positive_control: "The same probe as root gets an answer at the very address in a network namespace that owns it, before and after.",
            references: &["RFC 1035", "RFC 7766"],
        },
        |situation, _| {
            let mut attempts: Attempts = Vec::new();
            for address in machine_addresses(situation).chain([v4(8, 8, 8, 8), v4(10, 96, 0, 10), v4(127, 0, 0, 53)]) {
                attempts.push(tcp(address, 53));
                attempts.push(udp(address, 53));
            }
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "network.second-interface",
            alias: "NW-25",
            layer: Layer::Workload,
            place: Place::Network,
            engines: BOTH,
            sentence: "A workspace cannot have another network interface.",
            mechanism: "A network namespace of its own, made empty, and no CAP_NET_ADMIN.",
            static_rule: "No secondary network annotation; not hostNetwork.",
            live_probe: "Lists its network interfaces for anything but loopback.",
            positive_control: FACT_CONTROL,
            references: &["man 7 network_namespaces"],
        },
        |_, _| vec![fact("interfaces", Fact::Interfaces { allowed: vec!["lo".to_owned()] })],
    ),
    Entry {
        guarantee: Guarantee {
            id: "network.other-workspace-same-node",
            alias: "NW-02",
            layer: Layer::Workload,
            place: Place::Network,
            engines: KUBERNETES,
            sentence: "A workspace cannot open a TCP connection to another workspace on the same node.",
            mechanism: "Network policy, enforced by the node's own datapath.",
            static_rule: MATRIX,
            live_probe: "Dials a canary that is scheduled on the same node.",
            positive_control: "A reference pod without walls on the same node connects in the same second.",
            references: &[NETWORK_POLICY],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "network.inbound",
            alias: "NW-03",
            layer: Layer::Workload,
            place: Place::Network,
            engines: KUBERNETES,
            sentence: "A workspace cannot be reached by another workspace.",
            mechanism: "Network policy for ingress.",
            static_rule: MATRIX,
            live_probe: "Listens; a canary in another tenant's namespace dials.",
            positive_control: "The controller's door reaches the same listener in the same second.",
            references: &[NETWORK_POLICY],
        },
        attempts: None,
    },
];
