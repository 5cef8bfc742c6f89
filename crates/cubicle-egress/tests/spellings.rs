//! Whatever an address that is not public is called, it is never dialled.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cubicle_core::template::EgressMode;
use cubicle_egress::addresses::{SPECIAL, special};
use cubicle_egress::policy::Policy;
use cubicle_egress::target::{Host, Target};
use cubicle_egress::{Config, LogDetail};
use ipnet::IpNet;
use proptest::prelude::*;

fn walled() -> Policy {
    Config { mode: EgressMode::Walled, allow: Vec::new(), refused: Vec::new(), log: LogDetail::All }
        .policy()
        .expect("valid")
}

/// The address that a CONNECT to this text would dial, if any. A name's address is `resolved`:
/// the worst that a hostile name server can answer.
fn dialled(text: &str, resolved: IpAddr) -> Option<IpAddr> {
    let policy = walled();
    let target = Target::parse(text, None).ok()?;
    policy.judge_target(&target).ok()?;
    let address = match target.host {
        Host::Address(address) => address,
        Host::Name(_) => resolved,
    };
    policy.judge_addresses(&target, &[address], &HashSet::new()).ok().map(|()| address)
}

fn refused_v4() -> impl Strategy<Value = Ipv4Addr> {
    let networks: Vec<_> =
        SPECIAL.iter().filter_map(|row| if let IpNet::V4(four) = row.network { Some(four) } else { None }).collect();
    (prop::sample::select(networks), any::<u32>()).prop_map(|(network, host)| {
        Ipv4Addr::from(u32::from(network.network()) | (host & u32::from(network.hostmask())))
    })
}

fn refused_v6() -> impl Strategy<Value = Ipv6Addr> {
    let networks: Vec<_> =
        SPECIAL.iter().filter_map(|row| if let IpNet::V6(six) = row.network { Some(six) } else { None }).collect();
    (prop::sample::select(networks), any::<u128>()).prop_map(|(network, host)| {
        Ipv6Addr::from(u128::from(network.network()) | (host & u128::from(network.hostmask())))
    })
}

/// One part of a dotted notation, in one of the bases that inet_aton(3) knows.
fn part(value: u32, base: u8) -> String {
    match base % 4 {
        0 => format!("{value}"),
        1 => format!("0{value:o}"),
        2 => format!("0x{value:x}"),
        _ => format!("0X{value:X}"),
    }
}

/// Every textual form of an IPv4 address that some parser somewhere reads.
fn forms_v4(address: Ipv4Addr, bases: [u8; 4]) -> Vec<String> {
    let number = u32::from(address);
    let [a, b, c, d] = address.octets().map(u32::from);
    let six = |high: u128| Ipv6Addr::from(high | u128::from(number));
    let mut forms = vec![
        address.to_string(),
        part(number, bases[0]),
        format!("{}.{}", part(a, bases[0]), part(number & 0x00ff_ffff, bases[1])),
        format!("{}.{}.{}", part(a, bases[0]), part(b, bases[1]), part(number & 0xffff, bases[2])),
        format!("{}.{}.{}.{}", part(a, bases[0]), part(b, bases[1]), part(c, bases[2]), part(d, bases[3])),
        format!("{a:03}.{b:03}.{c:03}.{d:03}"),
        address.to_string().chars().map(|letter| format!("%{:02x}", u32::from(letter))).collect(),
        address.to_string().replace('.', "\u{3002}"),
        address.to_string().replace('.', "%2e"),
        format!("[{}]", six(0)),
        format!("[::{address}]"),
        format!("[::ffff:{address}]"),
        format!("[::FFFF:{:X}:{:X}]", number >> 16, number & 0xffff),
        format!("[0:0:0:0:0:ffff:{address}]"),
        format!("[::ffff:0:{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[64:ff9b:1::{address}]"),
        format!("[2002:{:x}:{:x}::]", number >> 16, number & 0xffff),
        format!("[2001:0:{:x}:{:x}::]", number >> 16, number & 0xffff),
        format!("[2001::{:x}:{:x}]", !number >> 16, !number & 0xffff),
        format!("[fe80::{address}%25eth0]"),
    ];
    forms.extend(forms.clone().iter().flat_map(|form| [format!("{form}."), format!("8.8.8.8@{form}")]));
    forms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn refused_ipv4_in_any_form(address in refused_v4(), bases: [u8; 4], port in 1u16..) {
        prop_assert!(special(address.into()).is_some());
        for form in forms_v4(address, bases) {
            prop_assert_eq!(dialled(&format!("{form}:{port}"), address.into()), None, "{}", form);
        }
    }

    #[test]
    fn refused_ipv6_in_any_form(address in refused_v6(), port in 1u16..) {
        let segments = address.segments();
        let long = segments.map(|segment| format!("{segment:04X}")).join(":");
        for form in [format!("[{address}]"), format!("[{long}]"), format!("[{address}%25lo]"), address.to_string()] {
            prop_assert_eq!(dialled(&format!("{form}:{port}"), address.into()), None, "{}", form);
        }
    }

    #[test]
    fn no_text_at_all_leads_to_a_refused_address(text in "\\PC{0,40}", resolved in refused_v4()) {
        for text in [text.clone(), format!("{text}:443"), format!("[{text}]:443"), format!("{text}.example:443")] {
            if let Some(address) = dialled(&text, resolved.into()) {
                prop_assert!(special(address).is_none(), "{} led to {}", text, address);
            }
        }
    }

    #[test]
    fn a_name_is_never_what_a_resolver_would_read_as_a_number(
        text in "(0[xX])?[0-9a-fA-F]{1,10}(\\.(0[xX])?[0-9a-fA-F]{1,10}){0,3}"
    ) {
        use std::net::ToSocketAddrs;
        if let Ok(Target { host: Host::Name(name), .. }) = Target::parse(&format!("{text}:443"), None) {
            // What inet_aton(3) accepts ends in a number: every such text is refused before.
            let last = name.rsplit('.').next().unwrap_or_default();
            prop_assert!(last.bytes().any(|byte| !byte.is_ascii_digit()) && !last.starts_with("0x"), "{}", name);
        } else if let Ok(Target { host: Host::Address(address), .. }) = Target::parse(&format!("{text}:443"), None) {
            // And what is read as an address is read by the system's resolver just the same.
            let system: Vec<_> = (text.as_str(), 443).to_socket_addrs().expect("numeric").map(|one| one.ip()).collect();
            prop_assert_eq!(system, vec![address]);
        }
    }

    #[test]
    fn public_addresses_are_dialled_as_they_are(number: u32) {
        let address = IpAddr::from(Ipv4Addr::from(number));
        prop_assert_eq!(dialled(&format!("{address}:443"), address), special(address).is_none().then_some(address));
    }
}
