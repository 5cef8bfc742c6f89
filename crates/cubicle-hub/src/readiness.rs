//! Which part of the hub works, and what is told to whoever watches.

use std::sync::Arc;
use std::time::Duration;

use cubicle_core::problem::Problem;

use crate::hub::Hub;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A part that does not work.
pub(crate) type NotReady = Vec<&'static str>;

impl Hub {
    /// Asks all parts at once; the names of those that do not work. Why is for the log.
    pub(crate) async fn not_ready(&self) -> NotReady {
        let (database, engine) = tokio::join!(
            works("database", self.store.ping()),
            works("engine", async { self.engine.templates().await.map(drop) })
        );
        // Whoever is signed in goes on without it, so the hub stays in service.
        cubicle_metrics::hub::ready("providers", self.identities.silent().is_empty());
        [("database", database), ("engine", engine)]
            .into_iter()
            .filter(|(_, works)| !works)
            .map(|(part, _)| part)
            .collect()
    }

    /// The hub's part of the metrics as it is now.
    pub(crate) async fn metrics(&self) -> String {
        self.not_ready().await;
        if let Ok(Ok(workspaces)) = tokio::time::timeout(PATIENCE, self.engine.workspaces()).await {
            cubicle_metrics::hub::workspaces(&workspaces);
        }
        cubicle_metrics::hub::text() + &cubicle_metrics::traces::text("hub")
    }

    /// Tells metrics on a listener of their own, for ever.
    pub(crate) async fn tell_metrics(self: Arc<Self>, listener: Option<Arc<std::net::TcpListener>>) {
        let listener = listener.map(|listener| listener.try_clone().and_then(tokio::net::TcpListener::from_std));
        match listener {
            Some(Ok(listener)) => {
                let hub = self;
                cubicle_metrics::serve(listener, move || {
                    let hub = Arc::clone(&hub);
                    async move { cubicle_metrics::whole(&[hub.metrics().await]) }
                })
                .await;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "metrics are not told");
                std::future::pending().await
            }
            None => std::future::pending().await,
        }
    }
}

async fn works(part: &'static str, question: impl Future<Output = Result<(), Problem>>) -> bool {
    let answer = tokio::time::timeout(PATIENCE, question).await;
    let works = matches!(answer, Ok(Ok(())));
    if !works {
        tracing::warn!(part, ?answer, "a part of the hub is not ready");
    }
    cubicle_metrics::hub::ready(part, works);
    works
}
