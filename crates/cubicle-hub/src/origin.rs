//! Origins: which host is the hub, which is a workspace, and which requests may come from where.
//!
//! Every workspace has an origin of its own, so that the browser keeps one user's page away
//! from another's and from the hub (RFC 6454).

use std::net::{IpAddr, SocketAddr};

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;

use crate::config::{HostNames, HubConfig};

/// What a `Host` header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The hub itself.
    Hub,
    /// The origin of a portal, where its contract is spoken and nothing else.
    Portal,
    /// The origin of one workspace, which may or may not exist.
    Workspace(WorkspaceId),
}

/// How hosts map to origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins {
    secure: bool,
    naming: Naming,
    portal: Option<PortalOrigin>,
}

/// Where a portal is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PortalOrigin {
    secure: bool,
    host: String,
    port: Option<u16>,
}

impl PortalOrigin {
    fn new(url: &str) -> Result<Self, Problem> {
        let (secure, host, port) = split_url(url)?;
        Ok(Self { secure, host, port })
    }

    /// Like the hub's, a loopback origin keeps whatever port a request came by.
    fn is(&self, name: &str, port: Option<u16>) -> bool {
        let standard = Some(if self.secure { 443 } else { 80 });
        name == self.host && (is_loopback_name(name) || port.or(standard) == self.port.or(standard))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Naming {
    /// `localhost` and loopback addresses at any port; the port of the request is kept, because
    /// a forwarded port (`ssh -L`) may differ from the one that is listened on.
    Loopback {
        /// The port that is listened on, for links that are made without a request.
        port: u16,
    },
    /// Exactly one host.
    Named { host: String, domain: String, port: Option<u16> },
}

impl Origins {
    /// Reads the configuration. Refuses plain http anywhere but on a loopback address.
    pub(crate) fn new(config: &HubConfig, listen: SocketAddr) -> Result<Self, Problem> {
        let origins = Self::of_hub(config, listen)?;
        let Some(settings) = &config.sign_in.portal else { return Ok(origins) };
        let portal = PortalOrigin::new(&settings.url)?;
        if let Naming::Named { host, domain, .. } = &origins.naming
            && (portal.host == *host || portal.host == *domain || portal.host.ends_with(&format!(".{domain}")))
        {
            return Err(Problem::bad_input(
                format!("the portal {} is the hub's own host, or lies in the workspaces' domain", settings.url),
                "give the hub a host of its own: on the portal's origin nothing of the hub but the contract is served",
            ));
        }
        Ok(Self { portal: Some(portal), ..origins })
    }

    fn of_hub(config: &HubConfig, listen: SocketAddr) -> Result<Self, Problem> {
        let loopback = listen.ip().is_loopback();
        if !loopback && config.tls.is_none() {
            return Err(Problem::bad_input(
                format!("listening on {listen} without TLS would send passwords and cookies in the clear"),
                "listen on 127.0.0.1 (and use ssh -L or a TLS front), or give a certificate and its key",
            ));
        }
        let Some(url) = &config.public_url else {
            if !loopback {
                return Err(Problem::bad_input(
                    format!("listening on {listen} without a public address"),
                    "set CUBICLE_URL to the https address that browsers use",
                ));
            }
            return Ok(Self {
                secure: config.tls.is_some(),
                naming: Naming::Loopback { port: listen.port() },
                portal: None,
            });
        };
        let (secure, host, port) = split_url(url)?;
        let local = is_loopback_name(&host);
        if !secure && !local {
            return Err(Problem::bad_input(
                format!("CUBICLE_URL \"{}\" is plain http on a host that is not this machine", url.escape_default()),
                "use https; plain http is only for localhost",
            ));
        }
        if !secure && config.tls.is_some() {
            return Err(Problem::bad_input(
                format!("CUBICLE_URL \"{}\" is plain http, but a certificate is configured", url.escape_default()),
                "write https:// in CUBICLE_URL or leave the certificate out",
            ));
        }
        let domain = match &config.workspace_domain {
            Some(domain) => domain.trim_start_matches("*.").trim_end_matches('.').to_ascii_lowercase(),
            None => host.clone(),
        };
        if !is_host_name(&domain)
            || (domain != host && host.ends_with(&format!(".{domain}")) && is_label_of_workspace(&host))
        {
            return Err(Problem::bad_input(
                format!("the workspace domain \"{}\" is not a host name", domain.escape_default()),
                "give a domain such as workspaces.example.org, without scheme and port",
            ));
        }
        Ok(Self { secure, naming: Naming::Named { host, domain, port }, portal: None })
    }

    /// Whether browsers use https.
    pub(crate) fn secure(&self) -> bool {
        self.secure
    }

    /// The hub's host and the workspaces' domain, where they are exactly these.
    pub(crate) fn names(self) -> Option<HostNames> {
        match self.naming {
            Naming::Loopback { .. } => None,
            Naming::Named { host, domain, .. } => Some(HostNames { host, domain }),
        }
    }

    /// What a `Host` header names; nothing when it is neither the hub nor a workspace.
    pub(crate) fn place(&self, host: &str) -> Option<Place> {
        let (name, port) = split_host(host)?;
        let name = name.to_ascii_lowercase();
        if self.portal.as_ref().is_some_and(|portal| portal.is(&name, port)) {
            return Some(Place::Portal);
        }
        match &self.naming {
            Naming::Loopback { .. } => {
                if is_loopback_name(&name) {
                    return Some(Place::Hub);
                }
                name.strip_suffix(".localhost").and_then(|label| label.parse().ok()).map(Place::Workspace)
            }
            Naming::Named { host, domain, port: own } => {
                if port.or(self.default_port()) != own.or(self.default_port()) {
                    return None;
                }
                if name == *host {
                    return Some(Place::Hub);
                }
                let label = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
                label.parse().ok().map(Place::Workspace)
            }
        }
    }

    /// The portal's origin, for a request with this `Host` header.
    pub(crate) fn of_portal(&self, host: &str) -> String {
        let secure = self.portal.as_ref().is_some_and(|portal| portal.secure);
        format!("{}://{}", if secure { "https" } else { "http" }, host.to_ascii_lowercase())
    }

    fn default_port(&self) -> Option<u16> {
        Some(if self.secure { 443 } else { 80 })
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The origin that a request with this `Host` header was made to.
    pub(crate) fn own(&self, host: &str) -> String {
        format!("{}://{}", self.scheme(), host.to_ascii_lowercase())
    }

    /// The hub's origin, as seen by a client that used this `Host` header (for its port).
    pub(crate) fn hub(&self, host: Option<&str>) -> String {
        match &self.naming {
            Naming::Loopback { port } => {
                let seen = host.and_then(split_host);
                let name = match seen {
                    Some((name, _)) if is_loopback_name(&name.to_ascii_lowercase()) => name.to_ascii_lowercase(),
                    _ => "localhost".to_owned(),
                };
                format!("{}://{name}{}", self.scheme(), port_suffix(seen.map_or(Some(*port), |(_, port)| port)))
            }
            Naming::Named { host, port, .. } => format!("{}://{host}{}", self.scheme(), port_suffix(*port)),
        }
    }

    /// The origin of a workspace, as seen by a client that used this `Host` header.
    pub(crate) fn workspace(&self, id: &WorkspaceId, host: Option<&str>) -> String {
        match &self.naming {
            Naming::Loopback { port } => {
                let port = host.and_then(split_host).map_or(Some(*port), |(_, port)| port);
                format!("{}://{id}.localhost{}", self.scheme(), port_suffix(port))
            }
            Naming::Named { domain, port, .. } => format!("{}://{id}.{domain}{}", self.scheme(), port_suffix(*port)),
        }
    }

    /// All workspaces' origins as one source expression of a Content-Security-Policy.
    pub(crate) fn workspaces_pattern(&self, host: Option<&str>) -> String {
        match &self.naming {
            Naming::Loopback { port } => {
                let port = host.and_then(split_host).map_or(Some(*port), |(_, port)| port);
                format!("{}://*.localhost{}", self.scheme(), port_suffix(port))
            }
            Naming::Named { domain, port, .. } => format!("{}://*.{domain}{}", self.scheme(), port_suffix(*port)),
        }
    }
}

fn port_suffix(port: Option<u16>) -> String {
    port.map(|port| format!(":{port}")).unwrap_or_default()
}

/// Splits `host`, `host:port` or `[address]:port`; nothing when it is not one of these.
fn split_host(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            (&host[..end], host[end..].strip_prefix(':'))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if host.len() > 255 || name.is_empty() || (name.starts_with('[') && port.is_none() && name.len() != host.len()) {
        return None;
    }
    match port {
        None => Some((name, None)),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((name, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

fn split_url(url: &str) -> Result<(bool, String, Option<u16>), Problem> {
    let refuse = || {
        Problem::bad_input(
            format!("CUBICLE_URL \"{}\" is not an address", url.escape_default()),
            "write https://HOST or https://HOST:PORT, without a path",
        )
    };
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(refuse()),
    };
    let (host, port) = split_host(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(refuse)?;
    let host = host.to_ascii_lowercase();
    if !is_host_name(&host) && !is_loopback_name(&host) {
        return Err(refuse());
    }
    let standard = if secure { 443 } else { 80 };
    Ok((secure, host, port.filter(|port| *port != standard)))
}

fn is_loopback_name(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether the first label could be a workspace's identifier: the hub must not sit there.
fn is_label_of_workspace(host: &str) -> bool {
    host.split('.').next().is_some_and(|label| label.parse::<WorkspaceId>().is_ok())
}

/// Where a person is sent after signing in: a path on this very origin, or `/`.
///
/// Browsers drop tabs and newlines and read `\` as `/` (WHATWG URL), so `/\t/evil` and `/\evil`
/// are other hosts to them; whatever holds such a character is not followed.
pub(crate) fn safe_next(next: Option<&str>) -> String {
    match next {
        Some(path) if is_own_path(path) => path.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Whether this is a path on the same origin, whoever reads it.
pub(crate) fn is_own_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 2048
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsFiles;

    fn listen(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn named(url: &str, domain: Option<&str>) -> Result<Origins, Problem> {
        let config = HubConfig {
            public_url: Some(url.to_owned()),
            workspace_domain: domain.map(str::to_owned),
            ..HubConfig::new("/nowhere")
        };
        Origins::new(&config, listen("127.0.0.1:8000"))
    }

    #[test]
    fn loopback_hosts_keep_the_port_of_the_request() {
        let origins = Origins::new(&HubConfig::new("/nowhere"), listen("127.0.0.1:8000")).expect("valid");
        let id: WorkspaceId = "w-000000000000".parse().expect("valid");
        for host in ["localhost:8000", "LOCALHOST:9999", "127.0.0.1:8000", "[::1]:8000", "localhost"] {
            assert_eq!(origins.place(host), Some(Place::Hub), "{host}");
        }
        assert_eq!(origins.place("w-000000000000.localhost:9"), Some(Place::Workspace(id.clone())));
        assert_eq!(origins.workspace(&id, Some("localhost:9999")), "http://w-000000000000.localhost:9999");
        assert_eq!(origins.workspace(&id, None), "http://w-000000000000.localhost:8000");
        assert_eq!(origins.hub(Some("w-000000000000.localhost:9999")), "http://localhost:9999");
        assert_eq!(origins.hub(Some("127.0.0.1:8000")), "http://127.0.0.1:8000");
    }

    #[test]
    fn strange_hosts_are_nowhere() {
        let origins = Origins::new(&HubConfig::new("/nowhere"), listen("127.0.0.1:8000")).expect("valid");
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "x.localhost",
            "a.w-000000000000.localhost",
            "w-000000000000.localhost.evil.example",
            "localhost:",
            "localhost:80x",
            "localhost:99999",
            "localhost:8000:1",
            "[::1",
            "[::1]x",
            "192.168.0.1:8000",
            "@localhost",
        ] {
            assert_eq!(origins.place(host), None, "{host}");
        }
    }

    #[test]
    fn named_hosts_are_exact() {
        let origins = named("https://hub.example.org", Some("*.ws.example.org")).expect("valid");
        let id: WorkspaceId = "w-000000000000".parse().expect("valid");
        assert_eq!(origins.place("hub.example.org"), Some(Place::Hub));
        assert_eq!(origins.place("hub.example.org:443"), Some(Place::Hub));
        assert_eq!(origins.place("hub.example.org:8000"), None);
        assert_eq!(origins.place("localhost:8000"), None);
        assert_eq!(origins.place("w-000000000000.ws.example.org"), Some(Place::Workspace(id.clone())));
        assert_eq!(origins.place("w-000000000000ws.example.org"), None);
        assert_eq!(origins.workspace(&id, Some("anything")), "https://w-000000000000.ws.example.org");
        let names = origins.names().expect("names");
        assert_eq!((names.host.as_str(), names.domain.as_str()), ("hub.example.org", "ws.example.org"));
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        assert!(Origins::new(&HubConfig::new("/nowhere"), listen("0.0.0.0:8000")).is_err());
        assert!(Origins::new(&HubConfig::new("/nowhere"), listen("192.168.1.2:8000")).is_err());
        assert!(named("http://hub.example.org", None).is_err());
        assert!(named("http://localhost:9000", None).is_ok());
        for url in
            ["ftp://x", "hub.example.org", "https://", "https://a/b", "https://a b", "https://u@h", "https://a?x"]
        {
            assert!(named(url, None).is_err(), "{url}");
        }
        let tls = HubConfig {
            tls: Some(TlsFiles { certificate: "c".into(), key: "k".into() }),
            public_url: Some("https://hub.example.org".to_owned()),
            ..HubConfig::new("/nowhere")
        };
        assert!(Origins::new(&tls, listen("0.0.0.0:443")).is_ok());
    }

    #[test]
    fn next_stays_here() {
        for next in ["/", "/workspaces/w-1?x=1#y", "/a//b", "/%2f%2fevil"] {
            assert_eq!(safe_next(Some(next)), next);
        }
        for next in [
            "",
            "//evil",
            "/\\evil",
            "/\t/evil",
            "\\\\evil",
            "http://evil",
            "https:evil",
            "javascript:alert(1)",
            " /x",
            "/x\r\nSet-Cookie: a",
            "evil",
            "/\u{e9}",
        ] {
            assert_eq!(safe_next(Some(next)), "/", "{next:?}");
        }
        assert_eq!(safe_next(None), "/");
        assert_eq!(safe_next(Some(&format!("/{}", "a".repeat(3000)))), "/");
    }
}
