//! Connections to services, and from Ingresses and routes, as people ask about them.

use std::net::IpAddr;

use super::Match;
use super::engine::{Behind, Door, Engine, FrontRoute, HostPort, Served};
use super::explain::{End, Verdict};
use super::place::{NoAnswer, Place, PortName};
use super::port::Protocol;
use super::service::{ServiceKind, ServicePort, TargetPort};

/// A port of a service that is dialled, and how.
pub(super) type Dialled = (u32, ServicePort, Door);

/// What a place that is a service stands for.
pub(super) enum Destination {
    /// Ports of services.
    Ports(Vec<Dialled>),
    /// Ports that pods take of the node at this address.
    HostPorts(IpAddr, Vec<HostPort>),
    /// A name outside the cluster, at any address.
    Outside(String),
}

impl Engine {
    /// What is dialled where a place is a service, or an address that leads to one.
    ///
    /// # Errors
    ///
    /// The service has no port of that name.
    pub(super) fn destination(
        &self,
        to: &Place,
        protocol: Protocol,
        port: Option<&PortName>,
    ) -> Result<Option<Destination>, NoAnswer> {
        let number = match port {
            Some(PortName::Number(number)) => Some(*number),
            _ => None,
        };
        let (namespace, name) = match to {
            Place::Address(address) => {
                let found = self.services_at(*address, protocol, number);
                // Without a port, a node is asked for itself.
                let is_one = self.is_service_address(*address) || (number.is_some() && !found.is_empty());
                if is_one {
                    return Ok(Some(Destination::Ports(found)));
                }
                let Some(number) = number.filter(|_| self.is_node(*address)) else { return Ok(None) };
                let mut ports = self.host_ports(Some(*address));
                ports.retain(|one| one.protocol == protocol && one.host_port == number);
                return Ok((!ports.is_empty()).then_some(Destination::HostPorts(*address, ports)));
            }
            Place::Pod { namespace, kind, name } => match kind.as_deref() {
                Some("Service") => (namespace, name),
                // A pod or workload of the name comes first.
                None if self.find(to).is_err() => (namespace, name),
                _ => return Ok(None),
            },
        };
        let cluster = self.cluster();
        let service = cluster.find_namespace(namespace).and_then(|namespace| cluster.find_service(namespace, name));
        let service = match service.map(|service| self.stands_for(service)) {
            None => return Ok(None),
            Some(Err(name)) => return Ok(Some(Destination::Outside(name))),
            Some(Ok(service)) => service,
        };
        let Some(facts) = cluster.services.get(service as usize) else { return Ok(None) };
        let of_protocol = facts.ports.iter().filter(|one| one.protocol == protocol);
        let ports: Vec<ServicePort> = match port {
            Some(PortName::Name(wanted)) => {
                let named: Vec<ServicePort> = of_protocol.filter(|one| *one.name == **wanted).cloned().collect();
                if named.is_empty() {
                    return Err(NoAnswer::NoNamedPort(to.to_string(), protocol, wanted.clone()));
                }
                named
            }
            Some(PortName::Number(number)) if facts.kind == ServiceKind::Headless => vec![ServicePort {
                name: "".into(),
                protocol,
                port: *number,
                target: TargetPort::Number(*number),
                node_port: None,
            }],
            Some(PortName::Number(number)) => of_protocol.filter(|one| one.port == *number).cloned().collect(),
            None => of_protocol.cloned().collect(),
        };
        Ok(Some(Destination::Ports(ports.into_iter().map(|port| (service, port, Door::Inside)).collect())))
    }

    /// The verdict on dialling any of these ports of services.
    pub(super) fn answer_ports(&mut self, from: End, ports: &[Dialled]) -> Verdict {
        let mut best: Option<Verdict> = None;
        for (service, port, door) in ports {
            let served = self.served(from, *service, port, *door);
            let verdict = self.explain_served(from, *service, port, *door, &served);
            let openness = |verdict: &Verdict| (verdict.may, verdict.must);
            if best.as_ref().is_none_or(|best| openness(best) < openness(&verdict)) {
                best = Some(verdict);
            }
        }
        best.unwrap_or_else(|| nothing("the service has no such port"))
    }

    fn explain_served(&mut self, from: End, service: u32, port: &ServicePort, door: Door, served: &Served) -> Verdict {
        let Some(facts) = self.cluster().services.get(service as usize) else {
            return nothing("there is no such service");
        };
        let protocol = port.protocol;
        let title = format!("service {}/{}", self.cluster().namespace_name(facts.namespace), facts.name);
        let way = match door {
            Door::Inside => format!("through {title}"),
            Door::Node(_) => format!("through a node port of {title}"),
            Door::Outside(_) => format!("through an outer address of {title}"),
        };
        // The backend that decides: one that is less open than the whole would be, else the first.
        let decisive = served
            .backends
            .iter()
            .find(|backend| (backend.may, backend.must) == (served.may, served.must))
            .or_else(|| served.backends.first());
        let Some(backend) = decisive else {
            return nothing(&format!("{way}: nothing is behind it"));
        };
        let direct = self.explain(from, backend.end, protocol, backend.port);
        let target = self.title_of(backend.end);
        let reason = if (direct.may, direct.must) == (served.may, served.must) {
            direct.reason
        } else if served.may && !served.must {
            let open = match door {
                Door::Inside => "whether policies see the address of the service or of the pod",
                _ => "whether policies see addresses before or after they are rewritten",
            };
            format!("the standards leave open {open}")
        } else {
            "no rule allows it whichever address policies see".to_owned()
        };
        let reason = format!("{way} port {} to {target} port {}: {reason}", port.port, backend.port);
        Verdict { may: served.may, must: served.must, rule: direct.rule, rules: direct.rules, reason }
    }

