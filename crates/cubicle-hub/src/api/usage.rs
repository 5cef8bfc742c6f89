//! Who used how much, and what it costs.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::Asked;
use crate::accounting::{Used, day};
use crate::hub::{Caller, Hub};
use crate::problem::ApiProblem;

pub(super) fn routes(documented: Documented) -> Documented {
    const PERIOD: &[(&str, &str)] = &[
        ("from", "The first day, YYYY-MM-DD in UTC; the first of this month when left out."),
        ("to", "The last day; today when left out."),
    ];
    documented
        .route(
            HttpMethod::Get,
            "/usage",
            usage,
            Doc {
                id: "list_usage",
                summary: "What you used from one day to another; an administrator or auditor sees everybody's.",
                query: PERIOD,
                answer: (200, Answer::Json("UsageOfPeriod")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/usage.csv",
            csv,
            Doc {
                id: "list_usage_csv",
                summary: "The same as comma-separated values (RFC 4180).",
                query: PERIOD,
                answer: (200, Answer::Csv),
                ..Doc::NONE
            },
        )
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Period {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// What everybody who is shown used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UsageOfPeriod {
    pub(crate) from: Date,
    pub(crate) to: Date,
    /// None when the site names no prices.
    pub(crate) currency: Option<String>,
    pub(crate) users: Vec<Row>,
}

/// What one account used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) id: UserId,
    /// Empty for an account that is gone.
    pub(crate) name: String,
    pub(crate) workspace_hours: f64,
    pub(crate) cpu_hours: f64,
    pub(crate) used_cpu_hours: f64,
    pub(crate) memory_gib_hours: f64,
    pub(crate) storage_gib_hours: f64,
    pub(crate) cost: Option<f64>,
}

impl Row {
    fn new(hub: &Hub, id: UserId, name: String, used: &Used) -> Self {
        let short = |amount: f64| (amount * 10_000.0).round() / 10_000.0;
        Self {
            id,
            name,
            workspace_hours: short(used.hours()),
            cpu_hours: short(used.cpu_hours()),
            used_cpu_hours: short(used.used_cpu_hours()),
            memory_gib_hours: short(used.memory_hours()),
            storage_gib_hours: short(used.storage_hours()),
            cost: hub.prices.cost(used).map(short),
        }
    }
}

impl Period {
    fn days(&self) -> Result<(Date, Date), Problem> {
        let today = day(Timestamp::now());
        let read = |what: &str, text: &str, default: Date| match text {
            "" => Ok(default),
            text => text.parse::<Date>().map_err(|_| {
                let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
                Problem::bad_input(format!("{what} \"{shown}\" is not a day"), "write it as YYYY-MM-DD")
            }),
        };
        let (from, to) = (read("from", &self.from, today.first_of_month())?, read("to", &self.to, today)?);
        if from > to {
            return Err(Problem::bad_input(format!("{from} is later than {to}"), "give the earlier day as from"));
        }
        if from.checked_add(5.years()).is_ok_and(|longest| longest < to) {
            return Err(Problem::bad_input("the period is longer than five years", "ask for a shorter one"));
        }
        Ok((from, to))
    }
}

/// What the caller may see of a period, the most expensive first.
pub(crate) async fn used(hub: &Hub, caller: &Caller, period: &Period) -> Result<UsageOfPeriod, Problem> {
    let (from, to) = period.days()?;
    let names: HashMap<UserId, String> =
        hub.store.accounts().await?.into_iter().map(|account| (account.id, account.name.to_string())).collect();
    let mut all = hub.store.usage(from, to).await?;
    all.retain(|(id, _)| caller.sees_all() || matches!(caller, Caller::Account(own) if own.id == *id));
    all.sort_by_key(|(_, used)| std::cmp::Reverse((used.cpu, used.memory, used.storage)));
    let users = all
        .into_iter()
        .map(|(id, used)| {
            let name = names.get(&id).cloned().unwrap_or_default();
            Row::new(hub, id, name, &used)
        })
        .collect();
    let currency = Some(hub.prices.currency.clone()).filter(|currency| !currency.is_empty());
    Ok(UsageOfPeriod { from, to, currency, users })
}

async fn usage(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Asked(period): Asked<Period>,
) -> Result<Json<UsageOfPeriod>, ApiProblem> {
    Ok(Json(used(&hub, &caller, &period).await?))
}

async fn csv(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Asked(period): Asked<Period>,
) -> Result<Response, ApiProblem> {
    let used = used(&hub, &caller, &period).await?;
    let name = format!("attachment; filename=\"usage-{}-{}.csv\"", used.from, used.to);
    let headers = [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, table(&used)?).into_response())
}

fn table(used: &UsageOfPeriod) -> Result<Vec<u8>, Problem> {
    let failed = |error: csv::Error| Problem::engine(format!("the table cannot be written: {error}"), "");
    // RFC 4180 ends lines so.
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer
        .write_record([
            "from",
            "to",
            "user",
            "id",
            "workspace_hours",
            "cpu_hours",
            "used_cpu_hours",
            "memory_gib_hours",
            "storage_gib_hours",
            "cost",
            "currency",
        ])
        .map_err(failed)?;
    for row in &used.users {
        let amounts =
            [row.workspace_hours, row.cpu_hours, row.used_cpu_hours, row.memory_gib_hours, row.storage_gib_hours];
        let mut record = vec![used.from.to_string(), used.to.to_string(), no_formula(&row.name), row.id.to_string()];
        record.extend(amounts.map(|amount| amount.to_string()));
        record.push(row.cost.map(|cost| cost.to_string()).unwrap_or_default());
        record.push(no_formula(used.currency.as_deref().unwrap_or_default()));
        writer.write_record(record).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Problem::engine(format!("the table cannot be written: {error}"), ""))
}

/// What a spreadsheet would take for a formula is made text: names come from people and from providers.
fn no_formula(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_two_days_in_order() {
        let days = |from: &str, to: &str| Period { from: from.to_owned(), to: to.to_owned() }.days();
        let (from, to) = days("", "").expect("this month");
        assert!(from.day() == 1 && from <= to);
        assert!(days("2026-02-01", "2026-02-28").is_ok());
        for (from, to) in
            [("2026-02-30", ""), ("2026-03-01", "2026-02-01"), ("yesterday", ""), ("1990-01-01", "2026-01-01")]
        {
            assert!(!days(from, to).expect_err("refused").remedy.is_empty(), "{from} {to}");
        }
    }

    #[test]
    fn a_name_is_a_field_and_no_formula() {
        let row = |name: &str| Row {
            id: UserId::from_random([1; 12]),
            name: name.to_owned(),
            workspace_hours: 1.5,
            cpu_hours: 0.0,
            used_cpu_hours: 0.0,
            memory_gib_hours: 0.0,
            storage_gib_hours: 0.0,
            cost: None,
        };
        let (from, to) = ("2026-01-01".parse().expect("a day"), "2026-01-31".parse().expect("a day"));
        let users = ["alice", "=1+1", "a,\"b\""].map(row).to_vec();
        let written = table(&UsageOfPeriod { from, to, currency: None, users }).expect("a table");
        let written = String::from_utf8(written).expect("text");
        let lines: Vec<&str> = written.split("\r\n").collect();
        assert!(lines[0].starts_with("from,to,user,id,workspace_hours"), "{written}");
        assert!(lines[1].starts_with("2026-01-01,2026-01-31,alice,u-"), "{written}");
        assert!(lines[1].ends_with(",1.5,0,0,0,0,,"), "{written}");
        assert!(lines[2].contains(",'=1+1,"), "{written}");
        assert!(lines[3].contains(",\"a,\"\"b\"\"\","), "{written}");
        assert_eq!(lines.len(), 5, "{written}");
    }
}
