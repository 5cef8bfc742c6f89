//! The same contract over a proxy that many workspaces share, as on Kubernetes.

mod contract;
