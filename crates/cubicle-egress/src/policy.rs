//! The decision: may this workspace be connected to this host, and to which address of it.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addresses::special;
use crate::config::Pattern;
use crate::refusal::{Refusal, Rule};
use crate::target::{Host, Target};

/// The port of mail between servers. Never served: what leaves it is spam, whatever the list says.
pub(crate) const MAIL_PORT: u16 = 25;

/// Another port that mail services accept mail on, above the privileged range.
const MAIL_PORT_HIGH: u16 = 2525;

/// The rules of one workspace.
#[derive(Debug, Clone)]
pub struct Policy {
    allow: Option<Vec<Pattern>>,
    refused: Vec<IpNet>,
}

impl Policy {
    pub(crate) fn new(allow: Option<Vec<Pattern>>, refused: Vec<IpNet>) -> Self {
        Self { allow, refused }
    }

    /// Judges what was asked for, before any name is resolved: a name that is not on the list
    /// is not looked up either, so that DNS carries nothing out.
    ///
    /// Ports without a list: 80, 443 and 1024 to 65535 without 2525. Below 1024 live the
    /// services that abuse aims at (mail 25, 465 and 587, SSH, telnet, SMB); a list can name
    /// them one by one, except 25.
    pub fn judge_target(&self, target: &Target) -> Result<(), Refusal> {
        let Some(allow) = &self.allow else {
            return match target.port {
                80 | 443 | 1024.. if target.port != MAIL_PORT_HIGH => Ok(()),
                _ => Err(Refusal::of(
                    target,
                    Rule::Port,
                    "served are the ports 80, 443 and from 1024, without 2525 (mail)",
                )),
            };
        };
        if allow.iter().any(|pattern| pattern.matches(&target.host, target.port)) {
            return Ok(());
        }
        let reason = match allow.len() {
            0 => "this template's allow-list is empty".to_owned(),
            _ => "this template's allow-list does not name this host with this port".to_owned(),
        };
        Err(Refusal::of(target, Rule::NotListed, reason))
    }

    /// Judges all addresses of a target together. One address that is not public refuses the
    /// rest too: nobody has such a name but by mistake or for DNS rebinding.
    pub fn judge_addresses(&self, target: &Target, addresses: &[IpAddr], own: &HashSet<IpAddr>) -> Result<(), Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::of(target, Rule::Unresolvable, "the name has no address"));
        }
        let refusals: Vec<_> =
            addresses.iter().filter_map(|address| self.judge_address(target, *address, own).err()).collect();
        let all = refusals.len() == addresses.len();
        match refusals.into_iter().next() {
            None => Ok(()),
            Some(first) if all => Err(first),
            Some(first) => Err(Refusal {
                rule: Rule::Mixed,
                reason: "the name has public addresses and others; a name with such a mix is refused as a whole"
                    .to_owned(),
                ..first
            }),
        }
    }

    fn judge_address(&self, target: &Target, address: IpAddr, own: &HashSet<IpAddr>) -> Result<(), Refusal> {
        let subject = match target.host {
            Host::Name(_) => "the name's address",
            Host::Address(_) => "the address",
        };
        let refuse = |rule, reason| Err(Refusal::of(target, rule, reason).at(address));
        if let Some(row) = special(address) {
            return refuse(Rule::NotPublic, format!("{subject} is not public: {} ({})", row.purpose, row.source));
        }
        if own.contains(&address) {
            return refuse(Rule::Machine, format!("{subject} is one of the machine that runs this workspace"));
        }
        if self.refused.iter().any(|network| network.contains(&address)) {
            return refuse(Rule::Site, format!("{subject} is in a network that this site refuses"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cubicle_core::template::EgressMode;

    use super::*;
    use crate::config::{Config, LogDetail};

    fn policy(mode: EgressMode, allow: &[&str], refused: &[&str]) -> Policy {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Config { mode, allow: texts(allow), refused: texts(refused), log: LogDetail::All }.policy().expect("valid")
    }

    fn rule(result: Result<(), Refusal>) -> Option<Rule> {
        result.err().map(|refusal| refusal.rule)
    }

    #[test]
    fn walled_serves_the_web_and_high_ports_but_no_mail() {
        let walled = policy(EgressMode::Walled, &[], &[]);
        let ask = |port| rule(walled.judge_target(&Target { host: Host::Name("a.b".into()), port }));
        for port in [80, 443, 1024, 8080, 9418, 65535] {
            assert_eq!(ask(port), None, "{port}");
        }
        for port in [1, 22, 23, 25, 53, 79, 81, 445, 465, 587, 1023, 2525] {
            assert_eq!(ask(port), Some(Rule::Port), "{port}");
        }
    }

    #[test]
    fn an_empty_list_refuses_everything() {
        let empty = policy(EgressMode::AllowList, &[], &[]);
        let refusal = empty.judge_target(&Target::parse("example.org:443", None).expect("valid")).expect_err("refused");
        assert_eq!(refusal.rule, Rule::NotListed);
        assert!(
            refusal.body().contains("example.org:443") && refusal.body().contains("remedy: "),
            "{}",
            refusal.body()
        );
    }

    #[test]
    fn one_bad_address_refuses_all() {
        let walled = policy(EgressMode::Walled, &[], &["9.9.9.0/24"]);
        let target = Target::parse("a.example:443", None).expect("valid");
        let own = HashSet::from(["1.2.3.4".parse().expect("address")]);
        let ask = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("address")).collect();
            walled.judge_addresses(&target, &addresses, &own)
        };
        assert_eq!(rule(ask(&["8.8.8.8", "2606:4700::1"])), None);
        assert_eq!(rule(ask(&[])), Some(Rule::Unresolvable));
        assert_eq!(rule(ask(&["10.0.0.1"])), Some(Rule::NotPublic));
        assert_eq!(rule(ask(&["10.0.0.1", "::1"])), Some(Rule::NotPublic));
        assert_eq!(rule(ask(&["8.8.8.8", "10.0.0.1"])), Some(Rule::Mixed));
        assert_eq!(rule(ask(&["8.8.8.8", "fd00::1"])), Some(Rule::Mixed));
        assert_eq!(rule(ask(&["1.2.3.4"])), Some(Rule::Machine));
        assert_eq!(rule(ask(&["9.9.9.9"])), Some(Rule::Site));
        assert_eq!(rule(ask(&["9.9.9.9", "8.8.8.8"])), Some(Rule::Mixed));
        let told = ask(&["10.1.2.3"]).expect_err("refused");
        assert!(!told.body().contains("10.1.2.3"), "an internal address goes to the log only");
        assert_eq!(told.address, Some("10.1.2.3".parse().expect("address")));
    }
}
