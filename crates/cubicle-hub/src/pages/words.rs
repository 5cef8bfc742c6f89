//! Numbers, times and states in plain words. Nothing is ever told by colour alone: each state
//! and verdict has a word, a sign and a class for the stylesheet.
//!
//! Arguments are references because askama passes every expression by reference.

use cubicle_core::level::{EngineKind, Kernel, Level, Network};
use cubicle_core::report::Verdict;
use cubicle_core::template::{EgressMode, Template};
use cubicle_core::workspace::{State, Step};
use jiff::Timestamp;

/// `1.5 GiB`, `512 MiB`, `12 bytes`.
pub(super) fn bytes(count: &u64) -> String {
    let count = *count;
    for (unit, name) in [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if count >= unit {
            let tenths = (count as f64 / unit as f64 * 10.0).round() / 10.0;
            return if tenths.fract() == 0.0 { format!("{tenths:.0} {name}") } else { format!("{tenths:.1} {name}") };
        }
    }
    format!("{count} bytes")
}

/// `1 CPU`, `0.5 CPU`, `2.5 CPUs` from thousandths.
pub(super) fn cpus(milli: &u64) -> String {
    format!("{} {}", cpu_number(milli), if *milli > 1000 { "CPUs" } else { "CPU" })
}

/// The number of [`cpus`], rounded to hundredths.
pub(super) fn cpu_number(milli: &u64) -> String {
    let hundredths = format!("{:.2}", *milli as f64 / 1000.0);
    hundredths.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `480 ms`, `2.4 s`, `3 min 5 s`.
pub(super) fn milliseconds(duration: &u64) -> String {
    match *duration {
        0..1000 => format!("{duration} ms"),
        1000..60_000 => format!("{:.1} s", *duration as f64 / 1000.0),
        _ => format!("{} min {} s", duration / 60_000, duration % 60_000 / 1000),
    }
}

/// `85 µs`, then like [`milliseconds`].
pub(super) fn microseconds(duration: &u64) -> String {
    match *duration {
        0..1000 => format!("{duration} µs"),
        1000..10_000 => format!("{:.1} ms", *duration as f64 / 1000.0),
        _ => milliseconds(&(duration / 1000)),
    }
}

/// `less than a minute`, `5 minutes`, `3 hours`, `12 days`.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..60 => return "less than a minute".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A span from whole seconds of a template: `30 minutes`, `1 hour`.
pub(super) fn seconds(seconds: u64) -> String {
    if seconds < 60 {
        return format!("{seconds} second{}", if seconds == 1 { "" } else { "s" });
    }
    span(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// `just now`, `5 minutes ago`.
pub(super) fn ago(at: &Timestamp, now: &Timestamp) -> String {
    let passed = now.as_second().saturating_sub(at.as_second());
    if passed < 10 { "just now".to_owned() } else { format!("{} ago", span(passed)) }
}

/// `in 5 minutes`, `now`.
pub(super) fn ahead(at: &Timestamp, now: &Timestamp) -> String {
    let left = at.as_second().saturating_sub(now.as_second());
    if left <= 0 { "now".to_owned() } else { format!("in {}", span(left)) }
}

/// `2026-01-31 12:00:00 UTC`: the same for everybody, since the server does not know where the
/// reader is.
pub(super) fn clock(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// RFC 3339, whole seconds, for the `datetime` attribute.
pub(super) fn machine_time(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The word on a state's badge.
pub(super) fn state(state: &State) -> &'static str {
    match state {
        State::Pending => "building",
        State::Proving => "proving",
        State::Running => "running",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
        State::Refused => "refused",
        State::Failed => "failed",
    }
}

/// The sign before [`state`].
pub(super) fn state_sign(state: &State) -> &'static str {
    match state {
        State::Pending | State::Proving | State::Stopping => "…",
        State::Running => "●",
        State::Stopped => "○",
        State::Refused => "✕",
        State::Failed => "!",
    }
}

/// The stylesheet's class for a state's badge.
pub(super) fn state_class(state: &State) -> &'static str {
    match state {
        State::Pending | State::Proving | State::Stopping => "busy",
        State::Running => "good",
        State::Stopped => "quiet",
        State::Refused | State::Failed => "bad",
    }
}

/// All verdicts, the ones that need attention first.
pub(super) const VERDICTS: [Verdict; 5] =
    [Verdict::Breached, Verdict::Unproven, Verdict::Held, Verdict::Absent, Verdict::NotClaimed];

/// The word on a verdict's badge.
pub(super) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Breached => "breached",
        Verdict::Unproven => "unproven",
        Verdict::Absent => "absent",
        Verdict::NotClaimed => "not claimed",
    }
}

/// The sign before [`verdict`].
pub(super) fn verdict_sign(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "✓",
        Verdict::Breached => "✕",
        Verdict::Unproven => "?",
        Verdict::Absent => "–",
        Verdict::NotClaimed => "·",
    }
}

/// The stylesheet's class for a verdict.
pub(super) fn verdict_class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "good",
        Verdict::Breached => "bad",
        Verdict::Unproven => "busy",
        Verdict::Absent => "quiet",
        Verdict::NotClaimed => "faint",
    }
}

/// What a verdict means, for the legend.
pub(super) fn verdict_meaning(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "tried from inside and stopped, while the control shows that it could have worked",
        Verdict::Breached => "tried from inside, and it worked: there is no wall",
        Verdict::Unproven => "could not be decided; the reason says why",
        Verdict::Absent => "nothing stands on the other side here, so not even the control can reach it",
        Verdict::NotClaimed => "this level does not promise it",
    }
}

