//! A PostgreSQL server of the test process's own, from Debian's binaries.
//!
//! A shell watches over it: it ends the server and removes its files once its standard input closes, which the kernel
//! does whenever and however this process ends.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// `$1` is the directory of the binaries. Prints the socket's directory. Nothing needs to outlive the tests: no fsync.
const WATCH: &str = r#"
directory=$(mktemp -d /tmp/ajar-postgres-XXXXXX) || exit 1
exec 2>"$directory/log"
trap 'rm -rf "$directory"' EXIT
trap : INT TERM
"$1/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >&2 || {
    cat "$directory/log"; exit 1
}
"$1/postgres" -D "$directory/data" -k "$directory" -p 5432 -c listen_addresses= -c fsync=off \
    -c max_connections=200 -c shared_buffers=32MB >&2 &
server=$!
echo "$directory"
read -r _
kill -INT "$server"
wait "$server"
"#;

const PATIENCE: Duration = Duration::from_secs(60);

/// The URL of an empty database.
pub async fn fresh_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = connect(&server.url("postgres")).await;
    admin
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .unwrap();
    server.url(&name)
}

/// Connects to a database of the server, once it is up.
pub async fn connect(url: &str) -> PgConnection {
    let start = Instant::now();
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{url}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Server {
    directory: String,
    /// Holds the shell's standard input open.
    _shell: Child,
}

impl Server {
    fn url(&self, database: &str) -> String {
        let directory = &self.directory;
        format!("postgres:///{database}?host={directory}&port=5432&user=postgres")
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let binaries = binaries();
        let mut shell = as_ordinary_user()
            .args(["sh", "-c", WATCH, "sh"])
            .arg(&binaries)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot start the shell that watches PostgreSQL");
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let directory = lines.next().unwrap().unwrap();
        assert!(
            directory.starts_with("/tmp/ajar-postgres-"),
            "initdb failed: {directory}"
        );
        Server {
            directory,
            _shell: shell,
        }
    })
}

pub fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .max()
        .expect("no PostgreSQL server in /usr/lib/postgresql: `make test` installs it")
}

/// PostgreSQL refuses to run as root; Debian's package brings the user.
pub fn as_ordinary_user() -> Command {
    let id = Command::new("id").arg("-u").output().expect("no `id`");
    let mut command = Command::new("env");
    if id.stdout == b"0\n" {
        command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]);
    }
    command
}
