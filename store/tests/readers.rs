//! Roles that read one tenant's rows in PostgreSQL, past the coordinator.

mod support;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use support::*;

/// One campaign with one finding for each tenant.
async fn two_tenants() -> Place {
    let place = postgres().await;
    let store = &*place.store;
    for (number, tenant) in [(1, "acme"), (2, "umbrella")] {
        let mut of_tenant = campaign(number);
        of_tenant.spec.tenant = tenant.to_owned();
        create(store, &of_tenant, &[0..1, 1..2]).await.unwrap();
        let shard = shard(number, 0);
        let token = token(store, shard, at(0)).await;
        let seen = observation(number, &format!("10.{number}.0.1:25"), ACCEPTED);
        store
            .ingest(&batch(shard, token, vec![seen]))
            .await
            .unwrap();
    }
    place
}

/// What a role reads, or the code of its refusal.
async fn read_by(role: &str, url: &str, statement: &str) -> Result<Vec<String>, String> {
    let url = url.replace("user=postgres", &format!("user={role}"));
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let rows = sqlx::query_scalar(AssertSqlSafe(statement.to_owned()));
    let rows = rows.fetch_all(&mut connection).await;
    rows.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        code.map_or_else(|| error.to_string(), |code| code.into_owned())
    })
}

#[tokio::test]
async fn a_reader_sees_one_tenants_rows_and_no_secret() {
    const FORBIDDEN: &str = "42501";
    let place = two_tenants().await;
    // Roles are of the whole server, which other tests use too.
    let roles = "CREATE ROLE reader_of_acme LOGIN; CREATE ROLE reader_of_nobody LOGIN; \
        SELECT ajar.let_read('reader_of_acme', 'acme'); \
        GRANT USAGE ON SCHEMA ajar TO reader_of_nobody; \
        GRANT SELECT ON ajar.campaigns, ajar.findings, ajar.observations TO reader_of_nobody";
    sql(&place.url, roles).await.unwrap();
    let acme = async |statement: &str| read_by("reader_of_acme", &place.url, statement).await;
    let id = campaign_id(1).to_string();
    let tables = [
        "SELECT id FROM ajar.campaigns",
        "SELECT campaign FROM ajar.findings",
        "SELECT campaign FROM ajar.observations",
    ];
    for statement in tables {
        assert_eq!(acme(statement).await, Ok(vec![id.clone()]), "{statement}");
        let nobody = read_by("reader_of_nobody", &place.url, statement).await;
        assert_eq!(nobody, Ok(Vec::new()), "{statement}");
    }
    for secret in [
        "SELECT id FROM ajar.campaigns WHERE nonce_key IS NOT NULL",
        "SELECT nonce FROM ajar.nonces",
        "SELECT nonce FROM ajar.sightings",
        "SELECT actor FROM ajar.audit",
        "SELECT role::text FROM ajar.readers",
        "SELECT ajar.let_read('reader_of_acme', 'umbrella')::text",
        "UPDATE ajar.findings SET verdict = 'closed' RETURNING campaign",
        "SELECT campaign FROM ajar.observations_first",
    ] {
        assert_eq!(acme(secret).await, Err(FORBIDDEN.to_owned()), "{secret}");
    }
}
