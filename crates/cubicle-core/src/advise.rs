//! Advice: from a situation in plain words to an isolation level, with the reason for each
//! dimension.

use serde::{Deserialize, Serialize};

use crate::level::{Choices, EngineKind, Image, Kernel, Level, Namespace, Network, Node};
use crate::template::EgressMode;

/// Who will use the workspaces, for what, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Situation {
    /// How far the users trust each other.
    pub who: Who,
    /// What the data would cost if they got out.
    pub data: Data,
    /// Whose code runs.
    pub code: Code,
    /// What the users need from the internet.
    pub internet: Internet,
    /// What builds the workspaces.
    pub engine: EngineKind,
}

/// The careful middle: what to assume of people of whom nothing is known.
impl Default for Situation {
    fn default() -> Self {
        Self {
            who: Who::Strangers,
            data: Data::Internal,
            code: Code::Untrusted,
            internet: Internet::Needed,
            engine: EngineKind::Local,
        }
    }
}

/// How far the users trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// One team that would share a machine anyway.
    Cooperating,
    /// People who do not know each other: a course, an institute, a portal.
    Strangers,
    /// Some will attack: open registration, a contest.
    Hostile,
}

/// What the data would cost if they got out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Nothing: they are published.
    Public,
    /// Embarrassment or work: not meant for everybody.
    Internal,
    /// Law or contract: patients, genomes, trade secrets.
    Controlled,
}

/// Whose code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// What the users write themselves and packages they chose.
    Own,
    /// Notebooks and packages from anywhere.
    Untrusted,
}

/// What the users need from the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Internet {
    /// Any public host.
    Needed,
    /// A known list of hosts.
    List,
    /// Nothing.
    None,
}

/// A level for a situation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What was asked about.
    pub situation: Situation,
    /// The weakest level that fits; it may be one that the engine does not have.
    pub level: Level,
    /// What the engine lacks for it; none when it provides the level.
    pub missing: Option<&'static str>,
    /// The strongest level that the engine does have, when it lacks the one that fits.
    pub instead: Option<Level>,
    /// The template's `egress.mode` when the level alone does not say it.
    pub egress: Option<EgressMode>,
    /// Every dimension: what is chosen, and why.
    pub dimensions: Vec<Dimension>,
    /// What no level decides: contradictions in the situation and duties of the site.
    pub notes: Vec<&'static str>,
}

/// One dimension of the advice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dimension {
    /// `namespace`, `network`, `kernel`, `node` or `image`.
    pub dimension: &'static str,
    /// The choice, as documents write it.
    pub choice: String,
    /// Why.
    pub why: &'static str,
}

/// Advises.
pub fn advise(situation: Situation) -> Advice {
    let needs = needs(situation);
    let wanted = Choices {
        namespace: needs.namespace.0,
        network: needs.network.0,
        kernel: needs.kernel.0,
        node: needs.node.0,
        image: needs.image.0,
    };
    let level = weakest(wanted);
    let missing = level.missing_on(situation.engine);
    let instead = missing.and_then(|_| strongest(situation.engine));
    let chosen = instead.unwrap_or(level);
    Advice {
        situation,
        level,
        missing,
        instead,
        egress: egress(chosen, wanted.network),
        dimensions: vec![
            dimension("namespace", &wanted.namespace.max(level.choices().namespace), needs.namespace.1),
            dimension("network", &wanted.network, needs.network.1),
            dimension("kernel", &wanted.kernel.max(level.choices().kernel), needs.kernel.1),
            dimension("node", &wanted.node, needs.node.1),
            dimension("image", &wanted.image.max(level.choices().image), needs.image.1),
        ],
        notes: notes(situation),
    }
}

