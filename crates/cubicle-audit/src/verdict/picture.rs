//! What reaches what, by groups: the same size for ten workspaces and for a thousand.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::scene::Scene;
use super::tenancy::Workspace;
use crate::network::Reach;
use crate::network::port::{PortSet, Protocol};

/// Groups of workspaces that the network does not tell apart, and what they reach.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Picture {
    /// The groups, the largest first.
    pub groups: Vec<Group>,
    /// How many more there are.
    pub left_out: usize,
    /// What lies outside.
    pub places: Vec<String>,
    /// Who reaches another tenant's workspace of which group.
    pub between: Vec<Edge>,
    /// Who reaches which place.
    pub out: Vec<Edge>,
}

/// A group of workspaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// One of them.
    pub example: String,
    /// How many there are.
    pub count: usize,
}

/// A connection, by the positions of its ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edge {
    /// A group.
    pub from: usize,
    /// A group or a place.
    pub to: usize,
    /// Whether it is open.
    pub openness: Openness,
    /// What it is, for people.
    pub title: String,
}

/// Whether a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Openness {
    /// On every plugin.
    Open,
    /// The plugin decides.
    Undecided,
    /// Open, and meant to be.
    Needed,
}

/// How many groups a picture can hold and stay readable.
const MOST_GROUPS: usize = 12;

/// Address and name of what lies outside; the last is meant to be reached.
const PLACES: &[(&str, &str, Openness)] = &[
    ("169.254.169.254", "metadata 169.254.169.254", Openness::Open),
    ("169.254.170.2", "credentials 169.254.170.2", Openness::Open),
    ("168.63.129.16", "fabric 168.63.129.16", Openness::Open),
    ("10.0.0.1", "private 10.0.0.0/8", Openness::Open),
    ("192.168.0.1", "private 192.168.0.0/16", Openness::Open),
    ("100.64.0.1", "private 100.64.0.0/10", Openness::Open),
    ("1.1.1.1", "internet", Openness::Needed),
];

fn openness(reach: &Reach) -> Option<Openness> {
    let names = PortSet::range(Protocol::Tcp, 53, 53).union(&PortSet::range(Protocol::Udp, 53, 53));
    if !reach.must.difference(&names).is_empty() {
        Some(Openness::Open)
    } else if !reach.may.difference(&names).is_empty() {
        Some(Openness::Undecided)
    } else {
        None
    }
}

/// Draws a scene.
pub(super) fn picture(scene: &Scene<'_>) -> Picture {
    let mut members: Vec<Vec<&Workspace>> =
        scene.groups.values().map(|list| list.iter().filter_map(|at| scene.workspaces.get(*at)).collect()).collect();
    members.sort_by_key(|list| std::cmp::Reverse(list.len()));
    let left_out = members.len().saturating_sub(MOST_GROUPS);
    members.truncate(MOST_GROUPS);
    let mut picture = Picture {
        left_out,
        places: PLACES.iter().map(|(_, name, _)| (*name).to_owned()).collect(),
        ..Picture::default()
    };
    for (from, list) in members.iter().enumerate() {
        let Some(first) = list.first() else { continue };
        picture.groups.push(Group { example: first.title(), count: list.len() });
        for (to, others) in members.iter().enumerate() {
            // One near and one far stand for all, as everywhere.
            let near = |same: bool| {
                others.iter().find(|other| {
                    other.tenant != first.tenant && (other.template.namespace == first.template.namespace) == same
                })
            };
            let found = [near(true), near(false)]
                .into_iter()
                .flatten()
                .filter_map(|other| openness(&*scene.wire.between(&first.template, &other.template)?));
            let worst = found.reduce(|one, other| if one == Openness::Open { one } else { other });
            if let Some(openness) = worst {
                let title = format!("workspaces like {} reach other tenants' workspaces", first.title());
                picture.between.push(Edge { from, to, openness, title });
            }
        }
        for (to, (address, name, meant)) in PLACES.iter().enumerate() {
            let Some(reach) = address.parse::<IpAddr>().ok().and_then(|address| scene.wire.out(first, address)) else {
                continue;
            };
            if let Some(found) = openness(&reach) {
                let openness = if found == Openness::Open { *meant } else { found };
                picture.out.push(Edge { from, to, openness, title: format!("{} -> {name}", first.title()) });
            }
        }
    }
    picture
}
