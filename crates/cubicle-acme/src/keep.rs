//! Keeps the hub's certificate new for as long as the engine runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cubicle_core::problem::Problem;
use cubicle_metrics::certificate::{self as metrics, Outcome};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use crate::certificate::Leaf;
use crate::files::{Files, Wishes};
use crate::messages::{Cause, Failure};
use crate::names::Names;
use crate::order::{Orders, Said};
use crate::schedule;
use crate::settings::Settings;

/// How long the first certificate may take altogether.
const FIRST_WITHIN: Duration = Duration::from_secs(600);
/// How long the first one is asked for again when the authority could not answer.
const FIRST_AGAIN_WITHIN: Duration = Duration::from_secs(120);
/// The pause before the second time; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest sleep: the machine's clock may be set meanwhile.
const LONGEST_SLEEP: i64 = 600;

/// Gets the hub its certificate, and another in time.
#[derive(Debug)]
pub struct Keeper {
    orders: Orders,
}

/// What is remembered between two orders.
#[derive(Debug, Default)]
struct Course {
    /// How many orders failed in a row.
    failures: u32,
    /// When the next one may be tried.
    next: i64,
    /// When the certificate came, if it came while this engine ran.
    came: Option<i64>,
    /// How many lived less than a tenth of their lives, in a row.
    short_lived: u32,
}

impl Keeper {
    /// Orders by this very program, which has the command `internal-acme`.
    pub fn new(settings: Settings, names: Names, files: Files) -> Result<Self, Problem> {
        let program = std::env::current_exe()
            .map_err(|error| Problem::engine(format!("this program's path is not known: {error}"), "run it again"))?;
        Ok(Self { orders: Orders { program, settings, names, files } })
    }

    /// Where the hub's certificate and key are.
    pub fn files(&self) -> &Files {
        &self.orders.files
    }

    /// Returns when there is a certificate for all names; what is waited for is said.
    ///
    /// # Errors
    /// There is none, and why the authority gives none.
    pub async fn first(&self, say: impl Fn(&str)) -> Result<(), Problem> {
        if let Err(error) = self.orders.files.sweep() {
            tracing::warn!(%error, "half-written files may be left in the folder of the certificate");
        }
        match self.present() {
            Ok(Some(leaf)) => {
                metrics::valid_until(leaf.end);
                return Ok(());
            }
            Ok(None) => {}
            Err(why) => tracing::warn!(why, "the certificate that is there cannot be used"),
        }
        let (names, directory) = (&self.orders.names, &self.orders.settings.directory);
        say(&format!("Cubicle waits for a certificate: {names}, from {directory}"));
        let ordered = tokio::time::timeout(FIRST_WITHIN, async {
            let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
            loop {
                match self.order(None).await {
                    Err(failure) if failure.cause == Cause::Again && begun.elapsed() < FIRST_AGAIN_WITHIN => {
                        tracing::warn!(%failure, "the authority is asked again");
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    ended => return ended,
                }
            }
        });
        let failure = match ordered.await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => {
                Failure::new(Cause::Slow, format!("there was none within {} minutes", FIRST_WITHIN.as_secs() / 60))
            }
        };
        Err(Problem::engine(format!("no certificate for {names} from {directory}: {failure}"), failure.remedy()))
    }

    /// Replaces the certificate whenever it is time; never returns.
    pub async fn keep(self: Arc<Self>) {
        let mut course = Course::default();
        // What an engine left that ended between certificate and clean-up.
        self.orders.clean_up().await;
        loop {
            let wait = self.look(&mut course).await.clamp(1, LONGEST_SLEEP);
            tokio::time::sleep(Duration::from_secs(wait.unsigned_abs())).await;
        }
    }

    /// Does what is due; how long nothing is, in seconds.
    async fn look(&self, course: &mut Course) -> i64 {
        let leaf = match self.present() {
            Ok(Some(leaf)) => leaf,
            // The hub shows the one that it has read. There was one at the start, so somebody took it away.
            missing => {
                let why = missing.err().unwrap_or_else(|| "it is not there".to_owned());
                tracing::warn!(why, "the certificate cannot be used; another is ordered");
                let now = now();
                let gone = Leaf { names: Vec::new(), begin: now, end: now + 3600, id: None };
                return self.replace(&gone, course).await;
            }
        };
        metrics::valid_until(leaf.end);
        let wishes = self.wishes(&leaf).await;
        let now = now();
        let not_before = course.came.map_or(now, |came| schedule::not_before(&leaf, course.short_lived, came));
        let due = schedule::due(&leaf, wishes.as_ref()).max(not_before).max(course.next);
        if due <= now {
            return self.replace(&leaf, course).await;
        }
        wishes.map_or(due, |wishes| due.min(wishes.ask)) - now
    }

