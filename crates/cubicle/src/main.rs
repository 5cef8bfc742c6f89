//! The `cubicle` command: starts the product on one machine and administers it.
//!
//! Thin on purpose. Everything it knows about workspaces it asks from an engine; what it adds
//! is names of commands, text and JSON, and one mapping to exit codes.
#![forbid(unsafe_code)]

mod acme_process;
mod cli;
mod commands;
mod context;
mod egress_process;
mod exit;
mod hub;
mod hub_process;
mod internal;
#[cfg(test)]
mod manual;
mod output;
mod remote;
mod signature;
mod trace;
mod web;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything that might start a thread: the internal commands enter namespaces and
    // give up rights, which the kernel allows, or makes complete, only for a single thread.
    if let Some(code) = internal::dispatch(std::env::args_os()) {
        return code;
    }
    cli::run(as_proxy(std::env::args_os()))
}

/// Under the name of the program that it stands in for, it is `cubicle proxy`.
fn as_proxy(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let named =
        arguments.first().is_some_and(|name| Path::new(name).file_name() == Some("configurable-http-proxy".as_ref()));
    if named {
        arguments.insert(1, "proxy".into());
    }
    arguments
}
