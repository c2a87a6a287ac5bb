//! The tables that are a campaign's own. Whoever writes or reads them names them, and so neither locks nor plans for those of any
//! other campaign; only what is looked up by a nonce goes through all of them.

use ajar_model::CampaignId;
use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Executor};

use super::Tx;
use crate::{Error, rows::PartitionRows};

/// What they are partitions of, and their keys.
const TABLES: [(&str, &str); 2] = [
    ("observations", "finding, vantage, round"),
    ("nonces", "nonce, finding"),
];

/// A campaign's part of a table. An id has letters and digits only.
pub(super) fn partition(table: &str, id: CampaignId) -> String {
    format!("{table}_{}", id.to_string().to_lowercase())
}

#[async_trait]
impl PartitionRows for Tx {
    async fn add_partitions(&mut self, id: CampaignId) -> Result<(), Error> {
        for (table, key) in TABLES {
            let own = partition(table, id);
            // Made by itself and attached, it waits for nobody who reads or writes the others.
            let make = format!(
                "CREATE TABLE {own} (LIKE {table}, PRIMARY KEY ({key})); \
                 ALTER TABLE {table} ATTACH PARTITION {own} FOR VALUES IN ('{id}')"
            );
            self.0.execute(AssertSqlSafe(make)).await?;
        }
        Ok(())
    }

    async fn drop_partitions(&mut self, id: CampaignId) -> Result<(), Error> {
        // However many rows there are: nobody waits for them.
        self.0.execute("SET LOCAL statement_timeout = 0").await?;
        let mails = format!(
            "DELETE FROM sightings WHERE nonce IN (SELECT nonce FROM {})",
            partition("nonces", id)
        );
        self.0.execute(AssertSqlSafe(mails)).await?;
        for (table, _) in TABLES {
            let drop = format!("DROP TABLE {}", partition(table, id));
            self.0.execute(AssertSqlSafe(drop)).await?;
        }
        Ok(())
    }
}
