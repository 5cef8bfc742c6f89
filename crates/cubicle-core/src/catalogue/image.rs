//! Guarantees about images.

use super::entry::{BOTH, Entry, FACT_CONTROL, KUBERNETES, STAGED_CONTROL, fact};
use crate::attempt::{Action, Fact};
use crate::guarantee::{Guarantee, Layer, Place};

/// Where programs are, in a Debian image and in ours.
const PROGRAMS: &[&str] = &[
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/lib/openssh",
    "/usr/lib/dbus-1.0",
    "/usr/libexec",
    "/opt/venv/bin",
];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        guarantee: Guarantee {
            id: "image.pinned",
            alias: "IM-01",
            layer: Layer::Workload,
            place: Place::Image,
            engines: BOTH,
            sentence: "A workspace cannot run another image than the one whose digest was chosen.",
            mechanism: "The image is a directory named by the digest of its content, mounted read-only; on Kubernetes a reference by digest.",
            static_rule: "The image is referenced by @sha256, and the container's imageID equals it.",
            live_probe: "Reads where its root file system comes from, and that it is read-only.",
            positive_control: FACT_CONTROL,
            references: &[
                "https://kubernetes.io/docs/concepts/containers/images/",
                "https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests",
                "NIST SP 800-190 section 4.1.5",
            ],
        },
        attempts: Some(|_, _| vec![fact("root file system", Fact::UnpinnedImage)]),
    },
    Entry {
        guarantee: Guarantee {
            id: "image.setuid-programs",
            alias: "IM-05",
            layer: Layer::Workload,
            place: Place::Image,
            engines: BOTH,
            sentence: "A workspace's image does not hold programs that change the user.",
            mechanism: "The image is built without setuid and setgid bits.",
            static_rule: "Walk of the layers for the bits and for file capabilities.",
            live_probe: "Looks through the directories of programs for setuid and setgid bits.",
            positive_control: STAGED_CONTROL,
            references: &["CIS Docker Benchmark 4.8", "man 7 inode"],
        },
        attempts: Some(|_, _| {
            let directories = PROGRAMS.iter().map(|path| (*path).to_owned()).collect();
            vec![fact("setuid programs", Fact::SetuidFiles { directories })]
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "image.programs-not-writable",
            alias: "IM-10",
            layer: Layer::Workload,
            place: Place::Image,
            engines: BOTH,
            sentence: "A workspace cannot replace the programs that start it.",
            mechanism: "The image is read-only; what users install goes to the home.",
            static_rule: "readOnlyRootFilesystem, or files that belong to another user.",
            live_probe: "Makes a file among the programs and the configuration that starts them.",
            positive_control: "Root makes and removes the same file on the machine.",
            references: &["CWE-732"],
        },
        attempts: Some(|_, _| {
            ["/usr/bin", "/usr/lib", "/usr/local/bin"]
                .iter()
                .map(|path| (format!("create in {path}"), Action::Create { directory: (*path).to_owned() }))
                .collect()
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "image.registry",
            alias: "IM-02",
            layer: Layer::Workload,
            place: Place::Image,
            engines: KUBERNETES,
            sentence: "A workspace cannot run an image from a registry that the site does not list.",
            mechanism: "Admission policy.",
            static_rule: "Every image reference begins with a listed registry.",
            live_probe: "",
            positive_control: "A pod with an unlisted registry is refused by a dry run.",
            references: &["NIST SP 800-190 section 4.2"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "image.signature",
            alias: "IM-03",
            layer: Layer::Workload,
            place: Place::Image,
            engines: KUBERNETES,
            sentence: "A workspace cannot run an image that nobody the site trusts has signed.",
            mechanism: "Signature check at admission.",
            static_rule: "A policy that verifies signatures selects the workspace's namespace.",
            live_probe: "",
            positive_control: "A pod with an unsigned image is refused by a dry run.",
            references: &["https://docs.sigstore.dev/policy-controller/overview/"],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "image.known-exploits",
            alias: "IM-07",
            layer: Layer::Workload,
            place: Place::Image,
            engines: BOTH,
            sentence: "A workspace's image does not hold software with known exploits that have a fix.",
            mechanism: "A gate on the findings of a scanner.",
            static_rule: "Imported findings of Trivy or Grype, by severity and age.",
            live_probe: "",
            positive_control: "",
            references: &[
                "https://www.cisa.gov/known-exploited-vulnerabilities-catalog",
                "NIST SP 800-190 section 4.1.1",
            ],
        },
        attempts: None,
    },
    Entry {
        guarantee: Guarantee {
            id: "image.user",
            alias: "IM-04",
            layer: Layer::Workload,
            place: Place::Image,
            engines: BOTH,
            sentence: "A workspace's image cannot choose to run as root.",
            mechanism: "The engine sets the user, whatever the image says.",
            static_rule: "The image's USER is numeric and not 0, or runAsUser is set.",
            live_probe: "Reads its real, effective, saved and file-system ids.",
            positive_control: FACT_CONTROL,
            references: &["CIS Docker Benchmark 4.1"],
        },
        attempts: Some(|_, _| vec![fact("ids", Fact::RootUser)]),
    },
];
