//! `cubicle user`

use anstyle::Style;
use clap::{Subcommand, ValueEnum};
use cubicle_core::name::{UserId, UserName};
use cubicle_core::problem::Problem;
use hyper::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Outcome;
use crate::hub::segment;
use crate::output::table::{Cell, Table};

/// Who may sign in
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cubicle user add alice && cubicle user sign-in-link alice")]
pub(crate) enum Command {
    /// Add a user
    ///
    /// Two names that differ only in case or in how Unicode spells them are one user.
    #[command(after_help = "Example:\n  cubicle user add alice")]
    Add {
        /// The name: 1 to 64 letters or digits of any script, and . _ - @ after the first
        name: String,
        /// The same as --role admin
        #[arg(long, conflicts_with = "role")]
        admin: bool,
        /// What the account may do
        #[arg(long, value_enum, default_value_t = Role::User)]
        role: Role,
        /// A group of the user, for templates that are for groups only; may be repeated
        #[arg(long, value_name = "GROUP")]
        group: Vec<String>,
        /// An account for programs: nobody signs in to it, `cubicle token add` gives it tokens
        #[arg(long)]
        service: bool,
    },
    /// List users
    #[command(after_help = "Example:\n  cubicle user list")]
    List,
    /// Close an account: its sessions end and nobody signs in with it
    #[command(after_help = "Example:\n  cubicle user disable alice")]
    Disable {
        /// The name
        name: String,
    },
    /// Open a closed account again
    #[command(after_help = "Example:\n  cubicle user enable alice")]
    Enable {
        /// The name
        name: String,
    },
    /// Print a link that signs a user in, once
    #[command(after_help = "Example:\n  cubicle user sign-in-link alice")]
    SignInLink {
        /// The name
        name: String,
    },
}

/// What an account may do, in the words of the hub's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Launch workspaces
    User,
    /// See every report and the audit log, and launch nothing
    Auditor,
    /// Administer users, templates and everybody's workspaces
    Admin,
}

/// An account as the hub describes it.
#[derive(Debug, Serialize, Deserialize)]
struct Account {
    id: UserId,
    name: UserName,
    admin: bool,
    role: Role,
    disabled: bool,
    /// The groups that restricted templates ask for.
    #[serde(default)]
    groups: Vec<String>,
    /// For programs.
    #[serde(default)]
    service: bool,
    created_at: Timestamp,
}

/// The hub's answer to a request for a link.
#[derive(Debug, Serialize, Deserialize)]
struct Link {
    url: String,
    expires_at: Timestamp,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::Add { name, admin, role, group, service } => {
                let name: UserName = name.parse()?;
                let role = if admin { Role::Admin } else { role };
                let body = json!({ "name": name, "role": role, "groups": group, "service": service });
                let account: Account = context.ask_hub(Method::POST, "/api/v1/users", Some(&body))?;
                context.printer.print(&account, |_| {
                    if service {
                        return format!(
                            "{} added; `cubicle token add {}` makes it a token\n",
                            account.name, account.name
                        );
                    }
                    format!("{} added; it signs in with `cubicle user sign-in-link {}`\n", account.name, account.name)
                })?;
            }
            Self::List => {
                let accounts: Vec<Account> = context.ask_hub(Method::GET, "/api/v1/users", None)?;
                context.printer.print(&accounts, |printer| {
                    let mut table = Table::new(["NAME", "ROLE", "STATE", "CREATED", "ID"]);
                    for account in &accounts {
                        let state = if account.disabled {
                            Cell::styled("disabled", Style::new().dimmed())
                        } else {
                            "active".into()
                        };
                        table.row([
                            account.name.as_str().into(),
                            match account.role {
                                Role::Admin => "admin",
                                Role::Auditor => "auditor",
                                Role::User => "user",
                            }
                            .into(),
                            state,
                            account.created_at.strftime("%Y-%m-%d").to_string().into(),
                            account.id.as_str().into(),
                        ]);
                    }
                    table.render(printer, "No users. Add one with `cubicle user add NAME`.")
                })?;
            }
            Self::Disable { name } => switch(context, &name, true)?,
            Self::Enable { name } => switch(context, &name, false)?,
            Self::SignInLink { name } => {
                let name: UserName = name.parse()?;
                let path = format!("/api/v1/users/{}/sign-in-link", segment(name.as_str()));
                let link: Link = context.ask_hub(Method::POST, &path, None)?;
                context.printer.print(&link, |_| format!("{}\n", link.url))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn switch(context: &Context, name: &str, disabled: bool) -> Result<(), Problem> {
    let name: UserName = name.parse()?;
    let verb = if disabled { "disable" } else { "enable" };
    let path = format!("/api/v1/users/{}/{verb}", segment(name.as_str()));
    let _: Value = context.ask_hub(Method::POST, &path, None)?;
    context.printer.print(&json!({ "name": name, "disabled": disabled }), |_| format!("{name} {verb}d\n"))
}
