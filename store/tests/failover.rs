//! A PostgreSQL that fails over to a standby which lacks the last transactions: what the server before granted is safe from
//! the one that took over.

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use ajar_store::{Grant, GrantRequest, Renewed, Store, open};
use support::{postgres::as_ordinary_user, *};

/// `$1` is the directory of the binaries. Prints the directory of the sockets and then follows orders: `lag` keeps what is written
/// from then on from the standby, and `fail` kills the server and has the standby take its place. Answers each with a line.
const PAIR: &str = r#"
directory=$(mktemp -d /tmp/ajar-postgres-XXXXXX) || exit 1
exec 2>"$directory/log"
trap 'kill -KILL $first $second; wait; rm -rf "$directory"' EXIT
trap : INT TERM
serve() {
    "$bin/postgres" -D "$directory/$1" -k "$directory" -p "$2" -c listen_addresses= -c fsync=off >&2 &
}
ready() {
    until psql -h "$directory" -p "$1" -U postgres -Atc 'SELECT 1' >/dev/null; do sleep 0.1; done
}
bin=$1
"$bin/initdb" -D "$directory/first" -U postgres -A trust -E UTF8 --locale=C --no-sync >&2
serve first 5432
first=$!
ready 5432
"$bin/pg_basebackup" -D "$directory/second" -h "$directory" -p 5432 -U postgres -R -c fast -X stream >&2
serve second 5433
second=$!
ready 5433
echo "$directory"
while read -r order; do
    case $order in
    lag)
        now=$(psql -h "$directory" -p 5432 -U postgres -Atc 'SELECT pg_current_wal_lsn()')
        until [ "$(psql -h "$directory" -p 5433 -U postgres -Atc "SELECT pg_last_wal_replay_lsn() >= '$now'")" = t ]; do
            sleep 0.1
        done
        psql -h "$directory" -p 5433 -U postgres -c "ALTER SYSTEM SET primary_conninfo = ''" \
            -c 'SELECT pg_reload_conf()' >&2
        until [ -z "$(psql -h "$directory" -p 5432 -U postgres -Atc 'SELECT pid FROM pg_stat_replication')" ]; do
            sleep 0.1
        done
        ;;
    fail)
        kill -QUIT $first $second
        wait $first $second
        rm -f "$directory"/second/postmaster.pid "$directory"/.s.PGSQL.*
        serve second 5432
        second=$!
        ready 5432
        psql -h "$directory" -U postgres -Atc 'SELECT pg_promote()' >&2
        ;;
    esac
    echo done
done
"#;

struct Pair {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl Pair {
    fn start() -> Self {
        let mut shell = as_ordinary_user()
            .args(["sh", "-c", PAIR, "sh"])
            .arg(support::postgres::binaries())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut directory = String::new();
        answers.read_line(&mut directory).unwrap();
        let directory = directory.trim();
        Self {
            url: format!("postgres:///postgres?host={directory}&port=5432&user=postgres"),
            shell,
            orders,
            answers,
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "the servers failed to {order}");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.shell.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_server_granted_is_not_granted_again_before_it_is_over() {
    let mut pair = Pair::start();
    let store = open(&pair.url, &options()).await.unwrap();
    let store = &*store;
    let kept = submit(store, 1, 3).await;
    let kept_token = token(store, kept, at(0)).await;
    pair.order("lag");
    let lost = shard(1, 1);
    let lost_token = token(store, lost, at(10)).await;
    pair.order("fail");

    // The server that took over knows nothing of the second lease.
    let granted = after_failover(store, &request(lost, at(12))).await;
    assert_eq!(granted, Grant::FailedOver);
    // Nor of what the first one may have given up for it.
    let kept = renewed(store, &renewal(kept, kept_token, at(13))).await;
    assert_eq!(kept, Renewed::Fenced);
    let last = at(12) + TTL + MARGIN - Duration::from_millis(1);
    let granted = store.grant(&request(lost, last)).await.unwrap();
    assert_eq!(granted, Grant::FailedOver);

    let settled = at(12) + TTL + MARGIN;
    let granted = store.grant(&request(lost, settled)).await.unwrap();
    let Grant::Granted { token, .. } = granted else {
        panic!("{granted:?}");
    };
    assert!(
        token > lost_token + 1000,
        "token {token} after {lost_token}: a worker of the lost lease could hold it"
    );
    let log = audit_links(store).await;
    let failovers = log.iter().filter(|l| l.entry.action == "store.failover");
    assert_eq!(failovers.count(), 1);

    // What has settled stays so, for whoever opens it next.
    let again = open(&pair.url, &options()).await.unwrap();
    let kept = renewed(&*again, &renewal(lost, token, settled)).await;
    assert!(matches!(kept, Renewed::Kept { .. }), "{kept:?}");
}

/// Grants once the connections to the lost server are given up.
async fn after_failover(store: &dyn Store, request: &GrantRequest) -> Grant {
    for _ in 0..100 {
        match store.grant(request).await {
            Ok(grant) => return grant,
            Err(error) if error.is_transient() => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the store never came back");
}
