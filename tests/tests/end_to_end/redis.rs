//! A Redis that asks for TLS, and for a user who may do nothing but what a queue needs.

use ajar_tests::{Ajar, captured, cluster};

/// docs/queue.md names these rights.
const REDIS: &str = r#"
    $AJAR pki init
    $AJAR pki issue coordinator redis --host 127.0.0.1
    cat >redis.conf <<END
    user default off
    user ajar on >secret ~{ajar}:* +eval +evalsha +script|load +time +info +exists +set +del +pexpire +sadd +smembers +srem +zadd +zcard +zcount +zrange +zrangebyscore +zrem +zremrangebyscore +zscore
    port 0
    tls-port 6390
    bind 127.0.0.1
    save ""
    tls-cert-file pki/coordinator-redis.pem
    tls-key-file pki/coordinator-redis-key.pem
    tls-ca-cert-file pki/ca.pem
    tls-auth-clients no
END
    redis-server redis.conf >redis.log &
    await grep -q Ready redis.log
"#;

#[test]
fn a_user_with_few_rights_is_enough_and_the_authority_may_be_ones_own() {
    let ajar = Ajar::authorized("10.99.8.0/28").unwrap();
    let redis = "rediss://ajar:secret@127.0.0.1:6390";
    let script = format!(
        "{REDIS}
         export SSL_CERT_FILE=pki/ca.pem
         {}
         $AJAR worker --allowed-signers signers 2>worker.log &
         id=$(submit a.toml)
         timeout 60 $AJAR campaign watch $id
         cat coordinator.log",
        cluster(&format!("--allowed-signers signers --redis {redis}"))
    );
    let seen = captured(&ajar, &script).unwrap();
    assert!(seen.stdout.contains("16 refused"), "{seen:?}");
    assert!(!seen.stdout.contains("NOPERM"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("secret"), "{}", seen.stdout);
}

#[test]
fn an_authority_that_nobody_trusts_is_no_redis() {
    let ajar = Ajar::new().unwrap();
    let script = format!(
        "{REDIS}
         timeout 30 $AJAR coordinator --redis rediss://ajar:secret@127.0.0.1:6390 2>coordinator.log
         echo status $?
         cat coordinator.log"
    );
    let seen = captured(&ajar, &script).unwrap();
    assert!(seen.stdout.contains("status 2"), "{seen:?}");
    assert!(
        seen.stdout.contains("refuses us (invalid peer certificate"),
        "{seen:?}"
    );
    assert!(
        seen.stdout.to_lowercase().contains("certificate"),
        "{seen:?}"
    );
}
