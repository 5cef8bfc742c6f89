//! Writes every web page with sample data to a directory, for the browser checks in
//! `tests/browser`: `cargo run -p cubicle-hub --example pages -- DIRECTORY`.
//!
//! The samples are what pages are hard to get right with: failed and refused launches, nothing
//! at all, a thousand rows, long evidence, markup in names and logs, right-to-left text.
#![forbid(unsafe_code)]

mod admin;
mod isolation;
mod person;
mod sample;

use std::fs;
use std::path::PathBuf;

use cubicle_hub::pages::{RenderError, assets};

/// A page's file name and content.
type Rendered = (&'static str, Result<String, RenderError>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).ok_or("name the directory to write to")?.into();
    fs::create_dir_all(directory.join("assets"))?;
    for asset in assets::all() {
        fs::write(directory.join("assets").join(&asset.name), asset.content)?;
    }
    for (name, rendered) in person::pages().into_iter().chain(isolation::pages()).chain(admin::pages()) {
        fs::write(directory.join(format!("{name}.html")), rendered?)?;
    }
    Ok(())
}
