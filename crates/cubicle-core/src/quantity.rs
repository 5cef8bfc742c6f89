//! Quantities as Kubernetes writes them: `500m` CPU, `2Gi` of memory.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// An amount of memory or storage, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "String")]
pub struct Bytes(pub u64);

/// An amount of processor time, in thousandths of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "String")]
pub struct MilliCpu(pub u64);

/// YAML writes `cpu: 2` as a number and `cpu: 500m` as text; both are quantities.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(u64),
    Fraction(f64),
    Written(String),
}

impl Text {
    fn into_string(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Written(text) => text,
        }
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let value: f64 = number.parse().ok()?;
    value.is_finite().then_some((value, suffix))
}

impl Bytes {
    /// Reads `512Mi`, `2G`, `1048576`. Zero and anything above one exbibyte is refused.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let refuse = || {
            let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
            Problem::bad_input(
                format!("\"{shown}\" is not an amount of bytes above zero"),
                "write a number with Ki, Mi, Gi, Ti, k, M, G or T, for example 2Gi",
            )
        };
        let (value, suffix) = split(text).ok_or_else(refuse)?;
        let unit: u64 = match suffix {
            "" => 1,
            "k" => 1000,
            "M" => 1000_u64.pow(2),
            "G" => 1000_u64.pow(3),
            "T" => 1000_u64.pow(4),
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(refuse()),
        };
        let bytes = value * unit as f64;
        if !(1.0..=1.152_921_504_606_847e18).contains(&bytes) {
            return Err(refuse());
        }
        Ok(Self(bytes as u64))
    }
}

impl MilliCpu {
    /// Reads `2`, `0.5`, `500m`. Below one thousandth and above 4096 CPUs is refused.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let refuse = || {
            let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
            Problem::bad_input(
                format!("\"{shown}\" is not an amount of CPU between 1m and 4096"),
                "write CPUs (2, 0.5) or thousandths (500m)",
            )
        };
        let (value, suffix) = split(text).ok_or_else(refuse)?;
        let milli = match suffix {
            "" => value * 1000.0,
            "m" => value,
            _ => return Err(refuse()),
        };
        if !(1.0..=4_096_000.0).contains(&milli) {
            return Err(refuse());
        }
        Ok(Self(milli as u64))
    }
}

impl TryFrom<Text> for Bytes {
    type Error = Problem;

    fn try_from(text: Text) -> Result<Self, Problem> {
        Self::parse(&text.into_string())
    }
}

impl TryFrom<Text> for MilliCpu {
    type Error = Problem;

    fn try_from(text: Text) -> Result<Self, Problem> {
        Self::parse(&text.into_string())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(formatter, "{}{name}", self.0 / unit);
            }
        }
        write!(formatter, "{}", self.0)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            return write!(formatter, "{}", self.0 / 1000);
        }
        write!(formatter, "{}m", self.0)
    }
}

impl From<Bytes> for String {
    fn from(value: Bytes) -> Self {
        value.to_string()
    }
}

impl From<MilliCpu> for String {
    fn from(value: MilliCpu) -> Self {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        assert_eq!(Bytes::parse("2Gi").expect("valid").0, 2 << 30);
        assert_eq!(Bytes::parse("1.5Gi").expect("valid").0, 3 << 29);
        assert_eq!(Bytes::parse("1k").expect("valid").0, 1000);
        assert_eq!(MilliCpu::parse("500m").expect("valid").0, 500);
        assert_eq!(MilliCpu::parse("0.5").expect("valid").0, 500);
        for text in ["", "-1", "0", "NaN", "1e30", "2 Gi", "1Qi", "99999999Ti"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
            assert!(MilliCpu::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in 1_u64..1 << 50, milli in 1_u64..4_096_000) {
            prop_assert_eq!(Bytes::parse(&Bytes(bytes).to_string()).expect("valid").0, bytes);
            prop_assert_eq!(MilliCpu::parse(&MilliCpu(milli).to_string()).expect("valid").0, milli);
        }
    }
}
