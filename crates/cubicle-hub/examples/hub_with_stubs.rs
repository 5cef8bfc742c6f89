//! The hub before notebooks that are stubs, for `bench/run hub`: how much memory it needs for many
//! workspaces is measured without the many notebooks.
//!
//! `hub_with_stubs FOLDER LISTEN NOTEBOOK`: state in FOLDER, browsers at the address LISTEN, every notebook
//! at the address NOTEBOOK. The administrator's socket is FOLDER/admin.sock. Ends at SIGTERM; what ran runs
//! on when it is started again.
#![forbid(unsafe_code)]

#[path = "../tests/hub/engine.rs"]
#[allow(dead_code, reason = "the tests look at more of it")]
mod engine;

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use cubicle_core::engine::Engine;
use cubicle_core::workspace::Workspace;
use cubicle_hub::HubConfig;
use engine::TestEngine;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: hub_with_stubs FOLDER LISTEN NOTEBOOK");
    let (folder, listen, notebook) = (PathBuf::from(next()?), next()?, next()?);
    let kept = folder.join("workspaces.json");
    let socket = folder.join("admin.sock");
    let engine = TestEngine::new(notebook.parse()?);
    if kept.exists() {
        let running: Vec<Workspace> = serde_json::from_slice(&std::fs::read(&kept)?)?;
        *engine.workspaces.lock().map_err(|_| "a thread failed")? = running;
        std::fs::remove_file(&socket)?;
    }
    let listener = std::net::TcpListener::bind(listen)?;
    let admin = UnixListener::bind(socket)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let served =
            cubicle_hub::serve(HubConfig::new(&folder), Arc::clone(&engine) as Arc<dyn Engine>, listener, admin);
        tokio::select! {
            served = served => served.map_err(|problem| problem.to_string().into()),
            _ = terminated.recv() => Ok::<(), Box<dyn Error>>(()),
        }
    })?;
    let running = engine.workspaces.lock().map_err(|_| "a thread failed")?;
    std::fs::write(kept, serde_json::to_vec(&*running)?)?;
    Ok(())
}
