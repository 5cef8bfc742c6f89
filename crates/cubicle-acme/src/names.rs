//! The names that a hub's certificate is for.

/// The names of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// The hub's host, and the wildcard for the workspaces' own origins. A host that the wildcard covers is left out:
    /// authorities refuse a name that another one makes redundant. Nothing when the host is an address: there is no DNS
    /// challenge for one (RFC 8738, section 7).
    pub fn new(host: &str, domain: &str) -> Option<Self> {
        if [host, domain].iter().any(|name| is_address(name)) {
            return None;
        }
        let covered = host.split_once('.').is_some_and(|(_, above)| above == domain);
        let wildcard = format!("*.{domain}");
        Some(Self(if covered { vec![wildcard] } else { vec![host.to_owned(), wildcard] }))
    }

    /// The names as the certificate has them.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Whether each of them is among these.
    pub(crate) fn are_in(&self, others: &[String]) -> bool {
        self.0.iter().all(|name| others.iter().any(|other| other.eq_ignore_ascii_case(name)))
    }

    /// The name of the record that proves one of them (RFC 8555, section 8.4): the wildcard's is that of its domain.
    fn record(name: &str) -> String {
        format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name))
    }

    /// Whether a record of this name proves one of them.
    pub(crate) fn is_record(&self, given: &str) -> bool {
        self.0.iter().any(|name| Self::record(name) == given)
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.join(" and "))
    }
}

/// Whether a host is an IPv4 address; one of version 6 has brackets and is no host name.
fn is_address(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: &str, domain: &str) -> Vec<String> {
        Names::new(host, domain).expect("names").0
    }

    #[test]
    fn a_certificate_is_for_the_hub_and_every_workspace() {
        assert_eq!(names("hub.example.org", "hub.example.org"), ["hub.example.org", "*.hub.example.org"]);
        assert_eq!(names("hub.example.org", "ws.example.org"), ["hub.example.org", "*.ws.example.org"]);
        // Covered by the wildcard.
        assert_eq!(names("hub.example.org", "example.org"), ["*.example.org"]);
        assert_eq!(names("a.hub.example.org", "example.org"), ["a.hub.example.org", "*.example.org"]);
        assert_eq!(Names::new("192.0.2.1", "192.0.2.1"), None);
    }

    #[test]
    fn only_records_of_ordered_names_are_records() {
        let names = Names::new("hub.example.org", "ws.example.org").expect("names");
        assert!(
            names.is_record("_acme-challenge.hub.example.org") && names.is_record("_acme-challenge.ws.example.org")
        );
        for other in ["_acme-challenge.example.org", "hub.example.org", "_acme-challenge.*.ws.example.org", ""] {
            assert!(!names.is_record(other), "{other}");
        }
        assert!(names.are_in(&["*.WS.example.org".to_owned(), "hub.example.org".to_owned()]));
        assert!(!names.are_in(&["*.example.org".to_owned()]));
    }
}