/// The heading of a launch's step.
pub(super) fn step(step: &Step) -> &'static str {
    match step {
        Step::Request => "Request",
        Step::Plan => "Plan",
        Step::Build => "Build",
        Step::Prove => "Prove",
        Step::Open => "Open",
    }
}

/// What a step does, before anything has happened in it.
pub(super) fn step_meaning(step: &Step) -> &'static str {
    match step {
        Step::Request => "Your request is checked and written down.",
        Step::Plan => "The template says which walls are needed.",
        Step::Build => "The walls are built; nothing of yours runs yet.",
        Step::Prove => "A probe inside tries to break out, as you could.",
        Step::Open => "The notebook starts, and the way to it opens.",
    }
}

/// A level's name with a capital.
pub(super) fn level(level: &Level) -> String {
    let name = level.to_string();
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A template's limits in one sentence.
pub(super) fn limits(template: &Template) -> String {
    let spec = &template.spec;
    format!(
        "{}, {} memory, {} home; {}.",
        cpus(&spec.resources.cpu.0),
        bytes(&spec.resources.memory.0),
        bytes(&spec.home.size.0),
        reach(template)
    )
}

/// How far a template's workspaces can connect.
pub(super) fn reach(template: &Template) -> String {
    let egress = template.egress();
    match (egress.mode, egress.allow.len()) {
        (EgressMode::Walled, _) => "can reach any public host, nothing private".to_owned(),
        (EgressMode::AllowList, 0) => "can reach no host: its list is empty".to_owned(),
        (EgressMode::AllowList, 1..=3) => format!("can reach only {}", egress.allow.join(", ")),
        (EgressMode::AllowList, count) => format!("can reach only the {count} hosts on its list"),
        (EgressMode::None, _) => "has no network at all".to_owned(),
    }
}

/// When an idle workspace of this template is stopped.
pub(super) fn idle(template: &Template) -> String {
    format!("Stops after {} without use.", seconds(template.spec.idle.after.0))
}

/// What a level chooses, one sentence per dimension.
pub(super) fn choices(level: &Level, engine: &EngineKind) -> Vec<&'static str> {
    let choices = level.choices();
    let kernel = match choices.kernel {
        Kernel::Shared => "It shares the machine's kernel like any program.",
        Kernel::Filtered => {
            "It shares the machine's kernel, behind a filter of system calls and without any privilege."
        }
        Kernel::UserNamespace => {
            "It shares the machine's kernel, behind a filter of system calls, without any privilege, and with user ids that mean nothing outside."
        }
        Kernel::Sandboxed => "It has a kernel in user space between itself and the machine's.",
        Kernel::Vm => "It has a kernel of its own in a virtual machine.",
    };
    let network = match choices.network {
        Network::Open => "It can connect anywhere.",
        Network::Walled => "It can connect to public hosts only, through a proxy; nothing private.",
        Network::AllowList => "It can connect only to the hosts on the template's list, through a proxy.",
        Network::None => "It cannot connect anywhere.",
    };
    let machine = match (choices.node, engine) {
        (cubicle_core::level::Node::Dedicated, _) => "No other tenant runs on its machine.",
        (_, EngineKind::Local) => "Other tenants run on the same machine.",
        (_, EngineKind::Kubernetes) => "Other tenants may run on the same node.",
    };
    vec![kernel, network, machine]
}

/// A log without what only a terminal understands: escape sequences (ECMA-48 5.4) are left out,
/// other control characters shown as U+FFFD.
pub(super) fn plain_log(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                if letters.next_if_eq(&'[').is_some() {
                    while letters.next_if(|next| !('\u{40}'..='\u{7e}').contains(next)).is_some() {}
                    letters.next();
                }
            }
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' | '\t' => plain.push(letter),
            control if control.is_control() => plain.push('\u{fffd}'),
            other => plain.push(other),
        }
    }
    plain
}

/// Text for one component of a query (RFC 3986: everything but unreserved is encoded).
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_like_people_write_them() {
        assert_eq!(bytes(&0), "0 bytes");
        assert_eq!(bytes(&(2 << 30)), "2 GiB");
        assert_eq!(bytes(&1_610_612_736), "1.5 GiB");
        assert_eq!(cpus(&1000), "1 CPU");
        assert_eq!(cpus(&500), "0.5 CPU");
        assert_eq!(cpus(&2000), "2 CPUs");
        assert_eq!(milliseconds(&999), "999 ms");
        assert_eq!(milliseconds(&2400), "2.4 s");
        assert_eq!(milliseconds(&185_000), "3 min 5 s");
        assert_eq!(microseconds(&85), "85 µs");
        assert_eq!(seconds(90), "1 minute");
        assert_eq!(seconds(1), "1 second");
    }

    #[test]
    fn logs_lose_what_only_terminals_understand() {
        assert_eq!(plain_log("\u{1b}[1;31mred\u{1b}[0m\r\nnext\tone\u{7}"), "red\nnext\tone\u{fffd}");
        assert_eq!(plain_log("\u{1b}["), "");
        assert_eq!(plain_log("\u{1b}"), "");
    }

    #[test]
    fn times_are_relative_and_never_negative() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("valid");
        let earlier: Timestamp = "2026-01-31T11:55:00Z".parse().expect("valid");
        assert_eq!(ago(&earlier, &now), "5 minutes ago");
        assert_eq!(ago(&now, &earlier), "just now");
        assert_eq!(ahead(&now, &earlier), "in 5 minutes");
        assert_eq!(ahead(&earlier, &now), "now");
        assert_eq!(clock(&now), "2026-01-31 12:00:00 UTC");
    }
}
