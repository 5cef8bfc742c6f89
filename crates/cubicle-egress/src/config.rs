//! What the proxy of one workspace may do, as its parent hands it over.

use std::fmt;

use cubicle_core::template::{Egress, EgressMode};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{MAIL_PORT, Policy};
use crate::target::{Host, Malformed, parse_port, split};

/// The configuration, as JSON:
/// `{"mode":"allow-list","allow":["example.org"],"refused":["203.0.113.0/24"],"log":"all"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `walled` or `allow-list`. With `none` there is no proxy, so it is refused.
    pub mode: EgressMode,
    /// With `allow-list`: `host` (ports 80 and 443), `host:port`, `*.domain`, `*.domain:port`.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Networks that are refused besides all that is not public, in CIDR notation; a single
    /// address is a network of one.
    #[serde(default)]
    pub refused: Vec<String>,
    /// What the log holds.
    #[serde(default)]
    pub log: LogDetail,
}

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDetail {
    /// Each decision.
    #[default]
    All,
    /// Only what was refused or failed: the hosts that a person uses are not kept.
    Refusals,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The mode has no proxy.
    #[error("egress mode \"none\" has no proxy; start none")]
    NoProxy,
    /// A list came with a mode that has none.
    #[error("egress.allow is set, but the mode is \"walled\"; choose mode \"allow-list\"")]
    ListWithoutMode,
    /// An entry of the list names no host.
    #[error("egress.allow entry \"{entry}\" {why}; write host, host:port, *.domain or *.domain:port")]
    Entry {
        /// The entry, in printable ASCII.
        entry: String,
        /// What is wrong with it.
        why: Malformed,
    },
    /// An entry asks for the mail port.
    #[error("egress.allow entry \"{entry}\" asks for port 25, which is never served; use a mail service's port 587")]
    Mail {
        /// The entry, in printable ASCII.
        entry: String,
    },
    /// A refused network cannot be read.
    #[error("refused network \"{network}\" is not in CIDR notation; write for example 203.0.113.0/24")]
    Network {
        /// The network, in printable ASCII.
        network: String,
    },
}

impl Config {
    /// The configuration for a template's egress.
    pub fn new(egress: &Egress, refused: Vec<String>) -> Self {
        Self { mode: egress.mode, allow: egress.allow.clone(), refused, log: LogDetail::All }
    }

    /// Checks everything and gives the policy.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let refused = self.refused.iter().map(|text| network(text)).collect::<Result<Vec<_>, _>>()?;
        let allow = match self.mode {
            EgressMode::None => return Err(ConfigError::NoProxy),
            EgressMode::Walled if !self.allow.is_empty() => return Err(ConfigError::ListWithoutMode),
            EgressMode::Walled => None,
            EgressMode::AllowList => {
                Some(self.allow.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?)
            }
        };
        Ok(Policy::new(allow, refused))
    }
}

fn network(text: &str) -> Result<IpNet, ConfigError> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single).ok_or_else(|| ConfigError::Network { network: crate::refusal::printable(text) })
}

