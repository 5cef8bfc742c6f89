//! Where something belongs in a distributed trace: the `traceparent` of W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The length of version `00`, in bytes: version, trace, parent and flags in hexadecimal, with hyphens.
const LENGTH: usize = 55;

/// A place in a trace: which trace, which span of it, and whether it is recorded. Nothing else of a text
/// that somebody sent is ever kept, so that a place can be told on without care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// What is wrong with a text that should be a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is VERSION-TRACE-PARENT-FLAGS in lower-case hexadecimal, and neither id is zero")]
pub struct NoTraceParent;

impl TraceParent {
    /// A place; none when one of the ids is zero, which stands for nothing.
    pub fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled })
    }

    /// The trace.
    pub fn trace(self) -> u128 {
        self.trace
    }

    /// The span that what follows is a part of.
    pub fn span(self) -> u64 {
        self.span
    }

    /// Whether whoever began the trace records it.
    pub fn is_sampled(self) -> bool {
        self.sampled
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// Reads version `00`, and of later versions what they have in common with it, as the standard asks.
    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let bytes = text.as_bytes();
        let hexadecimal = |from: usize, to: usize| {
            let part = bytes.get(from..to)?;
            let digits = part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            digits.then(|| std::str::from_utf8(part).ok().and_then(|part| u128::from_str_radix(part, 16).ok()))?
        };
        let hyphens = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let version = hexadecimal(0, 2).filter(|version| hyphens && *version != 0xff).ok_or(NoTraceParent)?;
        let fits = match bytes.get(LENGTH) {
            None => bytes.len() == LENGTH,
            Some(next) => version != 0 && *next == b'-',
        };
        let (trace, span, flags) = (hexadecimal(3, 35), hexadecimal(36, 52), hexadecimal(53, LENGTH));
        match (fits, trace, span.and_then(|span| u64::try_from(span).ok()), flags) {
            (true, Some(trace), Some(span), Some(flags)) => Self::new(trace, span, flags & 1 == 1).ok_or(NoTraceParent),
            _ => Err(NoTraceParent),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NoTraceParent;

    fn try_from(text: String) -> Result<Self, NoTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(place: TraceParent) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_place_is_read_and_written() {
        let place: TraceParent = GOOD.parse().expect("the standard's own example");
        assert_eq!(place.trace(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((place.span(), place.is_sampled()), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(place.to_string(), GOOD);
        let unsampled: TraceParent = GOOD.replace("-01", "-00").parse().expect("read");
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn what_it_does_not_know_is_not_told_on() {
        let more: TraceParent = GOOD.replace("00-", "01-").replace("-01", "-ff-more").parse().expect("a later version");
        assert_eq!(more.to_string(), GOOD, "version, flags and what follows are this program's own");
    }

    #[test]
    fn anything_else_is_no_place() {
        for text in [
            "",
            "00",
            "garbage",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}0"),
            &format!("{GOOD}-more"),
            &format!(" {GOOD}"),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("b7ad", "b7\u{e9}"),
            &GOOD.replace("0af7", "+af7"),
            &GOOD.replace("-01", "-0 "),
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,80}") {
            if let Ok(place) = text.parse::<TraceParent>() {
                proptest::prop_assert_eq!(place.to_string().parse(), Ok(place));
            }
        }
    }
}
