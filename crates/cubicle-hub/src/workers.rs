//! Threads that answer connections: one per processor, or one for a door whose answers take longer.
//!
//! A request that is passed on touches two sockets and nothing that others wait for. On a runtime of
//! many threads each of its steps may wake another thread, which costs more than the step itself; so a
//! connection stays on the thread that it was given to, with a runtime of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How often each thread's clock rings for nothing. A patience that ends before everything else that the clock waits for
/// wakes the thread, so that the clock is set anew; every request brings one, and all are longer than this where the site
/// says nothing else.
const TICK: Duration = Duration::from_secs(1);

/// Who answers connections. Dropping it ends the threads.
pub(crate) struct Workers {
    runtimes: Vec<Handle>,
    given: AtomicUsize,
    _alive: Vec<oneshot::Sender<()>>,
}

impl Workers {
    /// The runtime of the caller.
    pub(crate) fn here() -> Self {
        Self { runtimes: vec![Handle::current()], given: AtomicUsize::new(0), _alive: Vec::new() }
    }

    /// A thread for each processor.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub(crate) fn one_per_processor() -> std::io::Result<Self> {
        Self::threads(std::thread::available_parallelism()?.get())
    }

    /// One thread.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub(crate) fn one() -> std::io::Result<Self> {
        Self::threads(1)
    }

    fn threads(count: usize) -> std::io::Result<Self> {
        let mut workers = Self { runtimes: Vec::new(), given: AtomicUsize::new(0), _alive: Vec::new() };
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (alive, mut ended) = oneshot::channel::<()>();
            workers.runtimes.push(runtime.handle().clone());
            workers._alive.push(alive);
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Nothing is ever sent: it ends when the other side is gone.
                runtime.block_on(async { while timeout(TICK, &mut ended).await.is_err() {} });
            })?;
        }
        Ok(workers)
    }

    /// Whose turn it is.
    pub(crate) fn next(&self) -> &Handle {
        &self.runtimes[self.given.fetch_add(1, Ordering::Relaxed) % self.runtimes.len()]
    }
}
