//! TLS endpoints that forward by name: sniproxy, nginx and HAProxy, each open and closed, with a name server of their own.

use std::collections::BTreeMap;

use ajar_model::{Finding, Verdict};
use ajar_tests::{Ajar, captured};

/// Starts them, and audits them with a canary on port 443 of 127.0.0.1, which the name server knows as canary.test.
const SCRIPT: &str = r#"
dnsmasq --keep-in-foreground --no-resolv --no-hosts --listen-address=127.0.0.53 --bind-interfaces \
    --host-record=canary.test,127.0.0.1 --local=/canary.test/ --pid-file= --user=root 2>dnsmasq.log &

sniproxy_on() {
    cat >"sniproxy-$1.conf" <<END
user root
resolver {
    nameserver 127.0.0.53
    mode ipv4_only
}
listen $1:443 {
    proto tls
    table names
}
table names {
    $2
}
END
    sniproxy -f -c "sniproxy-$1.conf" >"sniproxy-$1.log" 2>&1 &
}
sniproxy_on 127.0.13.1 '.* *:443'
sniproxy_on 127.0.13.2 'www[.]example[.]com 127.0.0.1:443'

cat >nginx.conf <<END
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; pid $PWD/nginx.pid; error_log $PWD/nginx.log; user root;
events {}
stream {
    resolver 127.0.0.53 ipv6=off;
    map \$ssl_preread_server_name \$known { www.example.com 127.0.0.1:443; }
    server { listen 127.0.13.3:443; ssl_preread on; proxy_pass \$ssl_preread_server_name:443; }
    server { listen 127.0.13.4:443; ssl_preread on; proxy_pass \$known; }
}
END
nginx -c $PWD/nginx.conf 2>nginx-start.log &

cat >haproxy.cfg <<'END'
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
resolvers ours
    nameserver ours 127.0.0.53:53
frontend open
    bind 127.0.13.5:443
    tcp-request inspect-delay 5s
    tcp-request content reject if { req.ssl_hello_type 1 } !{ req.ssl_sni -m found }
    tcp-request content do-resolve(txn.to,ours,ipv4) req.ssl_sni
    tcp-request content set-dst var(txn.to)
    tcp-request content set-dst-port int(443)
    tcp-request content accept if { req.ssl_hello_type 1 }
    # Without a name it would connect to itself, over and over.
    tcp-request content reject
    default_backend anywhere
backend anywhere
    server anywhere 0.0.0.0:0
frontend closed
    bind 127.0.13.6:443
    tcp-request inspect-delay 5s
    tcp-request content reject unless { req.ssl_sni -i www.example.com }
    default_backend anywhere
END
haproxy -f haproxy.cfg 2>haproxy.log &

# A server that answers for itself, with a certificate that names the canary.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.crt \
    -subj /CN=canary.test -addext subjectAltName=DNS:canary.test -days 2 2>openssl.log
openssl s_server -accept 127.0.13.7:443 -cert own.crt -key own.key -www -quiet >s_server.log 2>&1 &

for host in 1 2 3 4 5 6 7; do await ncat -z 127.0.13.$host 443; done
$AJAR scan 127.0.13.0/29 -p 443 --canary-ports 25,80,443,7401 --canary-domain canary.test \
    --settle 1s --format jsonl -o results
echo status $? >&2
cat results
for id in $(grep -v '"open"' results | sed 's/.*"id":"\([0-9a-f]*\)".*/\1/'); do $AJAR findings show $id >&2; done
"#;

#[test]
fn real_sni_proxies_are_proven_and_closed_ones_are_not() {
    let ajar = Ajar::new().unwrap();
    let seen = captured(&ajar, SCRIPT).unwrap();
    assert!(seen.stderr.contains("status 0"), "{}", seen.stderr);
    let findings: Vec<Finding> = seen
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found: BTreeMap<String, (Verdict, String)> = findings
        .iter()
        .map(|f| (f.ip.to_string(), (f.verdict, f.probe.to_string())))
        .collect();
    let is_open = |host: u8| found[&format!("127.0.13.{host}")].0 == Verdict::Open;
    let open: Vec<u8> = (1..=7).filter(|host| is_open(*host)).collect();
    assert_eq!(open, [1, 3, 5], "{}\n{}", seen.stdout, seen.stderr);
    let proven = findings.iter().filter(|f| f.verdict == Verdict::Open);
    for finding in proven {
        assert_eq!(finding.probe.as_str(), "sni-proxy");
        assert_eq!(finding.variants, ["sni:443"]);
        assert_eq!(finding.exposure.as_ref().unwrap().as_str(), "open_proxy");
    }
}

#[test]
fn without_a_canary_on_443_a_run_says_that_names_are_not_tried() {
    let ajar = Ajar::new().unwrap();
    let scan = "scan 127.0.14.1 -p 443 --canary-ports 0,0,0,0 --settle 1s";
    let scan = ajar.run(scan).unwrap();
    let said = "sni-proxy is not tried: it needs a canary on port 443";
    assert!(scan.stderr.contains(said), "{}", scan.stderr);
    let listed = ajar.run("probes").unwrap().stdout;
    assert!(listed.lines().all(|line| line.len() <= 100), "{listed}");
    let last_column = listed.find("WHAT IT TRIES").unwrap();
    let row = listed
        .lines()
        .skip_while(|line| !line.starts_with(" sni-proxy"));
    let row = row.take_while(|line| !line.is_empty());
    let words: Vec<&str> = row.map(|line| line[last_column..].trim()).collect();
    let said = words.join(" ");
    assert!(said.contains("needs a canary on port 443"), "{said}");
}
