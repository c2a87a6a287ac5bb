//! A stop takes effect at once: read from a capture on the targets' side.

use std::net::SocketAddrV4;

use ajar_tests::{Ajar, Captured, Postgres, captured, cluster};

/// A coordinator, a worker, and a campaign of 16 networks at 500/s; then a script that prints when it stopped it.
fn stopped(script: &str) -> Captured {
    let ajar = Ajar::authorized("10.99.0.0/16 --rate 500 --prefix-rate 20").unwrap();
    let script = format!(
        r#"
        {}
        $AJAR worker --allowed-signers signers 2>worker.log & worker=$!
        id=$(submit a.toml)
        sleep 4
        now() {{ echo "$1" $(date +%s.%N); }}
        {script}
        "#,
        cluster("--allowed-signers signers")
    );
    let seen = captured(&ajar, &script).unwrap();
    assert!(seen.syns.len() > 500, "{} {}", seen.syns.len(), seen.stderr);
    seen
}

#[test]
fn a_paused_campaign_sends_nothing_after_two_seconds() {
    let seen = stopped(
        "now begun; $AJAR campaign pause $id; now paused; sleep 5; $AJAR campaign show $id",
    );
    assert_eq!(seen.after(seen.time("paused") + 2.0), 0);
    assert!(seen.stdout.contains(" paused "), "{}", seen.stdout);
}

#[test]
fn stop_all_holds_everything_within_two_seconds_until_it_is_lifted() {
    let seen = stopped(
        "$AJAR campaign stop-all; now stopped; sleep 5; now later
         submit a.toml || echo refused $?
         $AJAR campaign list
         now again; $AJAR campaign start-again; sleep 5; now over",
    );
    let (stopped, again) = (seen.time("stopped"), seen.time("again"));
    assert_eq!(seen.after(stopped + 2.0) - seen.after(again), 0);
    assert!(seen.after(again) > 0, "it went on afterwards");
    assert!(seen.stdout.contains("refused "), "{}", seen.stdout);
    assert!(seen.stdout.contains(", stopped"), "{}", seen.stdout);
    assert!(
        seen.stderr.contains("everything was stopped by"),
        "{}",
        seen.stderr
    );
}

#[test]
fn what_a_resume_excludes_gets_nothing_from_any_coordinator() {
    let ajar = Ajar::authorized("10.99.0.0/20 --rate 500 --prefix-rate 20").unwrap();
    let narrower = "10.99.0.0/20 --exclude 10.99.8.0/21 --rate 500 --prefix-rate 20";
    ajar.authorize_connect("b.toml", narrower).unwrap();
    let postgres = Postgres::start().unwrap();
    let options = format!(
        "--allowed-signers signers --store '{}'",
        postgres.socket_url()
    );
    let script = format!(
        r#"
        {}
        other=http://127.0.0.1:7402
        $AJAR coordinator {options} --listen 127.0.0.1:7402 2>coordinator-2.log &
        await grep -q 'is ready' coordinator-2.log
        $AJAR worker --allowed-signers signers --coordinator $other 2>worker.log &
        id=$(submit a.toml)
        shows() {{ $AJAR campaign show $id | grep -q "$1"; }}
        await shows 'leased to 1 workers'
        sleep 3
        $AJAR campaign pause $id
        await shows ' 0 leased'
        echo resumed $(date +%s.%N)
        $AJAR campaign resume $id --allowed-signers signers --authorization b.toml
        await shows 'leased to 1 workers'
        sleep 3
        "#,
        cluster(&options)
    );
    let seen = captured(&ajar, &script).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    let resumed = seen.time("resumed");
    let excluded = |syn: &&(f64, SocketAddrV4)| (8..16).contains(&syn.1.ip().octets()[2]);
    let before = seen.syns.iter().filter(|syn| syn.0 < resumed);
    assert!(before.filter(excluded).count() > 0, "{}", seen.stderr);
    let after: Vec<_> = seen.syns.iter().filter(|syn| syn.0 > resumed).collect();
    assert!(after.len() > 50, "{} {}", after.len(), seen.stderr);
    let wrong = after.into_iter().filter(excluded).count();
    assert_eq!(wrong, 0, "connections to what the resume excludes");
}

#[test]
fn a_worker_that_is_cut_off_stops_by_its_own_clock() {
    let seen = stopped(
        "kill -STOP $coordinator; now cut; sleep 18; now back; kill -CONT $coordinator; sleep 12",
    );
    // What it knows of exclusions is five seconds old at most, plus the age of the last renewal's
    // answer.
    let stale = seen.time("cut") + 6.0;
    assert_eq!(seen.after(stale) - seen.after(seen.time("back")), 0);
    assert!(seen.after(seen.time("back")) > 0, "it went on afterwards");
}

#[test]
fn a_drained_worker_starts_nothing_after_a_second_and_gives_its_leases_back() {
    let seen = stopped(
        "kill -TERM $worker; now drained; sleep 3; $AJAR campaign show $id; wait $worker; echo status $?",
    );
    assert_eq!(seen.after(seen.time("drained") + 1.0), 0);
    assert!(seen.stdout.contains(" 0 leased"), "{}", seen.stdout);
    assert!(seen.stdout.contains("status 0"), "{}", seen.stdout);
}

#[test]
fn a_drain_is_seen_although_no_result_is_taken_any_more() {
    let seen = stopped(
        "kill -STOP $coordinator; sleep 3; kill -TERM $worker; now drained; sleep 3; kill -CONT $coordinator; wait $worker",
    );
    assert_eq!(seen.after(seen.time("drained") + 1.0), 0);
}

#[test]
fn a_signer_who_is_removed_stops_what_they_allowed() {
    let seen = stopped(
        "echo '# nobody' >signers; now removed
         await sh -c \"$AJAR campaign show $id | grep trouble\"
         $AJAR campaign show $id
         await sh -c \"$AJAR campaign show $id | grep incomplete\"
         $AJAR campaign show $id",
    );
    // The file is read every second, and believed when it was read twice alike.
    assert_eq!(seen.after(seen.time("removed") + 4.0), 0);
    let trouble = seen.stdout.contains("it grants no leases");
    assert!(trouble, "{}", seen.stdout);
    assert!(seen.stdout.contains("incomplete"), "{}", seen.stdout);
    assert!(seen.stdout.contains("to signers"), "{}", seen.stdout);
}