    /// The verdict on a port of a node that pods take.
    pub(super) fn answer_host_ports(&mut self, from: End, node: IpAddr, ports: &[HostPort]) -> Verdict {
        let (mut may, mut must) = (false, true);
        let mut named = Vec::new();
        for port in ports {
            let served = self.served_by_host_port(from, Some(node), port);
            may |= served.may;
            must &= served.must && port.certain;
            named.push(format!("{} port {}", self.title_of(End::Pod(port.pod)), port.port));
        }
        let reason = format!("the node's port leads to {}", named.join(" or "));
        Verdict { may, must: may && must, rule: None, rules: Vec::new(), reason }
    }

    /// The verdict on a name outside the cluster, which may have any address.
    pub(super) fn answer_outside(&mut self, from: End, name: &str, protocol: Protocol, port: u16) -> Verdict {
        let mut may = false;
        let mut must = true;
        for v6 in [false, true] {
            if v6 && !self.knows_ipv6() {
                continue;
            }
            for (first, _) in self.parts_of_world(v6) {
                let reach = self.reach_ends(from, End::Address(first));
                may |= reach.may.contains(protocol, port);
                must &= reach.must.contains(protocol, port);
            }
        }
        let reason = format!("it stands for {name}, which may have any address");
        Verdict { may, must: may && must, rule: None, rules: Vec::new(), reason }
    }

    /// The fronts that a place names: an Ingress, a route, or all routes of a Gateway.
    pub(super) fn fronts(&self, place: &Place) -> Option<Vec<u32>> {
        let Place::Pod { namespace, kind: Some(kind), name } = place else { return None };
        let is_route = kind.ends_with("Route") || kind == "Ingress";
        if !is_route && kind != "Gateway" {
            return None;
        }
        let cluster = self.cluster();
        let namespace = cluster.find_namespace(namespace)?;
        let found: Vec<u32> = (0..)
            .zip(&cluster.fronts)
            .filter(|(_, front)| match is_route {
                true => *front.kind == **kind && front.namespace == namespace && *front.name == **name,
                false => front.gateways.iter().any(|(own, gateway)| *own == namespace && **gateway == **name),
            })
            .map(|(number, _)| number)
            .collect();
        Some(found)
    }

    /// The verdict on what comes in through fronts.
    pub(super) fn answer_fronts(
        &mut self,
        fronts: &[u32],
        to: &[End],
        protocol: Protocol,
        port: Option<u16>,
    ) -> Verdict {
        let mut whole: Option<(bool, bool)> = None;
        let mut known = true;
        for front in fronts {
            known &=
                self.cluster().fronts.get(*front as usize).is_some_and(|front| !self.controllers(front).is_empty());
            for FrontRoute { protocol: own, backend } in self.routes_of(*front, Behind::WhoeverItIs) {
                let is_meant = own == protocol && port.is_none_or(|port| port == backend.port);
                if is_meant && (to.contains(&backend.end) || to.iter().any(|end| self.alike(*end, backend.end))) {
                    let (may, must) = whole.unwrap_or((false, true));
                    whole = Some((may || backend.may, must && backend.must));
                }
            }
        }
        let Some((may, must)) = whole else { return nothing("it does not lead there") };
        let reason = match (known, may, must) {
            (true, ..) => "as its controller's pods reach it",
            (false, true, false) => "its controller is not among the manifests: who it is decides",
            (false, true, true) => "whoever its controller is",
            (false, false, _) => "no rule allows it, whoever its controller is",
        };
        Verdict { may, must, rule: None, rules: Vec::new(), reason: reason.to_owned() }
    }

    fn alike(&self, one: End, other: End) -> bool {
        match (one, other) {
            (End::Pod(one), End::Pod(other)) => {
                let namespace = |pod: u32| self.cluster().pods.get(pod as usize).map(|pod| pod.namespace);
                self.class(one).is_some() && self.class(one) == self.class(other) && namespace(one) == namespace(other)
            }
            _ => false,
        }
    }

    /// What people call an end.
    #[must_use]
    pub fn title_of(&self, end: End) -> String {
        match end {
            End::Address(address) => address.to_string(),
            End::Pod(number) => match self.cluster().pods.get(number as usize) {
                Some(pod) => format!("{}/{}", self.cluster().namespace_name(pod.namespace), pod.name),
                None => String::new(),
            },
        }
    }
}

fn nothing(reason: &str) -> Verdict {
    Verdict { may: false, must: false, rule: None, rules: Vec::new(), reason: reason.to_owned() }
}

impl From<(bool, bool)> for Match {
    /// May and must.
    fn from((may, must): (bool, bool)) -> Self {
        match (may, must) {
            (_, true) => Self::Yes,
            (true, false) => Self::Maybe,
            (false, false) => Self::No,
        }
    }
}
