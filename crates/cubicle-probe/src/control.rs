//! What only the control does: a scratch network namespace that owns every address of the plan,
//! and scenes in which the bad thing is so.

pub(crate) mod interface;
pub(crate) mod listen;
mod netlink;
pub(crate) mod network;
pub(crate) mod scene;
