//! Ways around the walls over IPv6.

use std::net::IpAddr;

use ipnet::IpNet;

use super::addresses::each_part;
use super::{PRIVATE_V6, at_rule, beyond_names, certainty, reached};
use crate::network::Match;
use crate::network::port::Protocol;
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::Workspace;
use crate::verdict::wire::Target;

/// Public addresses of both families, which mean the same to a policy that knows both.
const PUBLIC: [&str; 2] = ["1.1.1.1", "2606:4700:4700::1111"];

/// The global unicast addresses: RFC 4291.
const GLOBAL: &str = "2000::/3";

/// What is closed over IPv4 and open over IPv6: private addresses, and public ones where those of
/// IPv4 are closed.
pub(in crate::verdict::rules) fn ipv6(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for block in PRIVATE_V6 {
        each_part(scene, workspace, causes, block, &|block, address, reach| {
            let sentence = format!("reach addresses of {block} over IPv6, where nodes, pods and internal services are");
            let cause = reached(beyond_names(reach), Severity::High, block.to_string(), sentence)?;
            Some((cause, Target::Block(block, address)))
        });
    }
    let open = |text: &str| -> Option<(IpAddr, Match)> {
        let address = text.parse().ok()?;
        Some((address, certainty(&*scene.wire.out(workspace, address)?, Protocol::Tcp, Some(443))))
    };
    let (Some((_, v4)), Some((address, v6)), Ok(global)) = (open(PUBLIC[0]), open(PUBLIC[1]), GLOBAL.parse::<IpNet>())
    else {
        return;
    };
    if v4 < v6 {
        let sentence = "reach public addresses over IPv6, which are closed over IPv4".to_owned();
        if let Some(cause) = reached(v6, Severity::Medium, "public".to_owned(), sentence) {
            let cause = cause.seen([format!("{} -> [{address}]:443 TCP", workspace.title())]);
            causes.push(at_rule(scene, workspace, &Target::Block(global, address), cause));
        }
    }
}
