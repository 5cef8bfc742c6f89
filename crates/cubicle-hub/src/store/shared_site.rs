//! What the site tells everybody and what people used, in the site's registry.
//!
//! Usage is one record per account and month, so that a year of a thousand people is twelve
//! thousand records and not four hundred thousand.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use cubicle_core::registry::{Kind, Record};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::shared::{ATTEMPTS, Shared, read, written};
use crate::accounting::Used;
use crate::notice::Notice;

/// The one record of the notice.
const SITE: &str = "site";
/// The record that says when the last sample was.
const SAMPLED: &str = "sampled";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<UserId>,
    /// `YYYY-MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month: Option<String>,
    /// By the day of the month, two digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    days: BTreeMap<String, Used>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampled_at: Option<Timestamp>,
}

impl Shared {
    pub(crate) async fn notice(&self) -> Result<Option<Notice>, Problem> {
        self.registry.list(Kind::Notice).await?.iter().find(|record| record.name == SITE).map(read).transpose()
    }

    pub(crate) async fn set_notice(&self, notice: Option<Notice>) -> Result<(), Problem> {
        for _ in 0..ATTEMPTS {
            let there = self.registry.get_now(Kind::Notice, SITE).await?;
            let done = match (&notice, there) {
                (None, None) => true,
                (None, Some(_)) => self.registry.take(Kind::Notice, SITE).await?.is_some(),
                (Some(notice), None) => self.registry.create(Kind::Notice, SITE, written(notice)?).await?,
                (Some(notice), Some(there)) => {
                    self.registry.replace(Kind::Notice, Record { value: written(notice)?, ..there }).await?
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(Problem::conflict("the notice is being changed by somebody else", "try again"))
    }

    pub(crate) async fn claim_usage(&self, now: Timestamp, least: Duration) -> Result<Option<Timestamp>, Problem> {
        let value = written(&UsageRecord { sampled_at: Some(now), ..UsageRecord::default() })?;
        let Some(there) = self.registry.get_now(Kind::Usage, SAMPLED).await? else {
            self.registry.create(Kind::Usage, SAMPLED, value).await?;
            return Ok(None);
        };
        let last = read::<UsageRecord>(&there)?.sampled_at;
        if last.is_some_and(|last| now >= last && now.duration_since(last).unsigned_abs() < least) {
            return Ok(None);
        }
        let mine = self.registry.replace(Kind::Usage, Record { value, ..there }).await?;
        Ok(last.filter(|_| mine))
    }

    pub(crate) async fn add_usage(&self, day: Date, used: Vec<(UserId, Used)>) -> Result<(), Problem> {
        let (month, day) = (day.strftime("%Y-%m").to_string(), day.strftime("%d").to_string());
        for (account, one) in used {
            self.add_to(&account, &month, &day, &one).await?;
        }
        Ok(())
    }

    async fn add_to(&self, account: &UserId, month: &str, day: &str, used: &Used) -> Result<(), Problem> {
        let name = format!("{account}-{month}");
        for _ in 0..ATTEMPTS {
            let there = self.registry.get_now(Kind::Usage, &name).await?;
            let mut record: UsageRecord = there.as_ref().map(read).transpose()?.unwrap_or_default();
            record.account = Some(account.clone());
            record.month = Some(month.to_owned());
            record.days.entry(day.to_owned()).or_default().add(used);
            let value = written(&record)?;
            let done = match there {
                None => self.registry.create(Kind::Usage, &name, value).await?,
                Some(there) => self.registry.replace(Kind::Usage, Record { value, ..there }).await?,
            };
            if done {
                return Ok(());
            }
        }
        Err(Problem::conflict(format!("the record {name} is being changed by somebody else"), "this sample is lost"))
    }

    pub(crate) async fn usage(&self, from: Date, to: Date) -> Result<Vec<(UserId, Used)>, Problem> {
        let mut all: HashMap<UserId, Used> = HashMap::new();
        for record in self.registry.list(Kind::Usage).await? {
            let UsageRecord { account: Some(account), month: Some(month), days, .. } = read(&record)? else { continue };
            for (day, used) in days {
                let Ok(date) = format!("{month}-{day}").parse::<Date>() else { continue };
                if (from..=to).contains(&date) {
                    all.entry(account.clone()).or_default().add(&used);
                }
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Ok(all)
    }
}