/// One entry of the allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(Host),
    /// All names below this one, which begins with a dot.
    Below(String),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let entry = || crate::refusal::printable(text);
        let wrong = |why| ConfigError::Entry { entry: entry(), why };
        let (host, port) = split(text).map_err(wrong)?;
        let port = port.map(parse_port).transpose().map_err(wrong)?;
        if port == Some(MAIL_PORT) {
            return Err(ConfigError::Mail { entry: entry() });
        }
        let hosts = match host.strip_prefix("*.") {
            // Of an address there is no domain, and a whole top-level domain is no list.
            Some(domain) => match domain.parse::<Host>().map_err(wrong)? {
                Host::Name(name) => Hosts::Below(format!(".{name}")),
                Host::Address(_) => return Err(wrong(Malformed::Label)),
            },
            None => Hosts::One(host.parse().map_err(wrong)?),
        };
        Ok(Self { hosts, port })
    }

    /// Whether the entry lets this through.
    pub(crate) fn matches(&self, host: &Host, port: u16) -> bool {
        let host = match (&self.hosts, host) {
            (Hosts::One(one), host) => one == host,
            (Hosts::Below(domain), Host::Name(name)) => name.len() > domain.len() && name.ends_with(domain.as_str()),
            (Hosts::Below(_), Host::Address(_)) => false,
        };
        host && match self.port {
            Some(listed) => listed == port,
            None => matches!(port, 80 | 443),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::One(host) => write!(formatter, "{host}")?,
            Hosts::Below(domain) => write!(formatter, "*{domain}")?,
        }
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn listed(entry: &str, target: &str) -> bool {
        let target = Target::parse(target, None).expect(target);
        Pattern::parse(entry).expect(entry).matches(&target.host, target.port)
    }

    #[test]
    fn an_entry_lets_through_what_it_says() {
        assert!(listed("example.org", "example.org:443"));
        assert!(listed("Example.ORG", "eXample.org:80"));
        assert!(listed("example.org:22", "example.org:22"));
        assert!(listed("*.example.org", "a.example.org:443"));
        assert!(listed("*.example.org", "a.b.example.org:443"));
        assert!(listed("*.example.org:8443", "a.example.org:8443"));
        assert!(listed("8.8.8.8", "8.8.8.8:443"));
        assert!(listed("[2606:4700::1]:443", "[2606:4700:0::1]:443"));
    }

    #[test]
    fn and_nothing_else() {
        assert!(!listed("example.org", "www.example.org:443"));
        assert!(!listed("example.org", "example.org.evil.test:443"));
        assert!(!listed("example.org", "example.org:8080"));
        assert!(!listed("example.org:22", "example.org:443"));
        assert!(!listed("*.example.org", "example.org:443"));
        assert!(!listed("*.example.org", "evilexample.org:443"));
        assert!(!listed("*.example.org", "8.8.8.8:443"));
        assert!(!listed("8.8.8.8", "dns.google:443"));
    }

    #[test]
    fn bad_configurations_name_the_entry() {
        let config = |mode, allow: &[&str], refused: &[&str]| Config {
            mode,
            allow: allow.iter().map(ToString::to_string).collect(),
            refused: refused.iter().map(ToString::to_string).collect(),
            log: LogDetail::All,
        };
        let list = EgressMode::AllowList;
        for entry in ["", "*", "*.", "*.org", "*.*.org", "a*.org", "http://a.b", "a.b/c", "a.b:", "a.b:0", "2130706433"]
        {
            let problem = config(list, &[entry], &[]).policy().expect_err(entry).to_string();
            assert!(problem.contains(&format!("\"{entry}\"")), "{problem}");
        }
        assert!(matches!(config(list, &["a.b:25"], &[]).policy(), Err(ConfigError::Mail { .. })));
        assert_eq!(config(EgressMode::None, &[], &[]).policy().err(), Some(ConfigError::NoProxy));
        assert_eq!(config(EgressMode::Walled, &["a.b"], &[]).policy().err(), Some(ConfigError::ListWithoutMode));
        for network in ["", "1.2.3.4/33", "1.2.3", "::/129", "a.b"] {
            assert!(matches!(config(list, &[], &[network]).policy(), Err(ConfigError::Network { .. })), "{network}");
        }
        assert!(
            config(EgressMode::Walled, &[], &["203.0.113.0/24", "2600::/16", "9.9.9.9", "2600::1"]).policy().is_ok()
        );
        assert!(config(list, &[], &[]).policy().is_ok(), "an empty list is a list");
    }

    #[test]
    fn the_document_is_closed() {
        let read = |text| serde_json::from_str::<Config>(text);
        assert_eq!(read(r#"{"mode":"walled"}"#).expect("short form").log, LogDetail::All);
        assert_eq!(read(r#"{"mode":"allow-list","log":"refusals"}"#).expect("log").log, LogDetail::Refusals);
        assert!(read(r#"{"mode":"open"}"#).is_err());
        assert!(read(r#"{"mode":"walled","alow":[]}"#).is_err());
        assert!(read("{}").is_err());
    }
}
