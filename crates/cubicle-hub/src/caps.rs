//! How much a person, and a group together, may have at once.
//!
//! What runs counts by the limits of its template, because that is what the machine must be ready
//! to give. Storage counts by the home's hard limit, whether anything runs or not. On Kubernetes
//! the tenant's ResourceQuota stands behind this; two hubs that admit at the same instant may let
//! one launch more through.

use std::collections::HashMap;

use cubicle_core::engine::Volume;
use cubicle_core::name::{TemplateName, UserId};
use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::Template;
use cubicle_core::workspace::Workspace;

use crate::store::Account;

/// Amounts that may be limited; what is not set is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Workspaces that run or are being launched.
    pub workspaces: Option<u64>,
    /// Their CPU limits.
    pub cpu: Option<MilliCpu>,
    /// Their memory limits.
    pub memory: Option<Bytes>,
    /// The hard limits of homes.
    pub storage: Option<Bytes>,
}

/// What the members of a group may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupCaps {
    /// The group's name, as accounts and templates name it.
    pub name: String,
    /// Each member, in place of what everybody may have.
    pub each: Amounts,
    /// All members together.
    pub together: Amounts,
}

/// What people may have at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caps {
    /// Each person.
    pub everyone: Amounts,
    /// Members of groups.
    pub groups: Vec<GroupCaps>,
}

/// What is there when somebody asks for more.
pub(crate) struct Present<'a> {
    pub(crate) workspaces: &'a [Workspace],
    pub(crate) templates: &'a [Template],
    pub(crate) volumes: &'a [Volume],
    pub(crate) accounts: &'a [Account],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    workspaces: u64,
    cpu: u64,
    memory: u64,
    storage: u64,
}

impl Caps {
    /// Whether nothing is limited, so that nothing need be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.everyone == Amounts::default() && self.groups.is_empty()
    }

    /// What this person may have. Of several groups that set an amount, the most generous counts.
    pub(crate) fn of(&self, account: &Account) -> Amounts {
        let own = |group: &&GroupCaps| account.groups.contains(&group.name);
        let each: Vec<&Amounts> = self.groups.iter().filter(own).map(|group| &group.each).collect();
        Amounts {
            workspaces: each.iter().filter_map(|one| one.workspaces).max().or(self.everyone.workspaces),
            cpu: each.iter().filter_map(|one| one.cpu).max().or(self.everyone.cpu),
            memory: each.iter().filter_map(|one| one.memory).max().or(self.everyone.memory),
            storage: each.iter().filter_map(|one| one.storage).max().or(self.everyone.storage),
        }
    }

    /// Whether this person may launch this template now.
    ///
    /// # Errors
    /// The first limit that the launch would break, with what is used of it.
    pub(crate) fn admit(&self, account: &Account, asked: &Template, present: &Present<'_>) -> Result<(), Problem> {
        let more = Sum {
            workspaces: 1,
            cpu: asked.spec.resources.cpu.0,
            memory: asked.spec.resources.memory.0,
            storage: asked.spec.home.size.0,
        };
        let used = present.used(&|id| *id == account.id);
        // A home that is there is counted already; it may only grow.
        let home = present.home(&account.id);
        let added = Sum { storage: more.storage.saturating_sub(home), ..more };
        hold("you", &self.of(account), used, added)?;
        for group in self.groups.iter().filter(|group| account.groups.contains(&group.name)) {
            let members: std::collections::HashSet<&UserId> = present
                .accounts
                .iter()
                .filter(|other| other.groups.contains(&group.name))
                .map(|other| &other.id)
                .chain([&account.id])
                .collect();
            let used = present.used(&|id| members.contains(id));
            hold(&format!("the group {}", group.name), &group.together, used, added)?;
        }
        Ok(())
    }
}

