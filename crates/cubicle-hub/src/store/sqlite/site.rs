//! What the site tells everybody.

use cubicle_core::problem::Problem;
use rusqlite::OptionalExtension as _;

use super::{File, timestamp};
use crate::notice::Notice;

impl File {
    /// The notice, when there is one.
    pub(crate) async fn notice(&self) -> Result<Option<Notice>, Problem> {
        self.read(|connection| {
            Ok(connection
                .query_row("SELECT text, maintenance, at FROM notice", [], |row| {
                    Ok(Notice { text: row.get(0)?, maintenance: row.get(1)?, at: timestamp(row.get(2)?)? })
                })
                .optional()?)
        })
        .await
    }

    /// Replaces the notice.
    pub(crate) async fn set_notice(&self, notice: Option<Notice>) -> Result<(), Problem> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM notice", [])?;
            if let Some(Notice { text, maintenance, at }) = notice {
                transaction.execute(
                    "INSERT INTO notice (one, text, maintenance, at) VALUES (1, ?1, ?2, ?3)",
                    (text, maintenance, at.as_millisecond()),
                )?;
            }
            Ok(())
        })
        .await
    }
}
