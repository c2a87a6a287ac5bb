//! A proxy near the worker, of which nobody there knows.

use ajar_tests::{Ajar, captured};

/// All web traffic of this machine goes through a proxy that goes where requests say. It adds
/// nothing to them, and its address is the same.
const TRANSPARENT_PROXY: &str = r#"
    ip link set silent arp on
    $FAR ip address add 10.98.0.1/16 dev wire
    printf '%s\n' 'user www-data; daemon off; pid nginx.pid; error_log nginx.log; events {}' \
        'http { access_log off; server { listen 127.0.0.1:8888; location / { proxy_pass http://$http_host$uri; } } }' >nginx.conf
    nginx -p $PWD -c nginx.conf &
    await curl --silent --output /dev/null http://127.0.0.1:8888/
    nft add table ip detour
    nft add chain ip detour output '{ type nat hook output priority -100; }'
    nft add rule ip detour output meta skuid != www-data tcp dport 80 redirect to :8888
"#;

#[test]
fn nothing_is_audited_behind_a_transparent_proxy() {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    let options =
        "10.98.0.1 --canary 10.98.255.254 --canary-domain canary.test,canary.example --ports 80";
    ajar.authorize("a.toml", options).unwrap();
    let script = format!(
        "{TRANSPARENT_PROXY}
        # Nothing listens there, and everybody gets an answer.
        curl --silent --output /dev/null http://10.98.0.1/ || exit 2
        $AJAR scan --authorization a.toml --allowed-signers signers --settle 1s --confirm-after 1s --format jsonl >found 2>said &
        await grep -q -e 'in place of the canary at 10.98.255.254:80' -e 'finished' said
        kill -INT $!
        wait $!
        cat said found"
    );
    let seen = captured(&ajar, &script).unwrap();
    assert!(
        seen.stdout
            .contains("something else answers in place of the canary"),
        "{seen:?}"
    );
    assert!(!seen.stdout.contains("verdict"), "{seen:?}");
}
