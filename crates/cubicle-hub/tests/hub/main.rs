//! The hub as its users and its enemies see it: real sockets, a real database, an engine in
//! memory, and a notebook server that is the test's own.
#![forbid(unsafe_code)]

mod accounts;
mod activity;
mod api;
mod browser;
mod engine;
mod front;
mod hostile;
mod https;
mod institution;
mod issuer;
mod log;
mod manual;
mod notebook;
mod origins;
mod pages;
mod portal;
mod providers;
mod proxy;
mod roles;
mod sign_in;
mod site;
mod strangers;
