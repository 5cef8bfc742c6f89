//! The nouns of Cubicle and the rules that connect them, without any I/O.
//!
//! Everything here can be tested with values alone. Engines, the hub, the probe and the
//! command line depend on this crate; it depends on none of them.
#![forbid(unsafe_code)]

pub mod advise;
pub mod attempt;
pub mod catalogue;
pub mod document;
pub mod door;
pub mod engine;
pub mod guarantee;
pub mod judge;
pub mod level;
pub mod name;
pub mod notebook;
pub mod plan;
pub mod problem;
pub mod quantity;
pub mod registry;
pub mod report;
pub mod reservation;
pub mod scan;
pub mod template;
pub mod trace;
pub mod workspace;