    async fn replace(&self, leaf: &Leaf, course: &mut Course) -> i64 {
        match self.order(leaf.id.clone()).await {
            Ok(_) => {
                let now = now();
                let lived = course.came.map(|came| now - came);
                let short = lived.is_some_and(|lived| lived < leaf.lifetime() / 10);
                *course = Course {
                    came: Some(now),
                    short_lived: if short { course.short_lived + 1 } else { 0 },
                    ..Course::default()
                };
                1
            }
            Err(failure) => {
                course.failures += 1;
                let pause = schedule::pause(leaf, course.failures, rand::random());
                course.next = now() + pause;
                tracing::warn!(
                    problem = %failure,
                    remedy = failure.remedy(),
                    failures = course.failures,
                    valid_until = %time(leaf.end),
                    seconds = pause,
                    "the certificate was not renewed; the old one stays, and it is tried again"
                );
                pause
            }
        }
    }

    async fn order(&self, replaces: Option<String>) -> Result<Leaf, Failure> {
        let ordered = self.orders.order(replaces).await;
        match &ordered {
            Ok(leaf) => {
                metrics::ordered(Outcome::Issued);
                metrics::valid_until(leaf.end);
                tracing::info!(
                    names = %self.orders.names,
                    directory = %self.orders.settings.directory,
                    valid_until = %time(leaf.end),
                    "the authority gave a certificate"
                );
            }
            Err(_) => metrics::ordered(Outcome::Failed),
        }
        ordered
    }

    /// The certificate that is there, if it is for all names and of the authority that the site names now.
    fn present(&self) -> Result<Option<Leaf>, String> {
        let Some(text) = self.orders.files.certificate().map_err(|error| error.to_string())? else { return Ok(None) };
        let leaf = Leaf::read(text.expose_secret())?;
        if !self.orders.names.are_in(&leaf.names) {
            return Err(format!("it is for {}, and not for {}", leaf.names.join(" and "), self.orders.names));
        }
        let directory = &self.orders.settings.directory;
        if self.orders.files.account(directory).map_err(|error| error.to_string())?.is_none() {
            return Err(format!("there is no account at {directory}, so it is of another authority"));
        }
        Ok(Some(leaf))
    }

    /// When the authority wants to replace it, asked when it said to ask.
    async fn wishes(&self, leaf: &Leaf) -> Option<Wishes> {
        let id = leaf.id.as_ref()?;
        let kept = self.orders.files.wishes(id).unwrap_or_else(|error| {
            tracing::warn!(%error, "what the authority said of renewal is asked again");
            None
        });
        let now = now();
        if kept.as_ref().is_some_and(|kept| now < kept.ask) {
            return kept;
        }
        let mut wishes = kept.unwrap_or_else(|| Wishes { certificate: id.clone(), ..Wishes::default() });
        match self.orders.window(id).await {
            Ok(Said::Window(start, end, again)) => {
                // Drawn once for each window, or asking often would mean renewing early.
                if wishes.window != Some((start, end)) {
                    wishes.window = Some((start, end));
                    wishes.drawn = Some(schedule::drawn((start, end), rand::random()));
                }
                wishes.ask = now + schedule::again(leaf, again);
            }
            Ok(Said::Nothing) => {
                (wishes.window, wishes.drawn) = (None, None);
                wishes.ask = now + schedule::again(leaf, u64::MAX);
            }
            Err(failure) => {
                tracing::warn!(problem = %failure, "the authority does not say when it wants to replace the certificate");
                wishes.ask = now + schedule::again(leaf, u64::MAX);
            }
        }
        if let Err(error) = self.orders.files.keep_wishes(&wishes) {
            tracing::warn!(%error, "what the authority said of renewal cannot be kept");
        }
        Some(wishes)
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
