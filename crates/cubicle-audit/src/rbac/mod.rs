//! Who may do what, and what they can become by it.

mod builtin;
mod covers;
mod escalate;
pub(crate) mod manifests;
mod rights;
mod rule;
mod subject;
mod technique;
mod world;

#[cfg(test)]
mod tests;

pub use covers::{atoms, uncovered};
pub use escalate::{Escalation, Named, Power, Reached, Step, escalate};
pub use manifests::Manifests;
pub use rights::{Binding, Grant, Requirement, Rights, Role, Selector};
pub use rule::{Request, Rule};
pub use subject::{
    ANONYMOUS, AUTHENTICATED, Identity, MASTERS, SERVICE_ACCOUNTS, Subject, SubjectKind, UNAUTHENTICATED,
};
pub use world::{Admission, RunningPod, World};
