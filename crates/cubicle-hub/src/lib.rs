//! The front door: sign-in, sessions, the REST API, the web pages, and the proxy to workspaces.
//!
//! The hub faces users and parses what hostile notebooks answer, so it holds no power of its
//! own: everything that touches a workspace goes through [`cubicle_core::engine::Engine`].
#![forbid(unsafe_code)]

mod accounting;
mod activity;
mod api;
mod caps;
mod config;
mod cookies;
mod crowd;
mod fetch;
mod http2;
mod hub;
mod identity;
mod journal;
mod launching;
mod limit;
mod liveness;
mod meter;
mod notice;
mod origin;
pub mod pages;
mod password;
mod portal;
mod problem;
mod proxy;
mod readiness;
mod routes;
mod secret;
mod server;
pub mod standalone;
mod store;
mod tls;
mod traces;
mod workers;

pub use accounting::Prices;
pub use caps::{Amounts, Caps, GroupCaps};
pub use config::{HostNames, HubConfig, Records, Timing, TlsFiles};
pub use identity::{FrontSettings, PortalSettings, ProviderSettings, SignIn};
pub use server::serve;
