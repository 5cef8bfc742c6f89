//! The controller's side of the door: it dials in, and signs what it asks.

use std::net::SocketAddr;
use std::time::Duration;

use cubicle_core::door::{Demand, Hello, LINE, Reply, Signed, signed_bytes};
use ed25519_dalek::{Signer, SigningKey};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting and the first line may take.
const GREETING: Duration = Duration::from_secs(3);

/// Why a door did not answer as it should.
#[derive(Debug, Error)]
pub enum DoorError {
    /// Nothing listens there, or not in time.
    #[error("{0} does not answer: {1}")]
    Closed(SocketAddr, std::io::Error),
    /// Somebody else's door.
    #[error("{0} is the door of another workspace or launch")]
    Other(SocketAddr),
    /// It says something that no door says.
    #[error("{0} says something that no door says: {1}")]
    Nonsense(SocketAddr, String),
    /// It took too long.
    #[error("{0} took longer than {1:?}")]
    Slow(SocketAddr, Duration),
}

/// An open door.
pub struct Door {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    hello: Hello,
}

impl Door {
    /// Dials, and checks that it is the door of this workspace and launch.
    ///
    /// # Errors
    /// When nothing answers, or somebody else does.
    pub async fn open(address: SocketAddr, workspace: &str, launch: &str) -> Result<Self, DoorError> {
        let closed = |error| DoorError::Closed(address, error);
        let slow = |_| DoorError::Slow(address, GREETING);
        let stream = timeout(GREETING, TcpStream::connect(address)).await.map_err(slow)?.map_err(closed)?;
        stream.set_nodelay(true).map_err(closed)?;
        let mut stream = BufReader::new(stream);
        let line = timeout(GREETING, read_line(&mut stream)).await.map_err(slow)?.map_err(closed)?;
        let hello: Hello =
            serde_json::from_str(&line).map_err(|error| DoorError::Nonsense(address, error.to_string()))?;
        if hello.workspace != workspace || hello.launch != launch {
            return Err(DoorError::Other(address));
        }
        Ok(Self { address, stream, hello })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the door closes, is too slow, or answers nonsense.
    pub async fn ask(&mut self, key: &SigningKey, demand: &Demand, patience: Duration) -> Result<Reply, DoorError> {
        let address = self.address;
        let nonsense = |error: serde_json::Error| DoorError::Nonsense(address, error.to_string());
        let body = serde_json::to_string(demand).map_err(nonsense)?;
        let signature = key.sign(&signed_bytes(&self.hello, &body)).to_bytes();
        let signature = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut line = serde_json::to_vec(&Signed { body, signature }).map_err(nonsense)?;
        line.push(b'\n');
        let exchange = async {
            self.stream.get_mut().write_all(&line).await?;
            read_line(&mut self.stream).await
        };
        let answer = timeout(patience, exchange)
            .await
            .map_err(|_| DoorError::Slow(address, patience))?
            .map_err(|error| DoorError::Closed(address, error))?;
        serde_json::from_str(&answer).map_err(nonsense)
    }
}

/// One line, bounded.
async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    (&mut *stream).take(LINE).read_line(&mut line).await?;
    if line.ends_with('\n') {
        return Ok(line);
    }
    Err(std::io::Error::other(if line.is_empty() { "it hung up" } else { "a line is cut off or too long" }))
}
