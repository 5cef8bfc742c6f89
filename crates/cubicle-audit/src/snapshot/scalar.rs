//! What a plain scalar means to Kubernetes.
//!
//! Kubernetes reads YAML with `sigs.k8s.io/yaml`, a fork of go-yaml 2, which follows YAML 1.1:
//! `y`, `no` and `on` are booleans, `0777` is octal, `1_000` a number. The rules here are those
//! of its `resolve` function (`goyaml.v2/resolve.go`).

use super::node::Value;

/// What a scalar without quotes and without a tag is; none where it is text.
pub(super) fn plain(text: &str) -> Option<Value> {
    let Some(first) = text.bytes().next() else { return Some(Value::Null) };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        b'.' => match text {
            ".nan" | ".NaN" | ".NAN" => Some(Value::Float(f64::NAN)),
            ".inf" | ".Inf" | ".INF" => Some(Value::Float(f64::INFINITY)),
            _ => decimal(text),
        },
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => None,
    }
}

fn word(text: &str) -> Option<Value> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        _ => None,
    }
}

/// A number; a timestamp stays text, as it does for go-yaml when no time is asked for.
fn number(text: &str) -> Option<Value> {
    match text {
        "+.inf" | "+.Inf" | "+.INF" => return Some(Value::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Value::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    let without_underscores;
    let text = if text.contains('_') {
        without_underscores = text.replace('_', "");
        without_underscores.as_str()
    } else {
        text
    };
    whole(text).or_else(|| decimal(text))
}

/// Go's `strconv.ParseInt(text, 0, 64)`: 0x, 0o, 0b and a leading 0 tell the base.
fn whole(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign is no number, though Rust would take it.
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, base).ok()?;
    let signed = if negative { -magnitude } else { magnitude };
    match i64::try_from(signed) {
        Ok(number) => Some(Value::Integer(number)),
        Err(_) => u64::try_from(signed).ok().map(|number| Value::Float(number as f64)),
    }
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn decimal(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) =
        mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
    let mantissa_is_right = all_digits(whole)
        && fraction.is_none_or(all_digits)
        && (!whole.is_empty() || fraction.is_some_and(|digits| !digits.is_empty()));
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    (mantissa_is_right && exponent_is_right).then(|| text.parse().ok().map(Value::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_booleans_as_in_yaml_1_1() {
        for text in ["y", "Y", "yes", "on", "ON", "true", "True"] {
            assert_eq!(plain(text), Some(Value::Bool(true)), "{text}");
        }
        for text in ["n", "no", "No", "off", "false", "FALSE"] {
            assert_eq!(plain(text), Some(Value::Bool(false)), "{text}");
        }
        for text in ["yEs", "oN", "nope", "tru", "o", "YeS"] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("0755", 493),
            ("0o17", 15),
            ("0x1F", 31),
            ("0b101", 5),
            ("1_000", 1000),
            ("-12", -12),
            ("+7", 7),
            ("0", 0),
        ] {
            assert_eq!(plain(text), Some(Value::Integer(number)), "{text}");
        }
        for (text, number) in [
            ("08", 8.0),
            ("1.5", 1.5),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("-1.", -1.0),
            ("18446744073709551615", 18446744073709551615.0),
        ] {
            assert_eq!(plain(text), Some(Value::Float(number)), "{text}");
        }
        for text in [
            "1.2.3.4",
            "10.0.0.0/8",
            "2001-12-14",
            "--1",
            "+-1",
            "0x",
            "1e",
            "-",
            "+",
            ".",
            "..",
            "1a",
            "2001:db8::/32",
            "_1",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_null() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(plain(text), Some(Value::Null), "{text}");
        }
    }
}
