//! `cubicle token`

use clap::{Subcommand, ValueEnum};
use cubicle_core::name::UserName;
use cubicle_core::problem::Problem;
use hyper::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Outcome;
use crate::hub::segment;
use crate::output::table::Table;

/// API tokens of accounts, for administrators
///
/// People make their own on the page of their account. Programs have a service account
/// (`cubicle user add NAME --service`), whose tokens are made here.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  cubicle user add nightly --service && cubicle token add nightly --name report --scope read"
)]
pub(crate) enum Command {
    /// List the tokens of an account, without their secrets
    #[command(after_help = "Example:\n  cubicle token list nightly")]
    List {
        /// The account's name
        user: String,
    },
    /// Make a token of a service account and print it, this once
    #[command(after_help = "Example:\n  cubicle token add nightly --name report --scope read --days 90")]
    Add {
        /// The service account's name
        user: String,
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// How many days it lives
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
        days: u16,
    },
    /// End a token at once
    #[command(after_help = "Example:\n  cubicle token delete nightly 0123456789abcdef")]
    Delete {
        /// The account's name
        user: String,
        /// The token's id, as `list` shows it
        id: String,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Only look
    Read,
    /// Look, launch, stop and delete
    Write,
}

// No Debug: it may hold the secret.
#[derive(Serialize, Deserialize)]
struct Token {
    id: String,
    name: String,
    scope: Scope,
    created_at: Timestamp,
    expires_at: Timestamp,
    used_at: Option<Timestamp>,
    /// Only in the answer that made it, which is printed once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        match self {
            Self::List { user } => {
                let tokens: Vec<Token> = context.ask_hub(Method::GET, &of(&user)?, None)?;
                context.printer.print(&tokens, |printer| {
                    let mut table = Table::new(["ID", "NAME", "MAY", "LAST USED", "ENDS"]);
                    for token in &tokens {
                        let may = match token.scope {
                            Scope::Read => "read",
                            Scope::Write => "write",
                        };
                        let used = token.used_at.map_or_else(|| "never".to_owned(), |at| minute(&at));
                        let ends = minute(&token.expires_at);
                        table.row([
                            token.id.as_str().into(),
                            token.name.as_str().into(),
                            may.into(),
                            used.into(),
                            ends.into(),
                        ]);
                    }
                    table.render(printer, "No tokens.")
                })?;
            }
            Self::Add { user, name, scope, days } => {
                let body = json!({ "name": name, "scope": scope, "days": days });
                let token: Token = context.ask_hub(Method::POST, &of(&user)?, Some(&body))?;
                context.printer.print(&token, |_| format!("{}\n", token.secret.as_deref().unwrap_or_default()))?;
            }
            Self::Delete { user, id } => {
                let path = format!("{}/{}", of(&user)?, segment(&id));
                let _: Value = context.ask_hub(Method::DELETE, &path, None)?;
                context.printer.print(&json!({ "id": id, "deleted": true }), |_| format!("{id} works no more\n"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn of(user: &str) -> Result<String, Problem> {
    let user: UserName = user.parse()?;
    Ok(format!("/api/v1/users/{}/tokens", segment(user.as_str())))
}

fn minute(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
