//! The door: what controller and probe say to each other over a pod's one ingress port.
//!
//! The pod never calls out. Whoever dials in gets a fresh challenge, and every demand must carry
//! a signature by the controller's key over that challenge, the workspace and the launch: a
//! demand cannot be replayed, neither to the same gate nor to another one. Nothing that a pod's
//! specification holds is secret; a reader of pods can verify, not ask.
//!
//! One JSON document per line in both directions.

use serde::{Deserialize, Serialize};

use crate::attempt::{Go, Observations, ProbePlan};

/// The longest line, in bytes.
pub const LINE: u64 = 4 << 20;

/// The first line, from the probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// 256 random bits in hexadecimal, new for every connection.
    pub challenge: String,
    /// Whose door this is: the workspace's uid.
    pub workspace: String,
    /// Which launch.
    pub launch: String,
}

/// A demand with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The [`Demand`] as JSON text: exactly these bytes are signed.
    pub body: String,
    /// Ed25519 over [`signed_bytes`], in hexadecimal.
    pub signature: String,
}

/// What the controller asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Try all this and tell.
    Probe(ProbePlan),
    /// The single-use go, on the connection whose proof was judged.
    Go(Go),
}

/// What the probe answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What came of it.
    Observations(Observations),
    /// The notebook starts now, and the door closes.
    Started,
    /// It did nothing, and says why.
    Refused(String),
}

/// The bytes that are signed. The parts before the body hold no zero byte, so that no two
/// demands have the same bytes.
pub fn signed_bytes(hello: &Hello, body: &str) -> Vec<u8> {
    let mut bytes = b"cubicle door 1".to_vec();
    for part in [&hello.workspace, &hello.launch, &hello.challenge] {
        bytes.push(0);
        bytes.extend(part.bytes().filter(|byte| *byte != 0));
    }
    bytes.push(0);
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_workspace_launch_or_challenge_has_other_bytes() {
        let hello = |challenge: &str, workspace: &str, launch: &str| Hello {
            challenge: challenge.to_owned(),
            workspace: workspace.to_owned(),
            launch: launch.to_owned(),
        };
        let bytes = signed_bytes(&hello("c", "w", "1"), "b");
        for other in [hello("d", "w", "1"), hello("c", "v", "1"), hello("c", "w", "2"), hello("1\0c", "w", "")] {
            assert_ne!(signed_bytes(&other, "b"), bytes);
        }
        assert_ne!(signed_bytes(&hello("c", "w", "1"), "a"), bytes);
    }
}
