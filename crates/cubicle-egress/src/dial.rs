//! From what was asked for to a connection, or to the reason why there is none.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::machine::{delivered_locally, interface_addresses};
use crate::policy::Policy;
use crate::refusal::{Refusal, Rule};
use crate::target::{Host, Target};

/// For the answer of the resolver.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

/// For one address to answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// For all addresses of a name together.
const DIAL_TIME: Duration = Duration::from_secs(20);

/// Judges the target and connects to one of its judged addresses.
pub(crate) async fn dial(target: &Target, policy: &Policy) -> Result<(TcpStream, IpAddr), Refusal> {
    policy.judge_target(target)?;
    let addresses = resolve(target).await?;
    let unchecked = |error: std::io::Error| {
        Refusal::of(target, Rule::Unchecked, format!("the machine's own addresses could not be read: {error}"))
    };
    policy.judge_addresses(target, &addresses, &interface_addresses().map_err(unchecked)?)?;
    let mut reachable = Vec::new();
    let mut obstacle = "no route to it".to_owned();
    for address in addresses {
        match delivered_locally(SocketAddr::new(address, target.port)) {
            Ok(false) => reachable.push(address),
            Ok(true) => {
                let reason = "the address is delivered to the machine that runs this workspace";
                return Err(Refusal::of(target, Rule::Machine, reason).at(address));
            }
            Err(error) => obstacle = error.to_string(),
        }
    }
    let deadline = Instant::now() + DIAL_TIME;
    for address in reachable {
        // A SocketAddr, not a name: there is nothing left to resolve.
        let connect = TcpStream::connect(SocketAddr::new(address, target.port));
        match timeout_at(deadline, timeout(CONNECT_TIME, connect)).await {
            Ok(Ok(Ok(stream))) => {
                let _ = stream.set_nodelay(true);
                return Ok((stream, address));
            }
            Ok(Ok(Err(error))) => obstacle = error.to_string(),
            Ok(Err(_)) => obstacle = format!("no answer within {} s", CONNECT_TIME.as_secs()),
            Err(_) => break,
        }
    }
    Err(Refusal::of(target, Rule::Unreachable, format!("the host does not answer: {obstacle}")))
}

async fn resolve(target: &Target) -> Result<Vec<IpAddr>, Refusal> {
    let name = match &target.host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    // The final dot keeps the resolver from trying the machine's search domains: the name that
    // was judged is the name that is looked up.
    let lookup = tokio::net::lookup_host((format!("{name}."), target.port));
    let failed = |why: &str| Refusal::of(target, Rule::Unresolvable, format!("the name could not be resolved{why}"));
    let found = timeout(LOOKUP_TIME, lookup)
        .await
        .map_err(|_| failed(&format!(" within {} s", LOOKUP_TIME.as_secs())))?
        .map_err(|_| failed(""))?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}