/// A choice and its reason in every dimension.
struct Needs {
    namespace: (Namespace, &'static str),
    network: (Network, &'static str),
    kernel: (Kernel, &'static str),
    node: (Node, &'static str),
    image: (Image, &'static str),
}

fn needs(situation: Situation) -> Needs {
    let Situation { who, data, code, internet, .. } = situation;
    let highest_stakes = who == Who::Hostile && data == Data::Controlled;
    Needs {
        namespace: match who {
            Who::Cooperating if data != Data::Controlled => {
                (Namespace::PerTeam, "people who work together may see that each other's workspaces exist")
            }
            _ => (Namespace::PerUser, "who must not touch each other's work should not even find each other"),
        },
        network: match (internet, data) {
            (Internet::None, _) => (Network::None, "nothing is needed, so nothing is there to get out through"),
            (Internet::List, _) => (Network::AllowList, "only the hosts on the template's list are needed"),
            (Internet::Needed, Data::Controlled) => {
                (Network::AllowList, "controlled data behind a door to every public host are a copy away from anywhere")
            }
            (Internet::Needed, _) => (Network::Walled, "any public host is needed, and nothing private"),
        },
        kernel: match (who, code) {
            (Who::Hostile, _) if highest_stakes => {
                (Kernel::UserNamespace, "a machine of its own limits what a hole in the kernel gives")
            }
            (Who::Hostile, _) => {
                (Kernel::Sandboxed, "who looks for holes in the kernel must not talk to the machine's")
            }
            (Who::Cooperating, Code::Own) if data != Data::Controlled => {
                (Kernel::Filtered, "no capabilities and filtered system calls are enough against accidents")
            }
            _ => (Kernel::UserNamespace, "unknown code must be nobody on the machine even if it gets out"),
        },
        node: if highest_stakes {
            (Node::Dedicated, "hostile users beside controlled data: not on one machine")
        } else {
            (Node::Shared, "the other walls stand between tenants of one machine")
        },
        image: match (who, data) {
            (Who::Cooperating, Data::Public) => (Image::Any, "the team answers for what it runs"),
            _ => (Image::DigestPinned, "what was looked at must be what runs"),
        },
    }
}

/// The first preset, weak to strong, that has at least what is wanted. The network may also be
/// narrowed by the template, so it decides only between presets that are otherwise the same.
fn weakest(wanted: Choices) -> Level {
    let fits = |level: &Level| {
        let has = level.choices();
        has.namespace >= wanted.namespace
            && has.kernel >= wanted.kernel
            && has.node >= wanted.node
            && has.image >= wanted.image
    };
    let level = Level::ALL.into_iter().find(fits).unwrap_or(Level::Dedicated);
    match level {
        Level::Basic | Level::Standard if wanted.network >= Network::AllowList => Level::Strict,
        level => level,
    }
}

fn strongest(engine: EngineKind) -> Option<Level> {
    Level::ALL.into_iter().rev().find(|level| level.missing_on(engine).is_none())
}

/// What the template has to say about the network beyond its level.
fn egress(level: Level, wanted: Network) -> Option<EgressMode> {
    let mode = match wanted {
        Network::Open | Network::Walled => return None,
        Network::AllowList => EgressMode::AllowList,
        Network::None => EgressMode::None,
    };
    // An allow-list that starts empty is what the level already says; its hosts are not.
    (level.choices().network < wanted).then_some(mode)
}

fn notes(situation: Situation) -> Vec<&'static str> {
    let Situation { who, data, code, internet, engine } = situation;
    let mut notes = Vec::new();
    if data == Data::Controlled && internet == Internet::Needed {
        notes.push(
            "You asked for the whole internet beside controlled data. The advice is a list of hosts: \
             any host that accepts an upload can take the data out.",
        );
    }
    if data == Data::Controlled {
        notes.push("No wall stops a user from reading out what the user may read: screens can be photographed.");
    }
    if who == Who::Cooperating && code == Code::Untrusted {
        notes.push(
            "People who trust each other still run code that nobody there has read; the code decides the kernel wall.",
        );
    }
    if engine == EngineKind::Local && who == Who::Hostile {
        notes.push("Tenants of one machine share its kernel, caches and processor: side channels stay open.");
    }
    notes
}

fn dimension<T: Serialize>(dimension: &'static str, choice: &T, why: &'static str) -> Dimension {
    let choice = serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned));
    Dimension { dimension, choice: choice.unwrap_or_default(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Situation> {
        let mut all = Vec::new();
        for who in [Who::Cooperating, Who::Strangers, Who::Hostile] {
            for data in [Data::Public, Data::Internal, Data::Controlled] {
                for code in [Code::Own, Code::Untrusted] {
                    for internet in [Internet::Needed, Internet::List, Internet::None] {
                        for engine in [EngineKind::Local, EngineKind::Kubernetes] {
                            all.push(Situation { who, data, code, internet, engine });
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn unknown_people_get_the_default_level() {
        let advice = advise(Situation::default());
        assert_eq!((advice.level, advice.missing, advice.egress), (Level::Standard, None, None));
    }

    #[test]
    fn a_trusting_team_with_public_data_gets_the_weakest() {
        let situation =
            Situation { who: Who::Cooperating, data: Data::Public, code: Code::Own, ..Situation::default() };
        assert_eq!(advise(situation).level, Level::Basic);
    }

    #[test]
    fn the_level_has_every_choice_that_the_advice_names() {
        for situation in all() {
            let advice = advise(situation);
            let has = advice.level.choices();
            let wanted = needs(situation);
            assert!(has.kernel >= wanted.kernel.0 && has.node >= wanted.node.0, "{situation:?}");
            assert!(has.namespace >= wanted.namespace.0 && has.image >= wanted.image.0, "{situation:?}");
            // What will really be launched: another level where the engine lacks this one.
            let launched = advice.instead.unwrap_or(advice.level).choices();
            let network_said = launched.network >= wanted.network.0 || advice.egress.is_some();
            assert!(network_said, "{situation:?}");
        }
    }

    #[test]
    fn controlled_data_never_get_the_whole_internet() {
        for situation in all().into_iter().filter(|situation| situation.data == Data::Controlled) {
            let network = advise(situation).dimensions.into_iter().find(|one| one.dimension == "network");
            assert_ne!(network.map(|one| one.choice), Some("walled".to_owned()), "{situation:?}");
        }
    }

    #[test]
    fn a_level_that_the_engine_lacks_is_said_and_never_silently_weakened() {
        for situation in all() {
            let advice = advise(situation);
            assert_eq!(advice.missing.is_some(), advice.level.missing_on(situation.engine).is_some());
            if let Some(instead) = advice.instead {
                assert!(advice.missing.is_some() && instead.missing_on(situation.engine).is_none());
                assert!(instead < advice.level);
            }
        }
    }

    #[test]
    fn worse_company_never_gets_weaker_walls() {
        for situation in all() {
            let better = match situation.who {
                Who::Cooperating => continue,
                Who::Strangers => Who::Cooperating,
                Who::Hostile => Who::Strangers,
            };
            assert!(advise(situation).level >= advise(Situation { who: better, ..situation }).level, "{situation:?}");
        }
    }
}
