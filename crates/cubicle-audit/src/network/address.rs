//! Sets of addresses as sorted intervals, and what is known of an address that is not known.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

use super::Match;

/// An address as a number, with its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Number {
    v6: bool,
    bits: u128,
}

impl From<IpAddr> for Number {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self { v6: false, bits: u32::from(v4).into() },
            IpAddr::V6(v6) => Self { v6: true, bits: v6.into() },
        }
    }
}

/// A set of addresses of both families.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressSet {
    /// Sorted, apart from each other.
    intervals: Vec<(bool, u128, u128)>,
}

/// Where the addresses of a pod lie when nothing tells them. IPv4: in a range that no one else in
/// the world has; a cluster that gives its pods public addresses says so in their status. IPv6:
/// there public ones are usual.
const POD_RANGES: [(bool, &[&str]); 2] =
    [(false, &["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]), (true, &["fc00::/7", "2000::/3"])];

static POD_SETS: LazyLock<[AddressSet; 2]> = LazyLock::new(|| {
    POD_RANGES.map(|(_, ranges)| AddressSet::from_blocks(ranges.iter().filter_map(|range| range.parse().ok())))
});

impl AddressSet {
    /// The addresses of `cidr` that are in none of `except`.
    #[must_use]
    pub fn block(cidr: IpNet, except: &[IpNet]) -> Self {
        let mut set = Self::from_blocks([cidr]);
        if !except.is_empty() {
            set = set.without(&Self::from_blocks(except.iter().copied()));
        }
        set
    }

    /// The addresses of any of these blocks.
    #[must_use]
    pub fn from_blocks(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut intervals: Vec<_> = blocks
            .into_iter()
            .map(|block| {
                let (first, last) = (Number::from(block.network()), Number::from(block.broadcast()));
                (first.v6, first.bits, last.bits)
            })
            .collect();
        intervals.sort_unstable();
        let mut joined: Vec<(bool, u128, u128)> = Vec::with_capacity(intervals.len());
        for (v6, first, last) in intervals {
            match joined.last_mut() {
                Some(previous) if previous.0 == v6 && first <= previous.2.saturating_add(1) => {
                    previous.2 = previous.2.max(last);
                }
                _ => joined.push((v6, first, last)),
            }
        }
        Self { intervals: joined }
    }

    fn without(&self, other: &Self) -> Self {
        let mut intervals = Vec::new();
        for (v6, first, last) in self.intervals.iter().copied() {
            let mut start = Some(first);
            for hole in other.intervals.iter().filter(|hole| hole.0 == v6 && hole.1 <= last && hole.2 >= first) {
                let Some(from) = start else { break };
                if from < hole.1 {
                    intervals.push((v6, from, hole.1 - 1));
                }
                start = hole.2.checked_add(1).filter(|next| *next <= last).map(|next| next.max(from));
            }
            if let Some(from) = start {
                intervals.push((v6, from, last));
            }
        }
        Self { intervals }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let Number { v6, bits } = address.into();
        let at = self.intervals.partition_point(|interval| (interval.0, interval.2) < (v6, bits));
        self.intervals.get(at).is_some_and(|interval| interval.0 == v6 && interval.1 <= bits)
    }

    /// Whether one address is all that is in it.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self.intervals[..], [(_, first, last)] if first == last)
    }

    /// Whether the address of a pod of which nothing is told is in it: IPv4, and IPv6.
    #[must_use]
    pub fn contains_unknown_pod(&self) -> [Match; 2] {
        POD_SETS.each_ref().map(|ranges| {
            let rest = ranges.without(self);
            match rest.intervals.is_empty() {
                true => Match::Yes,
                false if rest == *ranges => Match::No,
                false => Match::Maybe,
            }
        })
    }

    /// Its intervals, as family and number of the first and the last address.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = ((bool, u128), (bool, u128))> {
        self.intervals.iter().map(|(v6, first, last)| ((*v6, *first), (*v6, *last)))
    }

    /// The first address of every interval and the first behind it, for cutting the world into
    /// parts that nothing here tells apart.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = (bool, u128)> {
        self.intervals.iter().flat_map(|(v6, first, last)| {
            let end = if *v6 { u128::MAX } else { u128::from(u32::MAX) };
            [Some((*v6, *first)), (*last < end).then(|| (*v6, last + 1))].into_iter().flatten()
        })
    }
}

/// The address with this number.
pub(crate) fn from_number(v6: bool, bits: u128) -> IpAddr {
    if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> AddressSet {
        let parse = |text: &str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        AddressSet::block(parse(cidr), &except.iter().map(|text| parse(text)).collect::<Vec<_>>())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn exceptions_are_left_out() {
        let set = block("10.0.0.0/8", &["10.1.0.0/16", "10.0.0.0/24", "10.255.0.0/16", "10.1.2.0/24"]);
        for (text, inside) in [
            ("10.0.0.5", false),
            ("10.0.1.0", true),
            ("10.1.2.3", false),
            ("10.2.0.0", true),
            ("10.255.255.255", false),
            ("11.0.0.0", false),
            ("::ffff:10.2.0.0", true),
        ] {
            assert_eq!(set.contains(address(text)), inside, "{text}");
        }
        assert!(!block("0.0.0.0/0", &[]).contains(address("::1")));
        assert!(block("::/0", &["2001:db8::/32"]).contains(address("2001:db9::")));
        assert!(!block("::/0", &["2001:db8::/32"]).contains(address("2001:db8:1::")));
        assert!(block("::/0", &["ffff::/16"]).contains(address("fffe::1")));
    }

    #[test]
    fn an_unknown_pod_is_somewhere_private() {
        assert_eq!(block("0.0.0.0/0", &[]).contains_unknown_pod(), [Match::Yes, Match::No]);
        assert_eq!(block("0.0.0.0/0", &["10.0.0.0/8"]).contains_unknown_pod(), [Match::Maybe, Match::No]);
        assert_eq!(block("10.0.0.0/8", &[]).contains_unknown_pod(), [Match::Maybe, Match::No]);
        assert_eq!(block("8.8.8.8/32", &[]).contains_unknown_pod(), [Match::No, Match::No]);
        assert_eq!(
            block("0.0.0.0/0", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"])
                .contains_unknown_pod(),
            [Match::No, Match::No]
        );
    }
}
