//! Leader election by a Lease (coordination.k8s.io/v1): one controller acts at a time.

use std::time::Duration;

use cubicle_core::problem::Problem;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// The name of the lease.
const NAME: &str = "cubicle-controller";
/// How long a lease holds after its last renewal, in seconds.
const SECONDS: i32 = 15;
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(3);
/// How long renewals may fail before the leader gives up: well before another one may begin.
const GIVE_UP: Duration = Duration::from_secs(10);

/// The lease as one replica sees it.
pub(super) struct Lease {
    api: Api<LeaseObject>,
    identity: String,
}

impl Lease {
    pub(super) fn new(client: &Client, namespace: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), identity: identity.to_owned() }
    }

    /// Waits until this replica leads.
    pub(super) async fn acquire(&self) -> Result<(), Problem> {
        let mut said = false;
        loop {
            match self.take(Some(&self.identity)).await {
                Ok(true) => return Ok(()),
                Ok(false) if !said => {
                    tracing::info!("another replica leads; waiting");
                    said = true;
                }
                Ok(false) => {}
                Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {
                    return Err(Problem::engine(
                        format!("the lease cannot be used: {}", status.message),
                        "install the chart: it makes the namespace and the rights",
                    ));
                }
                Err(error) => tracing::warn!(%error, "the lease cannot be read"),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// Renews for ever; returns when the lease is lost.
    pub(super) async fn keep(&self) -> Problem {
        let mut renewed = std::time::Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            let began = std::time::Instant::now();
            let left = GIVE_UP.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.take(Some(&self.identity))).await {
                // It holds from the moment that was written into it.
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return Problem::engine("another replica has taken the lease", ""),
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed"),
                Err(_) => tracing::warn!("the lease was not renewed in time"),
            }
            if renewed.elapsed() >= GIVE_UP {
                return Problem::engine("the lease could not be renewed", "is the API server up?");
            }
        }
    }

    /// Lets another replica begin at once.
    pub(super) async fn release(&self) {
        if let Err(error) = self.take(None).await {
            tracing::debug!(%error, "the lease was not released; it runs out by itself");
        }
    }

    /// Takes, renews or gives up the lease, unless somebody else holds it. The resource version
    /// makes two takers at once impossible.
    async fn take(&self, holder: Option<&str>) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let known = self.api.get_opt(NAME).await?;
        if let Some(spec) = known.as_ref().and_then(|lease| lease.spec.as_ref())
            && spec.holder_identity.as_deref().is_some_and(|other| !other.is_empty() && other != self.identity)
            && !has_run_out(spec, now)
        {
            return Ok(false);
        }
        let ours = known
            .as_ref()
            .and_then(|lease| lease.spec.as_ref())
            .filter(|spec| spec.holder_identity.as_deref() == Some(&*self.identity));
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(SECONDS),
            acquire_time: ours.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: known
                .as_ref()
                .and_then(|lease| lease.spec.as_ref()?.lease_transitions)
                .map_or(Some(0), |count| Some(if ours.is_some() { count } else { count.saturating_add(1) })),
            ..LeaseSpec::default()
        };
        let parameters = PostParams::default();
        let written = match known {
            None => {
                let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
                self.api.create(&parameters, &LeaseObject { metadata, spec: Some(spec) }).await
            }
            Some(lease) => self.api.replace(NAME, &parameters, &LeaseObject { spec: Some(spec), ..lease }).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn has_run_out(spec: &LeaseSpec, now: Timestamp) -> bool {
    let seconds = i64::from(spec.lease_duration_seconds.unwrap_or(SECONDS));
    spec.renew_time
        .as_ref()
        .and_then(|renewed| renewed.0.checked_add(SignedDuration::from_secs(seconds)).ok())
        .is_none_or(|end| end < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_after_its_duration() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("valid");
        let spec = |renewed: &str| LeaseSpec {
            renew_time: Some(MicroTime(renewed.parse().expect("valid"))),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        assert!(!has_run_out(&spec("2026-01-01T00:00:50Z"), now));
        assert!(has_run_out(&spec("2026-01-01T00:00:40Z"), now));
        assert!(has_run_out(&LeaseSpec::default(), now));
    }
}
