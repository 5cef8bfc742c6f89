//! How people name the ends of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::dial::Destination;
use super::engine::{Engine, name_of_service};
use super::explain::{End, Verdict};
use super::port::{PortSet, Protocol};

/// An end as people write it: `namespace/pod`, `namespace/workload`, `namespace/Kind/name`, the
/// name of a service (`name.namespace.svc`) or an address. The kind may be `Service`, and of a
/// source `Ingress`, `Gateway` or a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A pod, or a workload by its name or its pods' owner; a service where none has the name.
    Pod {
        /// The namespace.
        namespace: String,
        /// The kind of the workload, where it is told.
        kind: Option<String>,
        /// The name.
        name: String,
    },
    /// An address.
    Address(IpAddr),
}

/// A port by number or by the name that the destination gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortName {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// Why a question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The text is no end.
    #[error("\"{0}\" is neither NAMESPACE/POD nor an address")]
    NoPlace(String),
    /// The text is no port.
    #[error("\"{0}\" is no port")]
    NoPort(String),
    /// No such pod.
    #[error("there is no pod, workload or service {0}")]
    NoPod(String),
    /// The destination does not have a port of that name.
    #[error("{0} has no {1} port named \"{2}\"")]
    NoNamedPort(String, Protocol, String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, kind: Some(kind), name } => write!(formatter, "{namespace}/{kind}/{name}"),
            Self::Pod { namespace, kind: None, name } => write!(formatter, "{namespace}/{name}"),
            Self::Address(address) => write!(formatter, "{address}"),
        }
    }
}

impl FromStr for Place {
    type Err = NoAnswer;

    fn from_str(text: &str) -> Result<Self, NoAnswer> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Some((name, namespace)) = name_of_service(text) {
            let kind = Some("Service".to_owned());
            return Ok(Self::Pod { namespace: namespace.to_owned(), kind, name: name.to_owned() });
        }
        let parts: Vec<&str> = text.split('/').collect();
        let pod = |namespace: &str, kind: Option<&str>, name: &str| Self::Pod {
            namespace: namespace.to_owned(),
            kind: kind.map(str::to_owned),
            name: name.to_owned(),
        };
        match parts[..] {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(pod(namespace, None, name)),
            [namespace, kind, name] if ![namespace, kind, name].contains(&"") => Ok(pod(namespace, Some(kind), name)),
            _ => Err(NoAnswer::NoPlace(text.to_owned())),
        }
    }
}

impl FromStr for PortName {
    type Err = NoAnswer;

    fn from_str(text: &str) -> Result<Self, NoAnswer> {
        match text.parse::<u16>() {
            Ok(0) => Err(NoAnswer::NoPort(text.to_owned())),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if text.bytes().any(|byte| byte.is_ascii_alphabetic()) => Ok(Self::Name(text.to_owned())),
            Err(_) => Err(NoAnswer::NoPort(text.to_owned())),
        }
    }
}

/// Splits `PLACE[:PORT]`. An IPv6 address with a port is written in brackets.
///
/// # Errors
///
/// The text is no place, or what follows the colon is no port.
pub fn with_port(text: &str) -> Result<(Place, Option<PortName>), NoAnswer> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let port = Some(socket.port()).filter(|port| *port > 0).ok_or_else(|| NoAnswer::NoPort("0".to_owned()))?;
        return Ok((Place::Address(socket.ip().to_canonical()), Some(PortName::Number(port))));
    }
    if let Ok(place @ Place::Address(_)) = text.parse() {
        return Ok((place, None));
    }
    match text.rsplit_once(':') {
        Some((place, port)) => Ok((place.parse()?, Some(port.parse()?))),
        None => Ok((text.parse()?, None)),
    }
}

impl Engine {
    /// The ends that a place stands for: one pod, all pods of a workload, or an address. The
    /// address of a pod is that pod.
    ///
    /// # Errors
    ///
    /// There is no such pod.
    pub fn find(&self, place: &Place) -> Result<Vec<End>, NoAnswer> {
        let (namespace, kind, name) = match place {
            Place::Address(address) => {
                // A finished pod has given its address back.
                let pods = self.pods_at(*address).filter(|pod| !self.cluster().pods[*pod as usize].finished);
                let ends: Vec<End> = pods.map(End::Pod).collect();
                return Ok(if ends.is_empty() { vec![End::Address(*address)] } else { ends });
            }
            Place::Pod { namespace, kind, name } => (namespace, kind.as_deref(), name),
        };
        let cluster = self.cluster();
        let id = cluster.find_namespace(namespace).ok_or_else(|| NoAnswer::NoPod(place.to_string()))?;
        let pods = self.pods_in(id);
        let is_named = |number: &&u32| *cluster.pods[**number as usize].name == **name;
        if kind.is_none_or(|kind| kind == "Pod")
            && let Some(number) = pods.iter().find(is_named)
        {
            return Ok(vec![End::Pod(*number)]);
        }
        let is_owned = |number: &&u32| {
            let owner = cluster.pods[**number as usize].owner.as_ref();
            owner.is_some_and(|owner| *owner.name == **name && kind.is_none_or(|kind| kind == &*owner.kind))
        };
        let ends: Vec<End> = pods.iter().filter(is_owned).map(|number| End::Pod(*number)).collect();
        if ends.is_empty() { Err(NoAnswer::NoPod(place.to_string())) } else { Ok(ends) }
    }

