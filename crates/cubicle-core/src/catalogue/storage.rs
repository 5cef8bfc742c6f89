//! Guarantees about homes and other file systems.

use super::entry::{Attempts, BOTH, Entry, FACT_CONTROL, KUBERNETES, STAGED_CONTROL, fact, reads};
use crate::attempt::{Fact, Phase};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

/// Bytes of a file system per file that it may hold: one block, the least that a file takes.
const BLOCK: u64 = 4096;

fn home_limit(situation: &Situation, _: Phase) -> Attempts {
    // A back end without a limit promises none; then there is nothing to compare with, and
    // the guarantee stays unproven.
    let Some(limit) = situation.limits.home else { return Vec::new() };
    vec![fact("size of the home", Fact::FileSystemLarger { path: situation.home_path.clone(), bytes: limit.0 })]
}

fn home_files(situation: &Situation, _: Phase) -> Attempts {
    let Some(limit) = situation.limits.home else { return Vec::new() };
    vec![fact(
        "files of the home",
        Fact::FileSystemMoreFiles { path: situation.home_path.clone(), files: limit.0 / BLOCK },
    )]
}

const fn entry(guarantee: Guarantee, attempts: fn(&Situation, Phase) -> Attempts) -> Entry {
    Entry { guarantee, attempts: Some(attempts) }
}

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Guarantee {
            id: "storage.remnants",
            alias: "SV-05",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: BOTH,
            sentence: "A workspace cannot find another user's files in its home.",
            mechanism: "Every home is a file system of its own, made empty for its user.",
            static_rule: "Reclaim policy Delete, and a driver that wipes.",
            live_probe: "Looks through the upper levels of its home for files of another user.",
            positive_control: STAGED_CONTROL,
            references: &["https://kubernetes.io/docs/concepts/storage/persistent-volumes/#reclaiming", "CWE-226"],
        },
        |situation, _| vec![fact("owners in the home", Fact::ForeignFiles { path: situation.home_path.clone() })],
    ),
    entry(
        Guarantee {
            id: "storage.leave-home",
            alias: "SV-06",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: BOTH,
            sentence: "A workspace cannot leave its home upwards into the volume's store.",
            mechanism: "The home is a mount point: going up from it ends in the workspace's own root.",
            static_rule: "subPath is not chosen by the tenant.",
            live_probe: "Opens the parent of its home again and again, and compares where that ends with its root directory.",
            positive_control: "The same reader, put above its own root directory, notices.",
            references: &["CVE-2021-25741", "CVE-2024-21626", "man 7 path_resolution"],
        },
        |situation, _| vec![fact("parent of the home", Fact::EscapesRoot { path: situation.home_path.clone() })],
    ),
    entry(
        Guarantee {
            id: "storage.other-homes",
            alias: "SV-07",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: BOTH,
            sentence: "A workspace cannot see other users' homes.",
            mechanism: "Only its own home is mounted.",
            static_rule: "One export or volume per user.",
            live_probe: "Lists what lies beside its home, and opens the engine's store of volumes.",
            positive_control: STAGED_CONTROL,
            references: &["https://z2jh.jupyter.org/en/stable/jupyterhub/customizing/user-storage.html"],
        },
        |situation, _| {
            let mut attempts = vec![fact("beside the home", Fact::Siblings { path: situation.home_path.clone() })];
            attempts.extend(reads(&["/var/lib/cubicle/volumes/home.img", "/var/lib/kubelet/pods/index"], true));
            attempts
        },
    ),
    entry(
        Guarantee {
            id: "storage.fill",
            alias: "SV-08",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: BOTH,
            sentence: "A workspace cannot store more in its home than its limit.",
            mechanism: "The home is a file system of exactly that size.",
            static_rule: "The storage driver enforces the claim's size (NFS and local-path do not).",
            live_probe: "Asks the kernel for the size of the home's file system.",
            positive_control: STAGED_CONTROL,
            references: &["man 3 statvfs", "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#capacity"],
        },
        home_limit,
    ),
    entry(
        Guarantee {
            id: "storage.files",
            alias: "NN-05",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: BOTH,
            sentence: "A workspace cannot use up the machine's room for files with many small ones.",
            mechanism: "The home is a file system with its own table of files.",
            static_rule: "Project quota, or a volume of its own.",
            live_probe: "Asks the kernel how many files the home's file system may hold.",
            positive_control: STAGED_CONTROL,
            references: &["man 3 statvfs"],
        },
        home_files,
    ),
    Entry {
        guarantee: Guarantee {
            id: "storage.other-claims",
            alias: "SV-04",
            layer: Layer::PlatformServices,
            place: Place::Storage,
            engines: KUBERNETES,
            sentence: "A workspace cannot mount another user's volume.",
            mechanism: "The controller alone names the claim; each volume is bound to one claim by uid.",
            static_rule: "claimRef.uid matches and no tenant sets volumeName.",
            live_probe: "",
            positive_control: FACT_CONTROL,
            references: &["https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding"],
        },
        attempts: None,
    },
];
