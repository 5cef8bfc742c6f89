//! What a client asks to be connected to, read strictly.
//!
//! Several spellings of an address mean one thing to this parser and another to the resolver
//! or to the reader of the log (`0177.0.0.1`, `2130706433`, `127.1`, `0x7f.1`, `host%00.org`).
//! So there are two forms only: a name of letter-digit-hyphen labels (RFC 1123 section 2.1)
//! that cannot be read as a number, and an address as RFC 4291 and dotted decimal write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host, by name or address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name of two labels or more, lower case, without the final dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// Why a text names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There is a user or a password before an `@`.
    #[error("has a user name before \"@\"")]
    User,
    /// It contains a `%`: an escape or an IPv6 zone.
    #[error("contains \"%\", an escape or an interface name")]
    Percent,
    /// The brackets do not hold an IPv6 address.
    #[error("has no IPv6 address between its brackets")]
    Brackets,
    /// The port is missing or not a plain number from 1 to 65535.
    #[error("has no plain port number from 1 to 65535")]
    Port,
    /// It ends with a dot.
    #[error("ends with a dot")]
    FinalDot,
    /// It looks like a number, but not in dotted decimal notation.
    #[error("is an address in a notation other than dotted decimal")]
    Number,
    /// A label is empty, too long, or has other characters than letters, digits and hyphens.
    #[error("is not made of labels of letters, digits and hyphens")]
    Label,
    /// There is only one label, so the name belongs to a local network.
    #[error("is a single label, a name of a local network")]
    SingleLabel,
    /// The name is longer than 253 characters.
    #[error("is longer than 253 characters")]
    Length,
}

impl Target {
    /// Reads `host:port`; without a port `default_port` holds, when there is one.
    pub fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, Malformed> {
        let (host, port) = split(authority)?;
        let port = match port {
            Some(text) => parse_port(text)?,
            None => default_port.ok_or(Malformed::Port)?,
        };
        Ok(Self { host: host.parse()?, port })
    }
}

/// Splits off the port. The host keeps its brackets.
pub(crate) fn split(authority: &str) -> Result<(&str, Option<&str>), Malformed> {
    if authority.contains('@') {
        return Err(Malformed::User);
    }
    if authority.contains('%') {
        return Err(Malformed::Percent);
    }
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(Malformed::Brackets)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Malformed::Brackets),
        };
    }
    match authority.split_once(':') {
        // A second colon is an IPv6 address without brackets, where host and port run together.
        Some((_, port)) if port.contains(':') => Err(Malformed::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// Reads a port: digits alone, no sign, no leading zero.
pub(crate) fn parse_port(text: &str) -> Result<u16, Malformed> {
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed::Port);
    }
    text.parse().map_err(|_| Malformed::Port)
}

impl std::str::FromStr for Host {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or(Malformed::Brackets)?;
            return inside.parse::<Ipv6Addr>().map(|six| Self::Address(six.into())).map_err(|_| Malformed::Brackets);
        }
        // std reads dotted decimal only: four parts, no leading zeros.
        if let Ok(four) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(four.into()));
        }
        name(text)
    }
}

fn name(text: &str) -> Result<Host, Malformed> {
    if text.len() > 253 {
        return Err(Malformed::Length);
    }
    if text.ends_with('.') {
        return Err(Malformed::FinalDot);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !text.split('.').all(label) {
        return Err(Malformed::Label);
    }
    // Resolvers read a text whose last part is a number as an address (inet_aton(3)); no
    // top-level domain is one.
    let last = text.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(Malformed::Number);
    }
    if !text.contains('.') {
        return Err(Malformed::SingleLabel);
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V4(four)) => write!(formatter, "{four}"),
            Self::Address(IpAddr::V6(six)) => write!(formatter, "[{six}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read() {
        for (text, host, port) in [
            ("example.org:443", "example.org", 443),
            ("EXAMPLE.Org:80", "example.org", 80),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
            ("a-1.b:65535", "a-1.b", 65535),
            ("8.8.8.8:443", "8.8.8.8", 443),
            ("[2606:4700::1111]:443", "[2606:4700::1111]", 443),
            ("[::FFFF:10.0.0.1]:1", "[::ffff:10.0.0.1]", 1),
        ] {
            let target = Target::parse(text, None).expect(text);
            assert_eq!((target.host.to_string().as_str(), target.port), (host, port), "{text}");
        }
        assert_eq!(Target::parse("a.b", Some(80)).expect("default").port, 80);
    }

    #[test]
    fn other_spellings_are_refused() {
        use Malformed::*;
        for (text, reason) in [
            ("user@example.org:443", User),
            ("user:secret@example.org:443", User),
            ("127.0.0.1%00.example.org:443", Percent),
            ("%31%32%37.0.0.1:80", Percent),
            ("[fe80::1%25eth0]:80", Percent),
            ("[127.0.0.1]:80", Brackets),
            ("[v1.fe80]:80", Brackets),
            ("[::1:80", Brackets),
            ("[::1]80", Brackets),
            ("::1:80", Brackets),
            ("2130706433:80", Number),
            ("017700000001:80", Number),
            ("0x7f000001:80", Number),
            ("0X7F000001:80", Number),
            ("0x:80", Number),
            ("127.1:80", Number),
            ("127.0.1:80", Number),
            ("0177.0.0.1:80", Number),
            ("0x7f.0.0.1:80", Number),
            ("127.0.0.0x1:80", Number),
            ("010.0.0.1:80", Number),
            ("1.2.3.4.5:80", Number),
            ("256.0.0.1:80", Number),
            ("127.0.0.1.:80", FinalDot),
            ("example.org.:443", FinalDot),
            ("localhost.:443", FinalDot),
            (".:443", FinalDot),
            ("localhost:80", SingleLabel),
            ("metadata:80", SingleLabel),
            ("a..b:80", Label),
            (".a.b:80", Label),
            ("-a.b:80", Label),
            ("a-.b:80", Label),
            ("a_b.c:80", Label),
            ("a b.c:80", Label),
            ("a\0.c:80", Label),
            ("a\n.c:80", Label),
            ("b\u{fc}cher.example:443", Label),
            ("\u{2488}\u{2488}.example:443", Label),
            ("127\u{3002}0\u{3002}0\u{3002}1:443", Label),
            ("\u{ff11}27.0.0.1\u{202e}:443", Label),
            (":80", Label),
            ("example.org", Port),
            ("example.org:", Port),
            ("example.org:0", Port),
            ("example.org:080", Port),
            ("example.org:+80", Port),
            ("example.org:-1", Port),
            ("example.org: 80", Port),
            ("example.org:65536", Port),
            ("example.org:80/", Port),
        ] {
            assert_eq!(Target::parse(text, None), Err(reason), "{text:?}");
        }
        assert_eq!(Target::parse(&format!("{}a:80", "a.".repeat(127)), None), Err(Length));
        assert_eq!(Target::parse(&format!("{}.a:80", "a".repeat(64)), None), Err(Label));
    }
}
