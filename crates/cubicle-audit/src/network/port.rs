//! Protocols, and sets of ports as sorted intervals.

use std::fmt;
use std::str::FromStr;

/// The protocols that policies speak about. ICMP and the rest are left to the implementation by
/// every policy standard, so nothing is said about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A text that names no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the protocol must be TCP, UDP or SCTP")]
pub struct NoProtocol;

impl FromStr for Protocol {
    type Err = NoProtocol;

    /// Exact case, as the API server wants it.
    fn from_str(text: &str) -> Result<Self, NoProtocol> {
        Self::ALL.into_iter().find(|protocol| protocol.to_string() == text).ok_or(NoProtocol)
    }
}

/// Ports from the first to the last, both included.
pub type Interval = (u16, u16);

/// A set of ports of the three protocols: sorted intervals that do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct PortSet([Vec<Interval>; 3]);

impl PortSet {
    /// No port.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every port of every protocol.
    #[must_use]
    pub fn all() -> Self {
        Self([const { vec![] }; 3].map(|_: Vec<Interval>| vec![(1, u16::MAX)]))
    }

    /// Ports of one protocol. Nothing when `first` is behind `last`.
    #[must_use]
    pub fn range(protocol: Protocol, first: u16, last: u16) -> Self {
        let mut set = Self::none();
        if first <= last {
            set.0[protocol as usize].push((first, last));
        }
        set
    }

    /// The intervals of one protocol.
    #[must_use]
    pub fn intervals(&self, protocol: Protocol) -> &[Interval] {
        &self.0[protocol as usize]
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Whether everything is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.iter().all(|intervals| intervals[..] == [(1, u16::MAX)])
    }

    /// Whether a port is in it.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        let intervals = self.intervals(protocol);
        let at = intervals.partition_point(|(_, last)| *last < port);
        intervals.get(at).is_some_and(|(first, _)| *first <= port)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |one, other| {
            let (mut result, mut left, mut right) = (Vec::new(), 0, 0);
            while let (Some(a), Some(b)) = (one.get(left), other.get(right)) {
                let (first, last) = (a.0.max(b.0), a.1.min(b.1));
                if first <= last {
                    result.push((first, last));
                }
                if a.1 < b.1 { left += 1 } else { right += 1 }
            }
            result
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |one, other| {
            let mut sorted: Vec<Interval> = one.iter().chain(other).copied().collect();
            sorted.sort_unstable();
            let mut result: Vec<Interval> = Vec::with_capacity(sorted.len());
            for (first, last) in sorted {
                match result.last_mut() {
                    Some(previous) if u32::from(first) <= u32::from(previous.1) + 1 => {
                        previous.1 = previous.1.max(last)
                    }
                    _ => result.push((first, last)),
                }
            }
            result
        })
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |one, other| {
            let mut result = Vec::new();
            let mut at = 0;
            for (first, last) in one.iter().copied() {
                let mut start = u32::from(first);
                while other.get(at).is_some_and(|hole| u32::from(hole.1) < start) {
                    at += 1;
                }
                let mut hole_at = at;
                while let Some(hole) = other.get(hole_at).filter(|hole| hole.0 <= last) {
                    if start < u32::from(hole.0) {
                        result.push((start as u16, hole.0 - 1));
                    }
                    start = start.max(u32::from(hole.1) + 1);
                    hole_at += 1;
                }
                if start <= u32::from(last) {
                    result.push((start as u16, last));
                }
            }
            result
        })
    }

    fn zip(&self, other: &Self, each: impl Fn(&[Interval], &[Interval]) -> Vec<Interval>) -> Self {
        Self(std::array::from_fn(|at| each(&self.0[at], &other.0[at])))
    }
}

/// `all`, `none`, or `TCP 80,443-445,UDP 53`.
impl fmt::Display for PortSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return formatter.write_str("all");
        }
        if self.is_empty() {
            return formatter.write_str("none");
        }
        let mut separator = "";
        for protocol in Protocol::ALL {
            let intervals = self.intervals(protocol);
            if intervals.is_empty() {
                continue;
            }
            write!(formatter, "{separator}{protocol}")?;
            separator = ",";
            if intervals == [(1, u16::MAX)] {
                continue;
            }
            for (at, (first, last)) in intervals.iter().enumerate() {
                formatter.write_str(if at == 0 { " " } else { "," })?;
                if first == last { write!(formatter, "{first}")? } else { write!(formatter, "{first}-{last}")? }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = PortSet> {
        proptest::collection::vec((0..3usize, 1..60u16, 0..9u16), 0..8).prop_map(|parts| {
            parts.into_iter().fold(PortSet::none(), |set, (protocol, first, length)| {
                set.union(&PortSet::range(Protocol::ALL[protocol], first, first + length))
            })
        })
    }

    proptest! {
        #[test]
        fn sets_behave_like_sets(one in set(), other in set()) {
            let (union, intersection, difference) = (one.union(&other), one.intersection(&other), one.difference(&other));
            for protocol in Protocol::ALL {
                for port in 1..=80 {
                    let (a, b) = (one.contains(protocol, port), other.contains(protocol, port));
                    prop_assert_eq!(union.contains(protocol, port), a || b);
                    prop_assert_eq!(intersection.contains(protocol, port), a && b);
                    prop_assert_eq!(difference.contains(protocol, port), a && !b);
                }
            }
            prop_assert_eq!(difference.union(&intersection), one);
        }
    }

    #[test]
    fn the_ends_are_no_special_case() {
        let all = PortSet::all();
        let top = PortSet::range(Protocol::Udp, 65535, 65535);
        assert_eq!(all.difference(&top).union(&top), all);
        assert!(all.difference(&all).is_empty());
        assert_eq!(all.difference(&top).to_string(), "TCP,UDP 1-65534,SCTP");
    }
}
