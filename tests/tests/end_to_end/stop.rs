//! A stop takes effect at once: read from a capture on the targets' side.

use ajar_tests::{Ajar, Captured, captured, cluster};

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
fn stop_all_holds_everything_within_two_seconds() {
    let seen = stopped("$AJAR campaign stop-all; now stopped; sleep 5");
    assert_eq!(seen.after(seen.time("stopped") + 2.0), 0);
}

#[test]
fn a_worker_that_is_cut_off_stops_by_its_own_clock() {
    let seen = stopped(
        "kill -STOP $coordinator; now cut; sleep 18; now back; kill -CONT $coordinator; sleep 12",
    );
    // Lease time 15 seconds, less the two by which the worker is early, plus the age of the last renewal's answer.
    let fenced = seen.time("cut") + 15.0;
    assert_eq!(seen.after(fenced) - seen.after(seen.time("back")), 0);
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
    let seen = stopped("echo '# nobody' >signers; now removed; sleep 6; $AJAR campaign show $id");
    // The file is read every second, and believed when it was read twice alike.
    assert_eq!(seen.after(seen.time("removed") + 4.0), 0);
    assert!(seen.stdout.contains("incomplete"), "{}", seen.stdout);
    assert!(seen.stdout.contains("to signers"), "{}", seen.stdout);
}
