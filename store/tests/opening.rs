//! What `open` makes, and what it refuses to touch.

mod support;

use std::{path::Path, time::Duration};

use ajar_store::{AuditChain, AuditEntry, Error, Options, open};
use support::*;

async fn refusal(url: &str) -> Error {
    let options = Options {
        wait: Duration::from_millis(1200),
        ..Options::default()
    };
    match open(url, &options).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

fn file(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

#[tokio::test]
async fn what_is_no_store_is_told_so_without_its_password() {
    for url in [
        "mysql://root:s3cret@db/audit",
        "postgres://u:s3cret@[nonsense/audit",
        "",
        "sqlite:",
        "sqlite::memory:",
    ] {
        let error = refusal(url).await;
        assert!(matches!(error, Error::Url { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_then_named_without_its_password() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = format!("postgres://ajar:s3cret@127.0.0.1:{port}/audit");
    let error = refusal(&silent).await;
    assert!(error.is_transient());
    drop(listener);
    let error = refusal(&silent).await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("postgres://ajar@127.0.0.1:{port}/audit")));
    assert!(!text.contains("s3cret"));
}

#[tokio::test]
async fn a_missing_database_is_not_waited_for() {
    let url = postgres::fresh_database().await;
    drop(postgres::connect(&url).await);
    let error = refusal(&url.replace("/test_", "/none_")).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn the_place_of_a_file_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    for (name, part) in [
        ("missing/ajar.db", "missing does not exist: create it"),
        (".", "is a directory"),
    ] {
        let error = refusal(&file(&directory, name)).await;
        assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_made_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for name in ["sqlite:", "sqlite://", ""] {
        let path = file(&directory, &format!("a?b%20{}.db", name.len()));
        let store = open(&format!("{name}{path}"), &Options::default()).await;
        store.unwrap();
        let mode = Path::new(&path).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn strangers_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = file(&directory, "text");
    std::fs::write(
        &text,
        "no database, but longer than a header of one: ".repeat(40),
    )
    .unwrap();
    let tables = file(&directory, "tables");
    sql(&tables, "CREATE TABLE campaigns (x)").await.unwrap();
    let marked = file(&directory, "marked");
    sql(&marked, "PRAGMA application_id = 77").await.unwrap();
    for url in [text, tables, marked] {
        let before = std::fs::read(&url).unwrap();
        let error = refusal(&url).await;
        assert!(matches!(error, Error::NotOurs { .. }), "{url}: {error:?}");
        assert!(!error.is_transient());
        assert!(std::fs::read(&url).unwrap() == before, "{url} was changed");
    }
}

#[tokio::test]
async fn a_strangers_schema_is_left_alone_and_a_stranger_beside_it_is_welcome() {
    let url = postgres::fresh_database().await;
    sql(&url, "CREATE SCHEMA ajar; CREATE TABLE ajar.doors (x int)")
        .await
        .unwrap();
    let error = refusal(&url).await;
    assert!(matches!(error, Error::NotOurs { .. }), "{error:?}");
    let url = postgres::fresh_database().await;
    sql(&url, "CREATE SCHEMA ajar; CREATE TABLE campaigns (x int)")
        .await
        .unwrap();
    let store = open(&url, &Options::default()).await.unwrap();
    submit(&*store, 1, 0).await;
}

#[tokio::test]
async fn a_newer_store_is_used_only_if_it_says_that_it_may_be() {
    for place in [sqlite().await, postgres().await] {
        let table = place.table("migrations");
        let later = format!(
            "INSERT INTO {table} (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', true, '', 0)"
        );
        sql(&place.url, &later).await.unwrap();
        let store = open(&place.url, &Options::default()).await.unwrap();
        submit(&*store, 1, 1).await;
        let changed = format!("UPDATE {} SET oldest = 99", place.table("compatible"));
        sql(&place.url, &changed).await.unwrap();
        let error = refusal(&place.url).await;
        assert!(
            matches!(error, Error::Newer { found: 99, known, .. } if known < 99),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_programs_may_make_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    for url in [
        file(&directory, "ajar.db"),
        postgres::fresh_database().await,
    ] {
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let url = url.clone();
                tokio::spawn(async move {
                    let store = open(&url, &Options::default()).await.unwrap();
                    submit(&*store, number, 1).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let store = open(&url, &Options::default()).await.unwrap();
        assert_eq!(campaigns(&*store).await.len(), 8);
    }
}

#[tokio::test]
async fn the_audit_log_refuses_changes_and_shows_those_that_were_forced() {
    for (place, table, force) in [
        (sqlite().await, "audit", "DROP TRIGGER audit_no_update"),
        (
            postgres().await,
            "ajar.audit",
            "ALTER TABLE ajar.audit DISABLE TRIGGER ALL",
        ),
    ] {
        for detail in ["first", "second", "third"] {
            let entry = AuditEntry {
                at: at(1),
                actor: "alice".to_owned(),
                action: "campaign.cancel".to_owned(),
                authorization: None,
                campaign: None,
                detail: detail.to_owned(),
            };
            place.store.audit(&entry).await.unwrap();
        }
        let update = format!("UPDATE {table} SET actor = 'mallory' WHERE number = 2");
        for change in [update.clone(), format!("DELETE FROM {table}")] {
            let refused = sql(&place.url, &change).await.unwrap_err().to_string();
            assert!(refused.contains("append-only"), "{refused}");
        }
        assert_eq!(audit_log(&*place.store).await.len(), 3);
        sql(&place.url, force).await.unwrap();
        sql(&place.url, &update).await.unwrap();
        let mut chain = AuditChain::new();
        let links = audit_links(&*place.store).await;
        let broken = links.iter().try_for_each(|link| chain.check(link));
        assert!(matches!(broken, Err(Error::AuditBroken { entry: 2 })));
    }
}
