//! Objects of one kind as the API server tells of them, for reading without asking.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

/// How long a removed object is not believed to be back because an older word of it comes late.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is known.
struct State<K> {
    /// Whether the first list is complete.
    ready: bool,
    objects: HashMap<String, K>,
    /// Names of the list that is coming in.
    listed: HashSet<String>,
    gone: HashMap<String, Instant>,
}

/// A copy of all objects of one kind, kept up to date.
pub(crate) struct Followed<K> {
    state: Mutex<State<K>>,
    changes: watch::Sender<u64>,
    removed: broadcast::Sender<String>,
}

/// Versions of one object are comparable numbers (KEP-5504).
fn version<K: Resource>(object: &K) -> u128 {
    object.meta().resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl<K> Followed<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to follow. It goes on, whatever fails, until the process ends.
    pub(crate) fn begin(api: Api<K>) -> Arc<Self> {
        let followed = Arc::new(Self {
            state: Mutex::new(State {
                ready: false,
                objects: HashMap::new(),
                listed: HashSet::new(),
                gone: HashMap::new(),
            }),
            changes: watch::channel(0).0,
            removed: broadcast::channel(1024).0,
        });
        let inner = Arc::clone(&followed);
        tokio::spawn(async move {
            let mut events = watch_objects(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => inner.learn(event),
                    Err(error) => tracing::warn!(%error, "the API server does not tell of changes"),
                }
            }
        });
        followed
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, event: Event<K>) {
        match event {
            Event::Init => self.state().listed.clear(),
            Event::InitApply(object) => {
                self.state().listed.insert(object.name_any());
                self.put(object);
            }
            Event::InitDone => {
                let missed: Vec<String> = {
                    let mut state = self.state();
                    state.ready = true;
                    let listed = std::mem::take(&mut state.listed);
                    state.objects.keys().filter(|name| !listed.contains(*name)).cloned().collect()
                };
                for name in missed {
                    self.forget(&name);
                }
                self.tell();
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.forget(&object.name_any()),
        }
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Learns of an object from an answer; an older version than the known one is ignored.
    pub(crate) fn put(&self, object: K) {
        {
            let mut state = self.state();
            let name = object.name_any();
            state.gone.retain(|_, since| since.elapsed() < REMEMBERED);
            let uid = object.meta().uid.clone();
            let older = state.objects.get(&name).is_some_and(|known| version(known) > version(&object));
            if older || state.gone.contains_key(&format!("{name} {}", uid.unwrap_or_default())) {
                return;
            }
            state.objects.insert(name, object);
        }
        self.tell();
    }

    /// Learns that an object is gone.
    pub(crate) fn forget(&self, name: &str) {
        let known = {
            let mut state = self.state();
            let known = state.objects.remove(name);
            if let Some(object) = &known {
                let uid = object.meta().uid.clone().unwrap_or_default();
                state.gone.insert(format!("{name} {uid}"), Instant::now());
            }
            known
        };
        if known.is_some() {
            let _ = self.removed.send(name.to_owned());
            self.tell();
        }
    }

    /// The object, when it is known.
    pub(crate) fn get(&self, name: &str) -> Option<K> {
        self.state().objects.get(name).cloned()
    }

    /// All objects; nothing until the first list is complete.
    pub(crate) fn all(&self) -> Option<Vec<K>> {
        let state = self.state();
        state.ready.then(|| state.objects.values().cloned().collect())
    }

    /// How many are so.
    pub(crate) fn count(&self, so: impl Fn(&K) -> bool) -> usize {
        self.state().objects.values().filter(|object| so(object)).count()
    }

    /// Wakes with every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The names of what goes, from now on.
    pub(crate) fn removed(&self) -> broadcast::Receiver<String> {
        self.removed.subscribe()
    }
}
