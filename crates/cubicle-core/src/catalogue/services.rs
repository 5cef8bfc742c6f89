//! Guarantees about what all workspaces share.

use super::entry::{BOTH, Entry, KUBERNETES, fact};
use crate::attempt::Fact;
use crate::guarantee::{Guarantee, Layer, Place};

/// Parts of the names of variables that carry secrets of platforms and clouds.
const SECRET_PARTS: &[&str] = &[
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "API_KEY",
    "ACCESS_KEY",
    "AUTH_TOKEN",
    "API_TOKEN",
    "DATABASE_URL",
    "KUBECONFIG",
    "KUBERNETES_SERVICE",
    "DOCKER_HOST",
    "SSH_AUTH_SOCK",
    "AWS_",
    "AZURE_",
    "GOOGLE_APPLICATION",
];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        guarantee: Guarantee {
            id: "services.environment-secrets",
            alias: "SV-10",
            layer: Layer::PlatformServices,
            place: Place::Pod,
            engines: BOTH,
            sentence: "A workspace cannot inherit secrets of the platform through its environment.",
            mechanism: "The first process gets an empty environment, and the notebook exactly the one that its engine wrote for it.",
            static_rule: "No environment variable and no volume of the pod refers to a secret but the workspace's own token.",
            live_probe: "Looks through the names in its environment.",
            positive_control: "The same reader finds one after the control has set it for itself.",
            references: &["CWE-526", "NSA/CISA Kubernetes Hardening Guide: secrets"],
        },
        attempts: Some(|_, _| {
            let parts = SECRET_PARTS.iter().map(|part| (*part).to_owned()).collect();
            vec![fact("variable names", Fact::SecretVariables { parts })]
        }),
    },
    Entry {
        guarantee: Guarantee {
            id: "services.hub-token",
            alias: "SV-11",
            layer: Layer::PlatformServices,
            place: Place::Cluster,
            engines: KUBERNETES,
            sentence: "A workspace cannot act for others with its own token.",
            mechanism: "A workspace's token opens its own notebook server and nothing else; workspaces never call the hub.",
            static_rule: "No token of the hub's interface is in a workspace's specification.",
            live_probe: "The controller presents the workspace's token to the hub's interface.",
            positive_control: "An administrator's token is accepted by the same request.",
            references: &["https://jupyterhub.readthedocs.io/en/stable/rbac/index.html"],
        },
        attempts: None,
    },
];
