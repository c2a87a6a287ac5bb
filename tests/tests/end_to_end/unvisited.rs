//! What was not visited is not called visited: an authorization that ends, a worker that refuses, a machine that fails.

use std::collections::HashSet;

use ajar_tests::{Ajar, Captured, captured, cluster};

/// The campaign's id, from the line that announces it.
fn announced(seen: &Captured) -> String {
    let (_, rest) = seen.stderr.split_once("campaign ").unwrap();
    rest.chars()
        .take_while(|c| c.is_ascii_alphanumeric())
        .collect()
}

/// Sums of the outcomes in a SQLite store, as SQLite's own program reads them.
const OUTCOMES: &str = "sqlite3 ajar.db 'SELECT sum(answered + refused + silent + unreachable), \
     sum(denied + failed) FROM shards'";

/// Makes an authorization end this many seconds from now.
fn ends_in(ajar: &Ajar, file: &str, seconds: i64) {
    let text = std::fs::read_to_string(ajar.path().join(file)).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("not_after"))
        .unwrap();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    ajar.sign_again(file, line, &format!("not_after = \"{end}\""))
        .unwrap();
}

#[test]
fn an_authorization_that_ends_ends_the_run_and_a_new_one_lets_it_go_on() {
    let ajar = Ajar::authorized("10.99.7.0/24").unwrap();
    ajar.authorize_connect("b.toml", "10.99.7.0/24").unwrap();
    ends_in(&ajar, "a.toml", 8);
    let scan = "$AJAR scan --allowed-signers signers --prefix-rate 16 --format jsonl";
    let first = captured(
        &ajar,
        &format!("{scan} --authorization a.toml; echo status $?; {OUTCOMES}"),
    );
    let first = first.unwrap();
    assert!(
        first.stdout.contains("status 1"),
        "{}{}",
        first.stdout,
        first.stderr
    );
    for said in [
        "is incomplete",
        "expired at",
        "of 256 targets were visited",
        "--resume",
    ] {
        assert!(first.stderr.contains(said), "{said}: {}", first.stderr);
    }
    let visited = first.syns.len();
    assert!((16..200).contains(&visited), "{visited}");
    let outcomes = first.stdout.lines().last().unwrap();
    let (done, not_done) = outcomes.split_once('|').unwrap();
    assert!(done.parse::<usize>().unwrap() <= visited, "{outcomes}");
    assert_eq!(not_done, "0", "what was not visited has no outcome");

    let id = announced(&first);
    let second = captured(
        &ajar,
        &format!(
            "{scan} --resume {id} || echo refused $?
             $AJAR scan --allowed-signers signers --format jsonl --resume {id} --authorization b.toml
             echo status $?; {OUTCOMES}"
        ),
    );
    let second = second.unwrap();
    assert!(
        second.stdout.contains("refused 2"),
        "{}{}",
        second.stdout,
        second.stderr
    );
    assert!(
        second.stdout.contains("status 0"),
        "{}{}",
        second.stdout,
        second.stderr
    );
    assert_eq!(second.stdout.lines().last(), Some("256|0"));
    let all = first.syns.iter().chain(&second.syns).map(|syn| syn.1);
    assert_eq!(all.collect::<HashSet<_>>().len(), 256);
}

#[test]
fn a_machine_without_a_way_out_says_so_and_loses_no_target() {
    let ajar = Ajar::authorized("10.99.3.0/28").unwrap();
    let seen = captured(
        &ajar,
        &format!(
            "ip route del local 10.99.0.0/16 dev lo
             ip route add prohibit 10.99.0.0/16
             $AJAR scan --authorization a.toml --allowed-signers signers --format jsonl & scan=$!
             sleep 6
             {OUTCOMES}
             ip route del prohibit 10.99.0.0/16
             ip route add local 10.99.0.0/16 dev lo
             wait $scan; echo status $?
             {OUTCOMES}"
        ),
    )
    .unwrap();
    let said: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!(said, ["0|0", "status 0", "16|0"], "{}", seen.stderr);
    assert!(
        seen.stderr.contains("cannot open connections"),
        "{}",
        seen.stderr
    );
    assert_eq!(seen.syns.len(), 16);
}

#[test]
fn a_worker_that_refuses_says_why_until_its_operator_mends_it() {
    let ajar = Ajar::authorized("10.99.4.0/28").unwrap();
    let script = r#"
        echo '# nobody' >workers-signers
        $AJAR worker --vantage elsewhere --allowed-signers workers-signers 2>worker.log &
        id=$(submit a.toml)
        await sh -c "$AJAR campaign show $id | grep trouble"
        $AJAR campaign show $id
        cp signers workers-signers
        $AJAR campaign watch $id
        "#;
    let started = cluster("--allowed-signers signers");
    let seen = captured(&ajar, &format!("{started}{script}")).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    for said in [
        "trouble",
        "at elsewhere",
        "not allowed to sign",
        "to workers-signers",
    ] {
        assert!(seen.stdout.contains(said), "{said}: {}", seen.stdout);
    }
    assert!(seen.stdout.contains(" finished "), "{}", seen.stdout);
    assert_eq!(seen.syns.len(), 16);
}

#[test]
fn the_canarys_own_doors_are_never_targets() {
    let ajar = Ajar::new().unwrap();
    let script = r#"
        $AJAR worker 2>worker.log &
        id=$($AJAR campaign submit 127.0.0.1 -p 9,2525,7401,8080,8443 --settle 1s)
        $AJAR campaign watch $id
        $AJAR findings export --coordinator http://127.0.0.1:7400
        "#;
    let seen = captured(&ajar, &format!("{}{script}", cluster(""))).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    assert!(
        seen.stdout.contains("1 refused") && seen.stdout.contains("4 denied"),
        "{}",
        seen.stdout
    );
    assert!(!seen.stdout.contains("open_"), "{}", seen.stdout);
}

#[test]
fn who_has_too_few_descriptors_visits_fewer_at_a_time_and_every_target() {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    let limits = "--ports 25 --rate 1000 --prefix-rate 500";
    ajar.authorize(
        "a.toml",
        &format!("10.99.9.0/24 --canary 127.0.0.1 {limits}"),
    )
    .unwrap();
    // A server that takes its time, with room for everybody.
    let script = r#"
        python3 -c '
import asyncio
async def serve(reader, writer):
    await asyncio.sleep(1)
    writer.write(b"554 5.7.1 not here\r\n")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 25, backlog=1024)
    await server.serve_forever()
asyncio.run(main())
' &
        await ncat -z 127.0.0.1 25
        (ulimit -n 100; exec $AJAR worker --capacity 400 --allowed-signers signers 2>worker.log) &
        id=$(submit a.toml --prefix-rate 500 --sweep connect --settle 1s)
        timeout 60 $AJAR campaign watch $id
        cat worker.log
        "#;
    let started = cluster("--allowed-signers signers");
    let seen = captured(&ajar, &format!("{started}{script}")).unwrap();
    let said = seen.stdout;
    assert!(said.contains("256 answered"), "{said}{}", seen.stderr);
    assert!(said.contains("no more sockets can be opened"), "{said}");
    assert!(!said.contains("cannot open connections"), "{said}");
}
