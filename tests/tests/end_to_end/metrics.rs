//! What Prometheus gets, asked for by curl.

use ajar_tests::{Ajar, captured, cluster};

#[test]
fn what_a_cluster_did_is_counted() {
    let ajar = Ajar::authorized("10.99.12.0/28").unwrap();
    let script = format!(
        r#"{}
        $AJAR worker --metrics 127.0.0.1:9465 --allowed-signers signers 2>worker.log &
        id=$(submit a.toml)
        timeout 60 $AJAR campaign watch $id
        $AJAR campaign submit 192.0.2.1 -p 25 --allowed-signers signers --authorization a.toml && echo submitted
        sleep 1
        curl -s http://127.0.0.1:9464/metrics
        curl -s http://127.0.0.1:9465/metrics
        $AJAR worker --metrics 127.0.0.1:9465; echo status $?
        "#,
        cluster("--allowed-signers signers --metrics 127.0.0.1:9464")
    );
    let seen = captured(&ajar, &script).unwrap();
    for line in [
        r#"ajar_grants_total{answer="granted"} 1"#,
        r#"ajar_campaigns_ended_total{state="finished"} 1"#,
        r#"ajar_queue_shards{state="taken"} 0"#,
        r#"ajar_targets_total{outcome="refused"} 16"#,
        r#"ajar_places{state="taken"} 0"#,
        "status 2",
    ] {
        let said = seen.stdout.lines().any(|said| said == line);
        assert!(said, "{line}: {}{}", seen.stdout, seen.stderr);
    }
}
