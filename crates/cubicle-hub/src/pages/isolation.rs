//! "What isolates me": every guarantee of one workspace, drawn as layers, with its evidence.

use askama::Template;
use cubicle_core::guarantee::{Layer, Place};
use cubicle_core::report::{GuaranteeReport, Report, Summary, Verdict};
use cubicle_core::workspace::Workspace;

use super::{Frame, RenderError, assets, words};

/// What the isolation page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "isolation.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The workspace.
    pub workspace: Workspace,
    /// Its last report; none when it was never proven.
    pub report: Option<Report>,
    /// Shows only guarantees with this verdict.
    pub only: Option<Verdict>,
    /// Whether the viewer may prove again: it runs, and it is the viewer's or the viewer is an
    /// administrator.
    pub can_verify: bool,
}

/// Reads the query `verdict`; anything else means all.
pub fn verdict_of_query(text: &str) -> Option<Verdict> {
    words::VERDICTS.into_iter().find(|verdict| verdict.as_str() == text)
}

/// One wall around the workspace, from the outermost to what it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    Machine,
    Kernel,
    Container,
    Network,
    Storage,
    Platform,
}

impl Wall {
    const ALL: [Self; 6] = [Self::Machine, Self::Kernel, Self::Container, Self::Network, Self::Storage, Self::Platform];

    /// The wall that a guarantee belongs to. The first word of the id decides where it names a
    /// wall; otherwise the place and layer do.
    fn of(guarantee: &GuaranteeReport) -> Self {
        match guarantee.id.split('.').next() {
            Some("node") => return Self::Machine,
            Some("kernel" | "sockets") => return Self::Kernel,
            Some("container" | "image" | "neighbour") => return Self::Container,
            Some("network" | "egress") => return Self::Network,
            Some("storage") => return Self::Storage,
            Some("control-plane" | "services") => return Self::Platform,
            _ => {}
        }
        match (guarantee.layer, guarantee.place) {
            (_, Place::Network) => Self::Network,
            (_, Place::Storage) => Self::Storage,
            (Layer::PlatformServices | Layer::ControlPlane, _) => Self::Platform,
            (_, Place::Cluster | Place::Namespace | Place::Node) => Self::Machine,
            (_, Place::Pod | Place::Container | Place::Image) => Self::Container,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Kernel => "kernel",
            Self::Container => "container",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Platform => "platform",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Machine => "Machine",
            Self::Kernel => "Kernel",
            Self::Container => "Container",
            Self::Network => "Network",
            Self::Storage => "Storage",
            Self::Platform => "Platform",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Machine => "the computer that all workspaces share",
            Self::Kernel => "what it may ask the operating system for",
            Self::Container => "the box it runs in, and the limits of that box",
            Self::Network => "whom it can talk to",
            Self::Storage => "which files it can see and fill",
            Self::Platform => "Cubicle itself, and other people's workspaces",
        }
    }
}

/// One wall with its guarantees.
struct WallRow<'a> {
    wall: Wall,
    /// Counts of all guarantees, whatever the filter.
    summary: Summary,
    /// The guarantees that pass the filter, the worst first.
    guarantees: Vec<&'a GuaranteeReport>,
}

impl View {
    fn wall(&self, wall: Wall) -> WallRow<'_> {
        let all: Vec<&GuaranteeReport> =
            self.report.iter().flat_map(|report| &report.guarantees).filter(|one| Wall::of(one) == wall).collect();
        let owned: Vec<GuaranteeReport> = all.iter().map(|one| (*one).clone()).collect();
        let mut guarantees: Vec<_> =
            all.into_iter().filter(|one| self.only.is_none_or(|only| one.verdict == only)).collect();
        guarantees.sort_by_key(|one| words::VERDICTS.iter().position(|verdict| *verdict == one.verdict));
        WallRow { wall, summary: Summary::of(&owned), guarantees }
    }

    fn walls(&self) -> Vec<WallRow<'_>> {
        Wall::ALL.into_iter().map(|wall| self.wall(wall)).collect()
    }

    fn is_only(&self, verdict: &Verdict) -> bool {
        self.only == Some(*verdict)
    }

    /// What the level does not promise, with the reason.
    fn not_claimed(&self) -> Vec<&GuaranteeReport> {
        let all = self.report.iter().flat_map(|report| &report.guarantees);
        all.filter(|one| one.verdict == Verdict::NotClaimed).collect()
    }

    fn shown(&self) -> usize {
        self.walls().iter().map(|row| row.guarantees.len()).sum()
    }

    fn total(&self) -> usize {
        self.report.as_ref().map_or(0, |report| report.guarantees.len())
    }
}

/// The count of one verdict.
fn count(summary: &Summary, verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Held => summary.held,
        Verdict::Breached => summary.breached,
        Verdict::Unproven => summary.unproven,
        Verdict::Absent => summary.absent,
        Verdict::NotClaimed => summary.not_claimed,
    }
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
