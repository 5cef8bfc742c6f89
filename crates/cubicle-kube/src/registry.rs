//! The hubs' registry: one object per record, in the hubs' own namespace.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cubicle_core::problem::Problem;
use cubicle_core::registry::{Kind, Record, Registry};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::BroadcastStream;

use crate::followed::Followed;
use crate::resources::hub;

/// Look-ups of what is not known that run at once: strangers with invented cookies cause them.
const STRANGERS: usize = 16;

/// Accounts, sessions and what hangs on them, as objects.
pub struct Objects {
    kinds: HashMap<Kind, (Api<DynamicObject>, Arc<Followed<DynamicObject>>)>,
    strangers: Semaphore,
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Account => ApiResource::erase::<hub::Account>(&()),
        Kind::Session => ApiResource::erase::<hub::Session>(&()),
        Kind::Grant => ApiResource::erase::<hub::Grant>(&()),
        Kind::Ticket => ApiResource::erase::<hub::Ticket>(&()),
        Kind::Link => ApiResource::erase::<hub::SignInLink>(&()),
        Kind::Token => ApiResource::erase::<hub::ApiToken>(&()),
        Kind::Notice => ApiResource::erase::<hub::Notice>(&()),
        Kind::Usage => ApiResource::erase::<hub::Usage>(&()),
    }
}

fn record(object: DynamicObject) -> Record {
    Record {
        name: object.name_any(),
        version: object.resource_version().unwrap_or_default(),
        value: object.data.get("spec").cloned().unwrap_or(Value::Null),
    }
}

pub(crate) fn unanswered(error: &kube::Error) -> Problem {
    Problem::engine(
        format!("the cluster's API server did not do it: {error}"),
        "try again; running notebooks go on meanwhile",
    )
}

impl Objects {
    /// Follows the records in this namespace.
    pub fn new(client: &Client, namespace: &str) -> Self {
        let kinds = Kind::ALL.map(|kind| {
            let api = Api::namespaced_with(client.clone(), namespace, &resource(kind));
            let followed = Followed::begin(api.clone());
            (kind, (api, followed))
        });
        Self { kinds: HashMap::from(kinds), strangers: Semaphore::new(STRANGERS) }
    }

    fn kind(&self, kind: Kind) -> Result<&(Api<DynamicObject>, Arc<Followed<DynamicObject>>), Problem> {
        self.kinds.get(&kind).ok_or_else(|| Problem::engine("there is no such kind of records", ""))
    }
}

#[async_trait]
impl Registry for Objects {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        let (_, followed) = self.kind(kind)?;
        if let Some(object) = followed.get(name) {
            return Ok(Some(record(object)));
        }
        let Ok(_turn) = self.strangers.acquire().await else { return Ok(None) };
        self.get_now(kind, name).await
    }

    async fn get_now(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        let (api, _) = self.kind(kind)?;
        let object = api.get_opt(name).await.map_err(|error| unanswered(&error))?;
        Ok(object.map(record))
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Record>, Problem> {
        let (_, followed) = self.kind(kind)?;
        match followed.all() {
            Some(objects) => Ok(objects.into_iter().map(record).collect()),
            None => self.list_now(kind).await,
        }
    }

    async fn list_now(&self, kind: Kind) -> Result<Vec<Record>, Problem> {
        let (api, _) = self.kind(kind)?;
        let objects = api.list(&ListParams::default()).await.map_err(|error| unanswered(&error))?;
        Ok(objects.items.into_iter().map(record).collect())
    }

    async fn create(&self, kind: Kind, name: &str, value: Value) -> Result<bool, Problem> {
        let (api, followed) = self.kind(kind)?;
        let mut object = DynamicObject::new(name, &resource(kind));
        object.data = serde_json::json!({ "spec": value });
        match api.create(&PostParams::default(), &object).await {
            Ok(made) => {
                followed.put(made);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(unanswered(&error)),
        }
    }

    async fn replace(&self, kind: Kind, record: Record) -> Result<bool, Problem> {
        let (api, followed) = self.kind(kind)?;
        let mut object = DynamicObject::new(&record.name, &resource(kind));
        object.metadata.resource_version = Some(record.version);
        object.data = serde_json::json!({ "spec": record.value });
        match api.replace(&record.name, &PostParams::default(), &object).await {
            Ok(written) => {
                followed.put(written);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
            Err(error) => Err(unanswered(&error)),
        }
    }

    async fn take(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem> {
        let (api, followed) = self.kind(kind)?;
        let Some(object) = api.get_opt(name).await.map_err(|error| unanswered(&error))? else {
            followed.forget(name);
            return Ok(None);
        };
        // Known first, so that no late word of it brings it back.
        followed.put(object.clone());
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(name, &parameters).await {
            Ok(_) => {
                followed.forget(name);
                Ok(Some(record(object)))
            }
            // Somebody else has it.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                followed.forget(name);
                Ok(None)
            }
            Err(error) => Err(unanswered(&error)),
        }
    }

    fn ended_sessions(&self) -> BoxStream<'static, String> {
        match self.kinds.get(&Kind::Session) {
            Some((_, followed)) => {
                BroadcastStream::new(followed.removed()).filter_map(|name| async move { name.ok() }).boxed()
            }
            None => futures::stream::pending().boxed(),
        }
    }
}
