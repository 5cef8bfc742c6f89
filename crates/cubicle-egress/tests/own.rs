//! The contract over a proxy that serves one workspace, as on one machine.

mod contract;
