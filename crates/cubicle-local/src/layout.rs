//! Where everything lies below `CUBICLE_HOME`.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use cubicle_core::name::{UserId, WorkspaceId};

/// The numeric user that the hub runs as. It has no name and no password entry, owns nothing
/// but the hub's own folder, and lies outside the ranges that Debian hands out.
pub const HUB_UID: u32 = 61184;
/// The numeric user that every egress proxy runs as.
pub const EGRESS_UID: u32 = 61185;
/// The numeric user that whatever orders a certificate runs as.
pub const ACME_UID: u32 = 61186;

/// The folders of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    home: PathBuf,
}

impl Layout {
    /// The layout below this folder.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into() }
    }

    /// `CUBICLE_HOME` itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The engine's database, root only.
    pub fn engine_database(&self) -> PathBuf {
        self.home.join("engine/engine.db")
    }

    /// What the site has decided for this machine; absent means the defaults.
    pub fn site(&self) -> PathBuf {
        self.home.join("site.yaml")
    }

    /// The folder that the hub owns.
    pub fn hub(&self) -> PathBuf {
        self.home.join("hub")
    }

    /// Certificates that an authority gave, with what ordering them needs: root's, and the hub may read its own.
    pub fn tls(&self) -> PathBuf {
        self.home.join("tls")
    }

    /// Images, one folder per digest.
    pub fn images(&self) -> PathBuf {
        self.home.join("images")
    }

    /// Read-only data sets, one folder per name.
    pub fn datasets(&self) -> PathBuf {
        self.home.join("datasets")
    }

    /// Programs that `./up` installs.
    pub fn programs(&self) -> PathBuf {
        self.home.join("bin")
    }

    /// The probe: root-owned and unreadable, so that the process it becomes cannot be traced.
    pub fn probe(&self) -> PathBuf {
        self.programs().join("cubicle-probe")
    }

    /// The folder of one home volume.
    pub fn volume(&self, user: &UserId) -> PathBuf {
        self.home.join("volumes").join(user.as_str())
    }

    /// Homes that nobody has yet.
    pub fn blank_homes(&self) -> PathBuf {
        self.home.join("blank-homes")
    }

    /// The folder of all workspaces.
    pub fn workspaces(&self) -> PathBuf {
        self.home.join("workspaces")
    }

    /// The folder of one workspace.
    pub fn workspace(&self, id: &WorkspaceId) -> PathBuf {
        self.workspaces().join(id.as_str())
    }

    /// Sockets and locks of the running engine.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// The administrator's door to the engine: root only.
    pub fn engine_socket(&self) -> PathBuf {
        self.run().join("engine.sock")
    }

    /// The hub's door to the engine.
    pub fn hub_socket(&self) -> PathBuf {
        self.run().join("hub.sock")
    }

    /// The administrator's door to the hub: root only.
    pub fn admin_socket(&self) -> PathBuf {
        self.run().join("admin.sock")
    }

    /// The hub's public address, for the command line.
    pub fn url_file(&self) -> PathBuf {
        self.run().join("url")
    }

    /// Makes every folder with the mode it needs. Sandboxes enter images, and the hub its own
    /// folder, as unprivileged users: these paths can be traversed but not listed.
    pub fn create(&self) -> io::Result<()> {
        let folders = [
            (self.home.clone(), 0o711),
            (self.home.join("engine"), 0o700),
            (self.hub(), 0o700),
            (self.tls(), 0o710),
            (self.images(), 0o711),
            (self.datasets(), 0o711),
            (self.programs(), 0o711),
            (self.home.join("volumes"), 0o700),
            (self.workspaces(), 0o711),
            (self.run(), 0o711),
            (self.home.join("keys"), 0o700),
        ];
        for (folder, mode) in folders {
            DirBuilder::new().recursive(true).mode(mode).create(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        }
        chown(self.tls(), Some(0), Some(HUB_UID))?;
        chown(self.hub(), Some(HUB_UID), Some(HUB_UID))
    }
}