impl Present<'_> {
    fn used(&self, counts: &dyn Fn(&UserId) -> bool) -> Sum {
        let known: HashMap<&TemplateName, &Template> =
            self.templates.iter().map(|template| (&template.metadata.name, template)).collect();
        let mut sum = Sum::default();
        for workspace in self.workspaces.iter().filter(|one| one.state.is_live() && counts(&one.owner.id)) {
            sum.workspaces += 1;
            if let Some(template) = known.get(&workspace.template) {
                sum.cpu = sum.cpu.saturating_add(template.spec.resources.cpu.0);
                sum.memory = sum.memory.saturating_add(template.spec.resources.memory.0);
            }
        }
        for volume in self.volumes.iter().filter(|volume| counts(&volume.owner.id)) {
            sum.storage = sum.storage.saturating_add(volume.limit.unwrap_or(volume.used));
        }
        sum
    }

    fn home(&self, id: &UserId) -> u64 {
        let own = self.volumes.iter().filter(|volume| volume.owner.id == *id);
        own.map(|volume| volume.limit.unwrap_or(volume.used)).max().unwrap_or(0)
    }
}

fn hold(whose: &str, caps: &Amounts, used: Sum, added: Sum) -> Result<(), Problem> {
    let refuse = |what: &str, used: String, added: String, cap: String, enough: bool| {
        let remedy = match (enough, what) {
            (false, _) => "choose a smaller template, or ask an administrator for more".to_owned(),
            (true, "storage") => "delete a home that is not needed, or ask an administrator for more".to_owned(),
            (true, _) => "stop a workspace first, or ask an administrator for more".to_owned(),
        };
        let have = if whose == "you" { "have" } else { "has" };
        Problem::conflict(
            format!("{whose} {have} {used} {what} of at most {cap}; this launch needs {added} more"),
            remedy,
        )
    };
    let plain: fn(u64) -> String = |amount| amount.to_string();
    let bytes: fn(u64) -> String = |amount| Bytes(amount).to_string();
    let processors: fn(u64) -> String = |amount| MilliCpu(amount).to_string();
    let amounts = [
        ("workspaces", used.workspaces, added.workspaces, caps.workspaces, plain),
        ("CPU", used.cpu, added.cpu, caps.cpu.map(|cap| cap.0), processors),
        ("memory", used.memory, added.memory, caps.memory.map(|cap| cap.0), bytes),
        ("storage", used.storage, added.storage, caps.storage.map(|cap| cap.0), bytes),
    ];
    for (what, used, added, cap, shown) in amounts {
        if let Some(cap) = cap
            && added > 0
            && used.saturating_add(added) > cap
        {
            return Err(refuse(what, shown(used), shown(added), shown(cap), added <= cap));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use cubicle_core::engine::Volume;
    use cubicle_core::level::{EngineKind, Level};
    use cubicle_core::problem::ProblemKind;
    use cubicle_core::workspace::{Owner, State};
    use jiff::Timestamp;

    use super::*;
    use crate::store::Role;

    pub(crate) fn account(name: &str, groups: &[&str]) -> Account {
        let number = name.bytes().fold(0u8, u8::wrapping_add);
        Account {
            id: UserId::from_random([number; 12]),
            name: name.parse().expect("a name"),
            role: Role::User,
            disabled: false,
            has_password: true,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            identity: None,
            service: false,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn template() -> Template {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "cubicle.dev/v1alpha1", "kind": "Template", "metadata": {"name": "lab"},
            "spec": {"image": "lab", "resources": {"cpu": "500m", "memory": "1Gi"}, "home": {"size": "2Gi"}},
        }))
        .expect("a template")
    }

    pub(crate) fn workspace(owner: &Account, state: State) -> Workspace {
        Workspace {
            id: "w-000000000000".parse().expect("an id"),
            name: "lab".to_owned(),
            owner: owner.owner(),
            template: "lab".parse().expect("a name"),
            level: Level::Standard,
            engine: EngineKind::Local,
            state,
            reason: String::new(),
            pid: None,
            created_at: Timestamp::UNIX_EPOCH,
            opened_at: None,
            last_activity: None,
            stops_at: None,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn volume(owner: &Account) -> Volume {
        let owner = Owner { id: owner.id.clone(), name: owner.name.clone() };
        Volume { owner, backend: "image".to_owned(), limit: Some(2 << 30), used: 1, created_at: Timestamp::UNIX_EPOCH }
    }

    fn caps(everyone: Amounts, groups: &[(&str, Amounts, Amounts)]) -> Caps {
        let groups = groups.iter().map(|(name, each, together)| GroupCaps {
            name: (*name).to_owned(),
            each: *each,
            together: *together,
        });
        Caps { everyone, groups: groups.collect() }
    }

    const ONE: Amounts = Amounts { workspaces: Some(1), cpu: None, memory: None, storage: None };
    const FREE: Amounts = Amounts { workspaces: None, cpu: None, memory: None, storage: None };

    #[test]
    fn what_runs_counts_and_what_is_stopped_does_not() {
        let (alice, bob, template) = (account("alice", &[]), account("bob", &[]), template());
        let caps = caps(ONE, &[]);
        let templates = [template.clone()];
        let mut workspaces = vec![workspace(&alice, State::Stopped), workspace(&bob, State::Running)];
        let ask = |workspaces: &[Workspace]| {
            let present = Present { workspaces, templates: &templates, volumes: &[], accounts: &[] };
            caps.admit(&alice, &template, &present)
        };
        ask(&workspaces).expect("admitted");
        workspaces.push(workspace(&alice, State::Pending));
        let problem = ask(&workspaces).expect_err("refused");
        assert_eq!(problem.kind, ProblemKind::Conflict);
        assert_eq!(problem.what, "you have 1 workspaces of at most 1; this launch needs 1 more");
    }

    #[test]
    fn the_most_generous_group_counts_and_amounts_that_it_leaves_out_are_everyones() {
        let both = account("alice", &["small", "large"]);
        let small = Amounts { workspaces: Some(2), ..FREE };
        let large = Amounts { workspaces: Some(5), memory: Some(Bytes(8 << 30)), ..FREE };
        let everyone = Amounts { workspaces: Some(1), cpu: Some(MilliCpu(1000)), ..FREE };
        let caps = caps(everyone, &[("small", small, FREE), ("large", large, FREE), ("other", ONE, ONE)]);
        let expected =
            Amounts { workspaces: Some(5), cpu: Some(MilliCpu(1000)), memory: Some(Bytes(8 << 30)), storage: None };
        assert_eq!(caps.of(&both), expected);
        assert_eq!(caps.of(&account("bob", &[])), everyone);
    }

    #[test]
    fn a_group_together_is_its_members_sum() {
        let (alice, bob) = (account("alice", &["class"]), account("bob", &["class"]));
        let stranger = account("carol", &[]);
        let template = template();
        let together = Amounts { cpu: Some(MilliCpu(1000)), ..FREE };
        let caps = caps(FREE, &[("class", FREE, together)]);
        let (templates, accounts) = ([template.clone()], [alice.clone(), bob.clone(), stranger.clone()]);
        let ask = |who: &Account, workspaces: &[Workspace]| {
            let present = Present { workspaces, templates: &templates, volumes: &[], accounts: &accounts };
            caps.admit(who, &template, &present)
        };
        let one = [workspace(&bob, State::Running), workspace(&stranger, State::Running)];
        ask(&alice, &one).expect("admitted");
        let two = [workspace(&bob, State::Running), workspace(&alice, State::Running)];
        assert!(ask(&alice, &two).expect_err("refused").what.starts_with("the group class has 1 CPU of at most 1"));
        ask(&stranger, &two).expect("not a member");
    }

    #[test]
    fn a_home_that_is_there_is_counted_once() {
        let (alice, template) = (account("alice", &[]), template());
        let caps = caps(Amounts { storage: Some(Bytes(2 << 30)), ..FREE }, &[]);
        let templates = [template.clone()];
        let ask = |volumes: &[Volume], template: &Template| {
            let present = Present { workspaces: &[], templates: &templates, volumes, accounts: &[] };
            caps.admit(&alice, template, &present)
        };
        ask(&[], &template).expect("the first one");
        ask(&[volume(&alice)], &template).expect("the same one");
        let mut larger = template.clone();
        larger.spec.home.size = Bytes(3 << 30);
        let problem = ask(&[volume(&alice)], &larger).expect_err("refused");
        assert!(problem.what.contains("storage"), "{}", problem.what);
        let problem = ask(&[], &larger).expect_err("refused");
        assert!(problem.remedy.contains("smaller template"), "{}", problem.remedy);
    }
}
