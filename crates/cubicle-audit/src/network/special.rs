//! Addresses that mean something special to a tenant: credentials, the platform's own
//! services, the control plane. Each with where the fact comes from.

use std::net::IpAddr;

use ipnet::IpNet;

/// A range with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// The range.
    pub block: &'static str,
    /// What is there.
    pub name: &'static str,
    /// What a tenant could do with it.
    pub risk: &'static str,
    /// Where this is written.
    pub source: &'static str,
}

/// The table, the narrower ranges first.
pub const TABLE: &[Special] = &[
    Special {
        block: "169.254.169.254/32",
        name: "instance metadata of AWS, Azure, Google Cloud, OpenStack and others",
        risk: "credentials of the node",
        source: "the instance metadata chapters of each cloud's documentation",
    },
    Special {
        block: "fd00:ec2::254/128",
        name: "instance metadata of AWS over IPv6",
        risk: "credentials of the node",
        source: "AWS EC2 user guide, \"Access instance metadata\"",
    },
    Special {
        block: "fd20:ce::254/128",
        name: "metadata server of Google Cloud over IPv6",
        risk: "credentials of the node",
        source: "Google Cloud documentation, \"About VM metadata\"",
    },
    Special {
        block: "169.254.170.2/32",
        name: "task credentials endpoint of AWS ECS",
        risk: "credentials of the task's role",
        source: "AWS ECS developer guide, \"Task IAM role\"",
    },
    Special {
        block: "169.254.170.23/32",
        name: "EKS Pod Identity agent",
        risk: "credentials of pods' roles",
        source: "AWS EKS user guide, \"EKS Pod Identity agent\"",
    },
    Special {
        block: "fd00:ec2::23/128",
        name: "EKS Pod Identity agent over IPv6",
        risk: "credentials of pods' roles",
        source: "AWS EKS user guide, \"EKS Pod Identity agent\"",
    },
    Special {
        block: "169.254.169.253/32",
        name: "resolver of AWS VPCs",
        risk: "names of the private network, and a way out through names",
        source: "AWS VPC user guide, \"DNS attributes\"",
    },
    Special {
        block: "fd00:ec2::253/128",
        name: "resolver of AWS VPCs over IPv6",
        risk: "names of the private network, and a way out through names",
        source: "AWS VPC user guide, \"DNS attributes\"",
    },
    Special {
        block: "169.254.169.123/32",
        name: "time server of AWS",
        risk: "none known",
        source: "AWS EC2 user guide, \"Set the time\"",
    },
    Special {
        block: "168.63.129.16/32",
        name: "WireServer of Azure, in a public range",
        risk: "configuration and certificates of the node",
        source: "Azure documentation, \"What is IP address 168.63.129.16\"",
    },
    Special {
        block: "100.100.100.200/32",
        name: "instance metadata of Alibaba Cloud",
        risk: "credentials of the node",
        source: "Alibaba Cloud ECS documentation, \"Instance metadata\"",
    },
    Special {
        block: "192.0.0.192/32",
        name: "instance metadata of older Oracle Cloud images",
        risk: "credentials of the node",
        source: "Oracle Cloud documentation, \"Instance metadata\"",
    },
    Special {
        block: "169.254.42.42/32",
        name: "instance metadata of Scaleway",
        risk: "credentials of the node",
        source: "Scaleway documentation, \"Instance metadata\"",
    },
    Special {
        block: "169.254.20.10/32",
        name: "NodeLocal DNSCache",
        risk: "names of the cluster",
        source: "Kubernetes documentation, \"Using NodeLocal DNSCache\"",
    },
    Special {
        block: "169.254.0.0/16",
        name: "link-local addresses",
        risk: "whatever a cloud puts there next",
        source: "RFC 3927",
    },
    Special { block: "fe80::/10", name: "link-local addresses", risk: "neighbours on the wire", source: "RFC 4291" },
    Special {
        block: "127.0.0.0/8",
        name: "loopback",
        risk: "services of the same network namespace",
        source: "RFC 1122",
    },
    Special { block: "::1/128", name: "loopback", risk: "services of the same network namespace", source: "RFC 4291" },
    Special {
        block: "100.64.0.0/10",
        name: "shared addresses of carriers, used for pods and fabric by several clouds",
        risk: "other tenants of the provider",
        source: "RFC 6598",
    },
    Special { block: "10.0.0.0/8", name: "private addresses", risk: "the site's own network", source: "RFC 1918" },
    Special { block: "172.16.0.0/12", name: "private addresses", risk: "the site's own network", source: "RFC 1918" },
    Special { block: "192.168.0.0/16", name: "private addresses", risk: "the site's own network", source: "RFC 1918" },
    Special { block: "fc00::/7", name: "private addresses", risk: "the site's own network", source: "RFC 4193" },
];

/// What an address means, if anything; the narrowest range counts.
#[must_use]
pub fn of(address: IpAddr) -> Option<&'static Special> {
    let address = address.to_canonical();
    TABLE
        .iter()
        .filter_map(|special| Some((special, special.block.parse::<IpNet>().ok()?)))
        .filter(|(_, block)| block.contains(&address))
        .max_by_key(|(_, block)| block.prefix_len())
        .map(|(special, _)| special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_one_and_the_narrowest_counts() {
        for special in TABLE {
            let block: Result<IpNet, _> = special.block.parse();
            assert!(block.is_ok_and(|block| block == block.trunc()), "{}", special.block);
        }
        let name = |text: &str| text.parse().ok().and_then(of).map(|special| special.block);
        assert_eq!(name("169.254.170.2"), Some("169.254.170.2/32"));
        assert_eq!(name("169.254.7.7"), Some("169.254.0.0/16"));
        assert_eq!(name("8.8.8.8"), None);
        assert_eq!(name("::ffff:168.63.129.16"), Some("168.63.129.16/32"));
    }
}
