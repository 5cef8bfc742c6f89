//! Why a connection was not made, for the client and for the log.

use std::net::IpAddr;

use hyper::StatusCode;

use crate::target::{Malformed, Target};

/// The rule that a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The target is not a plain host name or address with a port.
    Malformed,
    /// The request is not one for a proxy.
    NotForAProxy,
    /// The port is not served.
    Port,
    /// The host is not on the allow-list.
    NotListed,
    /// The address is not public.
    NotPublic,
    /// The name has public and other addresses, as in DNS rebinding.
    Mixed,
    /// The address belongs to this machine.
    Machine,
    /// The site refuses the network.
    Site,
    /// The name has no address.
    Unresolvable,
    /// The host does not answer.
    Unreachable,
    /// Nobody knows who asks.
    Stranger,
    /// The workspace has too many connections open.
    Busy,
    /// The proxy could not check the address.
    Unchecked,
}

impl Rule {
    /// The word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotForAProxy => "not_for_a_proxy",
            Self::Port => "port",
            Self::NotListed => "not_listed",
            Self::NotPublic => "not_public",
            Self::Mixed => "mixed",
            Self::Machine => "machine",
            Self::Site => "site",
            Self::Unresolvable => "unresolvable",
            Self::Unreachable => "unreachable",
            Self::Stranger => "stranger",
            Self::Busy => "busy",
            Self::Unchecked => "unchecked",
        }
    }

    /// Whether the proxy would not (refused) or could not (failed) connect.
    pub fn failed(self) -> bool {
        matches!(self, Self::Unresolvable | Self::Unreachable | Self::Busy | Self::Unchecked)
    }

    /// The HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Stranger => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::Unresolvable | Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Busy | Self::Unchecked => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// The reason phrase: all that pip and many others show of a refused CONNECT.
    pub(crate) fn phrase(self) -> &'static [u8] {
        match self {
            Self::Malformed => b"Refused by Cubicle: not a plain host and port",
            Self::NotForAProxy => b"Refused by Cubicle: not a request for a proxy",
            Self::Port => b"Refused by Cubicle: port not served",
            Self::NotListed => b"Refused by Cubicle: host not on the allow-list",
            Self::NotPublic | Self::Mixed => b"Refused by Cubicle: not a public address",
            Self::Machine => b"Refused by Cubicle: an address of this machine",
            Self::Site => b"Refused by Cubicle: network refused by this site",
            Self::Unresolvable => b"Bad Gateway: no such host",
            Self::Unreachable => b"Bad Gateway: host does not answer",
            Self::Stranger => b"Refused by Cubicle: not a workspace with this address and credential",
            Self::Busy => b"Service Unavailable: too many connections",
            Self::Unchecked => b"Service Unavailable: address could not be checked",
        }
    }

    /// The error type of the `Proxy-Status` field (RFC 9209 section 2.3).
    pub(crate) fn proxy_error(self) -> &'static str {
        match self {
            Self::Malformed | Self::NotForAProxy => "http_request_error",
            Self::Port | Self::NotListed | Self::Stranger => "http_request_denied",
            Self::NotPublic | Self::Mixed | Self::Machine | Self::Site => "destination_ip_prohibited",
            Self::Unresolvable => "dns_error",
            Self::Unreachable => "destination_unavailable",
            Self::Busy => "connection_limit_reached",
            Self::Unchecked => "proxy_internal_error",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Malformed => "write HOST:PORT with a full host name, or an address in its usual notation",
            Self::NotForAProxy => "use CONNECT HOST:PORT, or an absolute http:// address",
            Self::Port => "use a served port; an administrator can put HOST:PORT on a template's allow-list",
            Self::NotListed => "ask an administrator to add it to egress.allow of the template",
            Self::NotPublic | Self::Mixed | Self::Machine | Self::Site => {
                "workspaces reach public addresses only; ask an administrator for the data as a data set"
            }
            Self::Unresolvable => "check the spelling; names of a local network are not resolved",
            Self::Unreachable => "try again later",
            Self::Stranger => {
                "use the proxy as http_proxy in the workspace's environment names it; start the workspace again"
            }
            Self::Busy => "close some connections",
            Self::Unchecked => "try again; if it stays, ask an administrator to look at the workspace's egress log",
        }
    }
}

/// One refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The host as far as it could be read, in printable ASCII.
    pub host: String,
    /// The port, when it could be read.
    pub port: Option<u16>,
    /// The address that decided. Goes to the log, never to the client: what an internal name
    /// resolves to is none of the workspace's business.
    pub address: Option<IpAddr>,
    /// The whole reason, for client and log.
    pub reason: String,
}

impl Refusal {
    /// A refusal of a target that was read.
    pub fn of(target: &Target, rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, host: target.host.to_string(), port: Some(target.port), address: None, reason: reason.into() }
    }

    /// The same, with the address that decided.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// A text that names no host.
    pub(crate) fn malformed(authority: &str, why: Malformed) -> Self {
        Self { rule: Rule::Malformed, host: printable(authority), port: None, address: None, reason: why.to_string() }
    }

    /// A request without a target.
    pub(crate) fn without_target(rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, host: String::new(), port: None, address: None, reason: reason.into() }
    }

    /// The body of the answer: the host, the rule and the remedy, each on its line.
    pub(crate) fn body(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let subject = if self.host.is_empty() { "this request".to_owned() } else { format!("\"{}{port}\"", self.host) };
        let verb = if self.rule.failed() { "could not be served" } else { "is refused" };
        format!("cubicle: {subject} {verb}\nrule: {}\nremedy: {}\n", self.reason, self.rule.remedy())
    }
}

/// At most 200 printable ASCII characters of a hostile text.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).take(200).collect()
}
