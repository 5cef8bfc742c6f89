//! Looking whether something bad is so. Every reader is the same in both roles.

mod mounts;
mod process;
mod tree;

use std::io;

use cubicle_core::attempt::Fact;
use rustix::io::Errno;

use crate::answer::{Answer, Context, name};

/// What a reader found: the bad thing with a word about it, or a word about its absence.
pub(crate) enum Found {
    Bad(String),
    Good(String),
    /// The kernel or machine does not have what was looked for.
    Nothing(String),
}

pub(crate) fn look(context: &Context, fact: &Fact) -> Answer {
    match find(context, fact) {
        Ok(Found::Bad(detail)) => Answer::succeeded(detail),
        Ok(Found::Good(detail)) => Answer::denied(detail),
        Ok(Found::Nothing(detail)) => Answer::missing(detail),
        Err(error) => Answer::failed(match Errno::from_io_error(&error) {
            Some(errno) => format!("could not look: {}", name(errno)),
            None => format!("could not look: {error}"),
        }),
    }
}

fn find(context: &Context, fact: &Fact) -> io::Result<Found> {
    match fact {
        Fact::RootUser => process::root_user(context),
        Fact::Status { field, rule } => process::status(context, field, *rule),
        Fact::InitialNamespace { kind, inode } => process::initial_namespace(context, kind, *inode),
        Fact::IdsOutside { first, count } => process::ids_outside(context, *first, *count),
        Fact::ForeignProcesses => process::foreign_processes(),
        Fact::CoreFiles => Ok(process::core_files()),
        Fact::AbstractSockets => process::abstract_sockets(context),
        Fact::Interfaces { allowed } => process::interfaces(context, allowed),
        Fact::SecretVariables { parts } => Ok(process::secret_variables(parts)),
        Fact::PredictableAddresses => process::predictable_addresses(),
        Fact::OtherKernel { boot_id } => process::other_kernel(boot_id),
        Fact::SwapPresent => process::swap_present(),
        Fact::WritableMounts { allowed } => mounts::writable(context, allowed),
        Fact::LooseMounts { except } => mounts::loose(context, except),
        Fact::WritableMount { path } => mounts::writable_at(path),
        Fact::SharedMounts => mounts::shared(context),
        Fact::UnpinnedImage => mounts::unpinned_image(context),
        Fact::Devices { allowed } => tree::devices(allowed),
        Fact::SetuidFiles { directories } => tree::setuid_files(directories),
        Fact::FileSystemLarger { path, bytes } => tree::larger(path, *bytes),
        Fact::FileSystemMoreFiles { path, files } => tree::more_files(path, *files),
        Fact::ForeignFiles { path } => tree::foreign_files(path),
        Fact::Siblings { path } => tree::siblings(path),
        Fact::EscapesRoot { path } => {
            let home = rustix::fs::open(path, tree::DIRECTORY, rustix::fs::Mode::empty())?;
            escapes_root(home)
        }
    }
}

pub(crate) use tree::escapes_root;
