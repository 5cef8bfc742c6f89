//! What a site decides for this machine: `CUBICLE_HOME/site.yaml`, read whenever it matters, so
//! that a change holds from the next launch on.

use std::io;

use cubicle_core::problem::Problem;
use cubicle_core::quantity::Bytes;
use cubicle_core::scan::{Judgement, ScanRule};
use cubicle_core::template::Duration;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::store::Private;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Site {
    /// When an image is refused for what a scanner found in it.
    pub image_scan: ScanRule,
    /// How many launches go on at the same time; the others wait in line. One more than there are
    /// processors when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches_at_once: Option<std::num::NonZeroUsize>,
    /// Sandboxes that are built before anybody asks.
    pub warm: Warm,
    /// After how long without anything that its user did a workspace stands still, until somebody does something
    /// in it again; never when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_after: Option<Duration>,
    /// Where the hub's certificate comes from. Read once, at the start, by `cubicle_acme::Settings`, which tells all
    /// mistakes with their lines.
    #[serde(skip_serializing)]
    tls: Elsewhere,
}

/// A part of the document that another reader takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Elsewhere;

impl<'de> Deserialize<'de> for Elsewhere {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// How many sandboxes are held ready, and for how long what was proven about one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Warm {
    /// The most that are held at the same time, over all templates; 0 holds none.
    pub members: usize,
    /// The most memory that they may use together; what the machine can spare when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// How old the evidence of a member may be when somebody claims it, at most a day.
    pub max_age: Duration,
}

impl Default for Warm {
    fn default() -> Self {
        Self { members: 0, memory: None, max_age: MOST_AGE }
    }
}

/// The oldest evidence that a launch may rest on.
const MOST_AGE: Duration = Duration(24 * 3600);

impl Warm {
    /// How old the evidence of a member may be.
    pub(crate) fn max_age(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.max_age.0)
    }
}

impl Site {
    /// How many launches go on at the same time.
    pub(crate) fn launches_at_once(&self) -> usize {
        // One more: while one waits for a disk, the processors have work.
        self.launches_at_once.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) + 1,
            std::num::NonZeroUsize::get,
        )
    }

    /// Reads the document.
    ///
    /// # Errors
    /// It is there and cannot be read: nothing is launched by rules that nobody knows.
    pub fn read(layout: &Layout) -> Result<Self, Problem> {
        let path = layout.site();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Problem::engine(
                    format!("{} cannot be read: {error}", path.display()),
                    "correct its permissions, or remove it for the defaults",
                ));
            }
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let site: Self = serde_norway::from_str(&text).map_err(|error| {
            let shown: String = error.to_string().chars().take(300).collect();
            Problem::engine(
                format!("{} is not a site's rules: {shown}", path.display()),
                "write for example `imageScan: {refuse: high, required: true}`",
            )
        })?;
        if site.warm.max_age > MOST_AGE {
            return Err(Problem::engine(
                format!("{}: warm.maxAge is {}", path.display(), String::from(site.warm.max_age)),
                "a launch rests on evidence of one day at most: write 24h or less",
            ));
        }
        Ok(site)
    }
}

/// What the site's rule says about a workspace's image now.
///
/// # Errors
/// The rule cannot be read.
pub(crate) fn image(layout: &Layout, private: &Private) -> Result<Judgement, Problem> {
    let scan = private.template.spec.scan.as_ref();
    let digests = [private.image.clone()];
    Ok(Site::read(layout)?.image_scan.judge(scan, &digests, Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use cubicle_core::scan::Severity;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_rule() {
        let home = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(home.path());
        assert_eq!(Site::read(&layout), Ok(Site::default()));
        let write = |text: &str| {
            std::fs::write(layout.site(), text).expect("written");
            Site::read(&layout)
        };
        assert_eq!(write("\n"), Ok(Site::default()));
        assert_eq!(write("launchesAtOnce: 7").expect("rules").launches_at_once(), 7);
        assert!(write("launchesAtOnce: 0").is_err());
        assert_eq!(write("tls: {acme: {hook: /hook}}"), Ok(Site::default()));
        let site = write("imageScan: {refuse: high, required: true, maxAge: 7d}").expect("rules");
        assert_eq!((site.image_scan.refuse, site.image_scan.required), (Severity::High, true));
        assert!(site.image_scan.fixable_only);
        for bad in ["imageScan: {refuse: never}", "imagescan: {}", "[", "imageScan: {maxAge: 0d}"] {
            assert!(write(bad).is_err(), "{bad}");
        }
    }
}
