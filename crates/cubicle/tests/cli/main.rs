//! The built program, as people and scripts use it: what it prints, where, and its exit codes.
//!
//! Snapshots hold every word. After a change that is meant: `INSTA_UPDATE=always cargo test -p
//! cubicle --test cli`, then read the difference.

mod advice;
mod answers;
mod audit;
mod elsewhere;
mod exec;
mod fixtures;
mod launches;
mod manual;
mod misuse;
mod program;
mod signed;
mod stand_in;
mod stopped;
