//! What people used, by day.

use std::time::Duration;

use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::OptionalExtension as _;

use super::{File, timestamp, unreadable};
use crate::accounting::Used;

impl File {
    /// The time of the last sample, when that is at least so long ago; this one is the last then.
    pub(crate) async fn claim_usage(&self, now: Timestamp, least: Duration) -> Result<Option<Timestamp>, Problem> {
        self.write(move |transaction| {
            let last: Option<i64> =
                transaction.query_row("SELECT at FROM usage_sample", [], |row| row.get(0)).optional()?;
            let last = last.map(timestamp).transpose()?;
            // A clock that was set back must not stop the counting.
            if last.is_some_and(|last| now >= last && now.duration_since(last).unsigned_abs() < least) {
                return Ok(None);
            }
            transaction
                .execute("INSERT OR REPLACE INTO usage_sample (one, at) VALUES (1, ?1)", [now.as_millisecond()])?;
            Ok(last)
        })
        .await
    }

    /// Adds to what accounts used on a day.
    pub(crate) async fn add_usage(&self, day: Date, used: Vec<(UserId, Used)>) -> Result<(), Problem> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO usage (day, account, seconds, cpu, used_cpu, memory, storage)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (day, account) DO UPDATE SET
                     seconds = seconds + excluded.seconds, cpu = cpu + excluded.cpu,
                     used_cpu = used_cpu + excluded.used_cpu, memory = memory + excluded.memory,
                     storage = storage + excluded.storage",
            )?;
            for (account, one) in used {
                let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
                statement.execute((
                    day.to_string(),
                    account.as_str(),
                    whole(one.seconds),
                    whole(one.cpu),
                    whole(one.used_cpu),
                    whole(one.memory),
                    whole(one.storage),
                ))?;
            }
            Ok(())
        })
        .await
    }

    /// What accounts used from one day to another, both counted.
    pub(crate) async fn usage(&self, from: Date, to: Date) -> Result<Vec<(UserId, Used)>, Problem> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT account, sum(seconds), sum(cpu), sum(used_cpu), sum(memory), sum(storage)
                 FROM usage WHERE day BETWEEN ?1 AND ?2 GROUP BY account ORDER BY account",
            )?;
            let rows = statement
                .query_map((from.to_string(), to.to_string()), |row| {
                    let account: String = row.get(0)?;
                    let account = account.parse().map_err(|problem: Problem| unreadable(&problem.what))?;
                    let whole = |column| row.get::<_, i64>(column).map(|amount| u64::try_from(amount).unwrap_or(0));
                    let used = Used {
                        seconds: whole(1)?,
                        cpu: whole(2)?,
                        used_cpu: whole(3)?,
                        memory: whole(4)?,
                        storage: whole(5)?,
                    };
                    Ok((account, used))
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}
