//! Which addresses are public.
//!
//! The table follows the IANA special-purpose address registries (RFC 6890 and its updates).
//! IPv4 is public unless a row says otherwise. IPv6 is public only inside the one block that
//! is handed out for global unicast, 2000::/3 (RFC 4291 section 2.4), minus the rows within it:
//! a block that nobody has assigned yet is then refused, not allowed.
//!
//! Forms that carry an IPv4 address inside an IPv6 address (mapped, compatible, NAT64, 6to4,
//! Teredo) are refused as a whole, whatever they carry. Nothing public is reached only that
//! way, except from a machine that has no IPv4 and relies on DNS64.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// The network.
    pub network: IpNet,
    /// What it is for, for the reader of a refusal.
    pub purpose: &'static str,
    /// Where that is written.
    pub source: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8, purpose: &'static str, source: &'static str) -> Special {
    let network = IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), prefix));
    Special { network, purpose, source }
}

const fn v6(segments: [u16; 8], prefix: u8, purpose: &'static str, source: &'static str) -> Special {
    let [a, b, c, d, e, f, g, h] = segments;
    let network = IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix));
    Special { network, purpose, source }
}

/// Every network that is not public. The first row that matches names the purpose.
pub const SPECIAL: &[Special] = &[
    v4(168, 63, 129, 16, 32, "the Azure platform's own service", "Azure: What is IP address 168.63.129.16"),
    v4(100, 100, 100, 200, 32, "a cloud's metadata service", "Alibaba Cloud: instance metadata"),
    v4(0, 0, 0, 0, 8, "this host on this network", "RFC 791 section 3.2"),
    v4(10, 0, 0, 0, 8, "a private network", "RFC 1918"),
    v4(100, 64, 0, 0, 10, "a provider's shared network", "RFC 6598"),
    v4(127, 0, 0, 0, 8, "loopback", "RFC 1122 section 3.2.1.3"),
    v4(169, 254, 0, 0, 16, "link-local, where clouds keep their metadata service", "RFC 3927"),
    v4(172, 16, 0, 0, 12, "a private network", "RFC 1918"),
    v4(192, 0, 0, 0, 24, "protocol assignments", "RFC 6890 section 2.1"),
    v4(192, 0, 2, 0, 24, "documentation", "RFC 5737"),
    v4(192, 88, 99, 0, 24, "retired 6to4 relays", "RFC 7526"),
    v4(192, 168, 0, 0, 16, "a private network", "RFC 1918"),
    v4(198, 18, 0, 0, 15, "benchmarking", "RFC 2544"),
    v4(198, 51, 100, 0, 24, "documentation", "RFC 5737"),
    v4(203, 0, 113, 0, 24, "documentation", "RFC 5737"),
    v4(224, 0, 0, 0, 4, "multicast", "RFC 5771"),
    v4(255, 255, 255, 255, 32, "broadcast", "RFC 919 section 7"),
    v4(240, 0, 0, 0, 4, "reserved", "RFC 1112 section 4"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified", "RFC 4291 section 2.5.2"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback", "RFC 4291 section 2.5.3"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "an IPv4 address in IPv6 form", "RFC 4291 section 2.5.5.2"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "an IPv4 address in IPv6 form", "RFC 4291 section 2.5.5.1"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "an IPv4 address in IPv6 form", "RFC 2765 section 2.1"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "an IPv4 address behind NAT64", "RFC 6052"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "an IPv4 address behind NAT64", "RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discarded", "RFC 6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "a dummy prefix", "RFC 9780"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "a Teredo tunnel to an IPv4 address", "RFC 4380"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments", "RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "a 6to4 tunnel to an IPv4 address", "RFC 3056"),
    v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, "the retired 6bone", "RFC 3701"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation", "RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing inside a provider", "RFC 9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "a private network", "RFC 4193"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local", "RFC 4291 section 2.5.6"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "a private network of old", "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast", "RFC 4291 section 2.7"),
];

/// What lies outside the global unicast block and in no row above.
const UNASSIGNED: Special = v6([0, 0, 0, 0, 0, 0, 0, 0], 0, "not assigned for global use", "RFC 4291 section 2.4");

const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Why an address is not public; `None` when it is.
pub fn special(address: IpAddr) -> Option<&'static Special> {
    SPECIAL.iter().find(|row| row.network.contains(&address)).or_else(|| match address {
        IpAddr::V6(six) if !GLOBAL_UNICAST.contains(&six) => Some(&UNASSIGNED),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        special(text.parse().expect("an address")).is_none()
    }

    #[test]
    fn hosts_of_the_internet_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "168.63.129.17",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2001:db7::1",
            "2a00::1",
            "3fff:1000::1",
        ] {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.80.80.80",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.2",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:8.8.8.8",
            "::ffff:10.0.0.1",
            "::ffff:0:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "64:ff9b:2::1",
            "100::1",
            "100:0:0:1::1",
            "400::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:808:808::1",
            "2002:a00:1::1",
            "3ffe::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "8000::1",
            "fc00::1",
            "fd00::2",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn every_row_names_a_network_by_its_first_address_and_gives_its_source() {
        for row in SPECIAL {
            assert_eq!(row.network, row.network.trunc(), "{row:?}");
            assert!(!row.purpose.is_empty() && !row.source.is_empty(), "{row:?}");
            assert!(special(row.network.network()).is_some() && special(row.network.broadcast()).is_some(), "{row:?}");
        }
    }
}
