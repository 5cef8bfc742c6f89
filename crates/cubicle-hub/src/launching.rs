//! The one way to a launch: the REST interface, the pages and the portal all come through here, so
//! that none of them can forget a rule.

use std::collections::HashMap;
use std::net::IpAddr;

use cubicle_core::engine::{LaunchRequest, Volume};
use cubicle_core::name::{TemplateName, UserId};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::template::Template;
use cubicle_core::workspace::Workspace;

use crate::caps::Present;
use crate::hub::{Caller, Hub, auditor_runs_nothing};
use crate::store::{Account, Role};
use crate::{journal, traces};

/// The longest name that a user may give a workspace, in characters.
pub(crate) const LONGEST_NAME: usize = 64;

impl Hub {
    /// Launches a template for an account. `from` is the address of whoever asks, where it is theirs.
    ///
    /// # Errors
    /// The site is closed for maintenance, the account may not, or has what it may have already;
    /// and what the engine refuses.
    pub(crate) async fn launch(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
        account: &Account,
        template: &str,
        name: &str,
    ) -> Result<Workspace, Problem> {
        let trace = traces::launching(caller);
        let launched = async {
            caller.require_work()?;
            let request = LaunchRequest { trace, ..request(account, template, name)? };
            self.require_open(caller).await?;
            self.count(caller, from, account)?;
            let _turn = self.admit(account, &request.template).await?;
            self.engine.launch(request).await
        };
        let workspace = told(launched.await)?;
        journal::about(format!("{} of {}", workspace.id, workspace.owner.id));
        Ok(workspace)
    }

    /// Launches a stopped, refused or failed workspace again.
    ///
    /// # Errors
    /// Those of [`Hub::launch`].
    pub(crate) async fn start(
        &self,
        caller: &Caller,
        from: Option<IpAddr>,
        workspace: &Workspace,
    ) -> Result<Workspace, Problem> {
        let trace = traces::launching(caller);
        let launched = async {
            caller.require_work()?;
            self.require_open(caller).await?;
            let account = match caller {
                Caller::Account(account) if account.id == workspace.owner.id => account.clone(),
                // Whoever has it started, it is its owner's.
                _ => self.store.account(workspace.owner.name.as_str()).await?,
            };
            self.count(caller, from, &account)?;
            let _turn = self.admit(&account, &workspace.template).await?;
            self.engine.start(&workspace.id, trace).await
        };
        told(launched.await)
    }

    /// The machine's administrator has the machine anyway.
    fn count(&self, caller: &Caller, from: Option<IpAddr>, account: &Account) -> Result<(), Problem> {
        match caller {
            Caller::Root => Ok(()),
            Caller::Account(_) => self.launches.count(&account.id, from),
        }
    }

    async fn admit(
        &self,
        account: &Account,
        template: &TemplateName,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, Problem> {
        if self.caps.is_empty() {
            return Ok(None);
        }
        // Two launches at once would both find room.
        let turn = self.admitting.lock().await;
        let (workspaces, templates) = tokio::try_join!(self.engine.workspaces(), self.engine.templates())?;
        let Some(asked) = templates.iter().find(|known| known.metadata.name == *template) else {
            // The engine has the words for it.
            return Ok(Some(turn));
        };
        let volumes = match self.engine.volumes().await {
            Err(problem) if problem.kind == ProblemKind::NotAllowed => homes(&workspaces, &templates),
            other => other?,
        };
        let accounts = self.store.accounts().await?;
        let present =
            Present { workspaces: &workspaces, templates: &templates, volumes: &volumes, accounts: &accounts };
        self.caps.admit(account, asked, &present)?;
        Ok(Some(turn))
    }
}

/// The homes that workspaces have, for a hub that may not see volumes.
pub(crate) fn homes(workspaces: &[Workspace], templates: &[Template]) -> Vec<Volume> {
    let sizes: HashMap<&TemplateName, u64> =
        templates.iter().map(|template| (&template.metadata.name, template.spec.home.size.0)).collect();
    let mut homes: HashMap<&UserId, Volume> = HashMap::new();
    for workspace in workspaces {
        let size = sizes.get(&workspace.template).copied().unwrap_or(0);
        let home = homes.entry(&workspace.owner.id).or_insert_with(|| Volume {
            owner: workspace.owner.clone(),
            backend: String::new(),
            limit: Some(0),
            used: 0,
            created_at: workspace.created_at,
        });
        home.limit = home.limit.max(Some(size));
    }
    homes.into_values().collect()
}

/// Tells the trace what came of asking.
fn told(launched: Result<Workspace, Problem>) -> Result<Workspace, Problem> {
    traces::launched(launched.as_ref().ok().map(|workspace| &workspace.id));
    launched
}

/// A launch for this account, with names checked.
fn request(account: &Account, template: &str, name: &str) -> Result<LaunchRequest, Problem> {
    if account.role == Role::Auditor {
        return Err(auditor_runs_nothing());
    }
    let template: TemplateName = template.parse()?;
    let name = name.trim();
    let length = name.chars().count();
    if length > LONGEST_NAME || name.chars().any(is_invisible) {
        let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
        return Err(Problem::bad_input(
            format!("workspace name \"{shown}\" is longer than {LONGEST_NAME} characters or holds invisible ones"),
            format!("use up to {LONGEST_NAME} visible characters, or none for the template's name"),
        ));
    }
    Ok(LaunchRequest {
        template,
        owner: account.owner(),
        name: name.to_owned(),
        groups: account.groups.clone(),
        trace: None,
    })
}

/// Control characters, and those that change the direction or width of what stands around them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_workspaces_are_visible() {
        for character in ['\0', '\n', '\u{202e}', '\u{200b}', '\u{feff}', '\u{2066}'] {
            assert!(is_invisible(character), "{character:?}");
        }
        for character in ['a', ' ', '\u{e9}', '\u{1f600}'] {
            assert!(!is_invisible(character), "{character:?}");
        }
    }
}
