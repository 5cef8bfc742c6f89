//! Versions of the standard.

use std::fmt;
use std::str::FromStr;

use cubicle_core::problem::Problem;

/// The minor version of Kubernetes whose standard is the newest known here.
pub const NEWEST: u16 = 37;

/// A version of the standard: that of the Kubernetes release that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16);

impl Version {
    /// The newest that is known.
    pub const LATEST: Self = Self(NEWEST);

    /// That of Kubernetes 1.`minor`; a release that is newer than what is known is judged by the
    /// newest, as the API server does.
    pub fn minor(minor: u16) -> Self {
        Self(minor.min(NEWEST))
    }

    pub(super) fn at_least(self, minor: u16) -> bool {
        self.0 >= minor
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "v1.{}", self.0)
    }
}

impl FromStr for Version {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "latest" {
            return Ok(Self::LATEST);
        }
        let digits = text.strip_prefix("v1.").filter(|digits| {
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (*digits == "0" || !digits.starts_with('0'))
        });
        // A number with more digits than fit is certainly newer than what is known.
        digits.map(|digits| Self::minor(digits.parse().unwrap_or(NEWEST))).ok_or_else(|| {
            Problem::bad_input(
                format!("\"{text}\" is not a version of Pod Security"),
                format!("use latest or v1.0 to v1.{NEWEST}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_api_server_reads_them() {
        let read = |text: &str| text.parse::<Version>().map(|version| version.to_string()).ok();
        assert_eq!(read("latest").as_deref(), Some("v1.37"));
        assert_eq!(read("v1.0").as_deref(), Some("v1.0"));
        assert_eq!(read("v1.99999999").as_deref(), Some("v1.37"));
        for bad in ["", "1.30", "v1.", "v1.01", "v2.0", "v1.-1", "v1.3.4", "Latest"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
