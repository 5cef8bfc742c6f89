//! Where a shared proxy has its table from: whoever connects to a Unix socket beside it and writes
//! whole tables, one JSON document per line. The proxy itself needs no credential and no way to the
//! API server for that.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::callers::{Caller, Table};

/// The longest table, in bytes: some ten thousand workspaces.
const LONGEST: u64 = 64 << 20;

/// Takes tables for ever, from one writer after the other. The last table stays when its writer goes:
/// what runs goes on, and nobody new is let in.
pub(crate) async fn follow(listener: UnixListener, newest: watch::Sender<Option<Arc<Table>>>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match take(stream, &newest).await {
                Ok(()) => tell("its writer went; the last table stays"),
                Err(error) => tell(&format!("what its writer sent cannot be used: {error}")),
            },
            Err(error) => {
                tell(&format!("its socket: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn take(stream: UnixStream, newest: &watch::Sender<Option<Arc<Table>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream).take(LONGEST).read_until(b'\n', &mut line).await?;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => {}
            // Half a table would shut people out.
            Some(_) => return Err(io::Error::other("a table is cut off or too long")),
        }
        let callers: Vec<Caller> = serde_json::from_slice(&line)?;
        let (table, errors) = Table::new(&callers);
        for error in errors {
            tell(&error.to_string());
        }
        newest.send_replace(Some(Arc::new(table)));
    }
}

/// A line of the process's own log, beside the decisions.
fn tell(what: &str) {
    let mut line = serde_json::json!({"time": jiff::Timestamp::now().to_string(), "table": what}).to_string();
    line.push('\n');
    // In one piece: the decisions are written to the same file meanwhile. One that cannot be written is lost.
    let _ = io::stderr().write_all(line.as_bytes());
}