    /// The verdict on a connection. Between workloads `may` holds if any of their pods may, and
    /// `must` if all must. Without a port it is about any port.
    ///
    /// # Errors
    ///
    /// An end is not there, or the destination has no port of that name.
    pub fn answer(
        &mut self,
        from: &Place,
        to: &Place,
        protocol: Protocol,
        port: Option<&PortName>,
    ) -> Result<Verdict, NoAnswer> {
        if let Some(fronts) = self.fronts(from) {
            if fronts.is_empty() {
                return Err(NoAnswer::NoPod(from.to_string()));
            }
            let to_ends = self.find(to)?;
            let number = match (port, to_ends.first()) {
                (Some(PortName::Name(name)), Some(end)) => Some(
                    self.named_port(*end, protocol, name)
                        .ok_or_else(|| NoAnswer::NoNamedPort(to.to_string(), protocol, name.clone()))?,
                ),
                (Some(PortName::Number(number)), _) => Some(*number),
                _ => None,
            };
            return Ok(self.answer_fronts(&fronts, &to_ends, protocol, number));
        }
        if let Some(destination) = self.destination(to, protocol, port)? {
            let from_ends = self.find(from)?;
            let mut whole: Option<Verdict> = None;
            for one in self.representatives(&from_ends) {
                let verdict = match (&destination, port) {
                    (Destination::Ports(ports), _) => self.answer_ports(one, ports),
                    (Destination::HostPorts(node, ports), _) => self.answer_host_ports(one, *node, ports),
                    (Destination::Outside(name), Some(PortName::Number(port))) => {
                        self.answer_outside(one, name, protocol, *port)
                    }
                    (Destination::Outside(name), _) => self.answer_outside(one, name, protocol, 443),
                };
                whole = Some(match whole {
                    None => verdict,
                    Some(known) => both(known, verdict),
                });
            }
            return whole.ok_or_else(|| NoAnswer::NoPod(from.to_string()));
        }
        let (from_ends, to_ends) = (self.find(from)?, self.find(to)?);
        // Pods of one class answer alike, so two of each tell all; the second stands for "another
        // of its kind" where a workload speaks with itself.
        let (from_ends, to_ends) = (self.representatives(&from_ends), self.representatives(&to_ends));
        let mut whole: Option<Verdict> = None;
        for one in &from_ends {
            for other in &to_ends {
                if one == other && (from_ends.len() > 1 || to_ends.len() > 1) {
                    continue;
                }
                let verdict = self.answer_ends(*one, *other, to, protocol, port)?;
                whole = Some(match whole {
                    None => verdict,
                    Some(known) => both(known, verdict),
                });
            }
        }
        whole.ok_or_else(|| NoAnswer::NoPod(to.to_string()))
    }

    fn answer_ends(
        &mut self,
        from: End,
        to: End,
        place: &Place,
        protocol: Protocol,
        port: Option<&PortName>,
    ) -> Result<Verdict, NoAnswer> {
        let number = match port {
            Some(PortName::Number(number)) => *number,
            Some(PortName::Name(name)) => self
                .named_port(to, protocol, name)
                .ok_or_else(|| NoAnswer::NoNamedPort(place.to_string(), protocol, name.clone()))?,
            None => {
                // Any port: one that must be reached, else one that may, else any.
                let reach = self.reach_ends(from, to);
                let first = |set: &PortSet| set.intervals(protocol).first().map(|interval| interval.0);
                first(&reach.must).or_else(|| first(&reach.may)).unwrap_or(1)
            }
        };
        Ok(self.explain(from, to, protocol, number))
    }

    fn named_port(&self, to: End, protocol: Protocol, name: &str) -> Option<u16> {
        let End::Pod(number) = to else { return None };
        let name = self.cluster().symbols.find(name)?;
        let ports = &self.cluster().pods[number as usize].ports;
        ports.iter().find(|port| port.name == Some(name) && port.protocol == protocol).map(|port| port.port)
    }

    fn representatives(&self, ends: &[End]) -> Vec<End> {
        let mut seen: Vec<(u32, u8)> = Vec::new();
        let mut kept = Vec::new();
        for end in ends {
            let class = match end {
                End::Pod(number) => self.class(*number),
                End::Address(_) => None,
            };
            let Some(class) = class else {
                kept.push(*end);
                continue;
            };
            match seen.iter_mut().find(|(known, _)| *known == class) {
                Some((_, count)) if *count >= 2 => continue,
                Some((_, count)) => *count += 1,
                None => seen.push((class, 1)),
            }
            kept.push(*end);
        }
        kept
    }
}

/// The verdict on two connections together, with the rule of the one that is less open.
fn both(one: Verdict, other: Verdict) -> Verdict {
    let (may, must) = (one.may || other.may, one.must && other.must);
    let Verdict { rule, rules, reason, .. } = if one.must && !other.must { other } else { one };
    Verdict { may, must, rule, rules, reason }
}
