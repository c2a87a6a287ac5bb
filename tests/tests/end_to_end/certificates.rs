//! Certificates over time: they are checked at the start, renewed while services run, and their
//! faults are named. openssl makes what `ajar pki` does not, and is the oracle.

use std::{fs, thread, time::Duration};

use ajar_tests::{Ajar, Signal, Site, free_port, signal};

use crate::roles::Certified;

/// A shell function `dated NAME FROM TO` that signs the certificate request `NAME.csr` for a time.
const DATED: &str = r#"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n' >ca.cnf
    touch index
    dated() {
        openssl req -newkey ed25519 -nodes -keyout $1-key.pem -subj /CN=$1 -out $1.csr
        printf "basicConstraints=CA:FALSE\nsubjectAltName=URI:spiffe://a/ajar/viewer/$1,IP:127.0.0.1\n" >$1.ext
        openssl ca -batch -config ca.cnf -create_serial -md sha256 -cert pki/ca.pem -keyfile pki/ca-key.pem \
            -in $1.csr -extfile $1.ext -startdate $2 -enddate $3 -notext -out $1.pem
    }
"#;

#[test]
fn a_renewed_certificate_is_served_and_shown_without_a_restart() {
    let mut cluster = Certified::start(Site::new());
    cluster.start_canary();
    let worker = format!("worker {}", cluster.by("pki/worker-ann"));
    cluster.spawn(&worker, "worker");
    let ready = "the worker is ready";
    cluster.ajar().await_line("worker", ready).unwrap();
    let listen = cluster.listen.clone();
    let serial = || {
        let asked = format!(
            "openssl s_client -connect {listen} -CAfile pki/ca.pem </dev/null 2>/dev/null | openssl x509 -noout -serial"
        );
        cluster.ajar().shell(&asked).unwrap()
    };
    let before = serial();
    // The same authority issues new certificates.
    cluster
        .ajar()
        .shell("mv pki old; mkdir pki; cp old/ca*.pem pki")
        .unwrap();
    cluster.done("pki issue coordinator hub --host 127.0.0.1");
    for role in ["worker", "operator"] {
        cluster.done(&format!("pki issue {role} ann"));
    }
    let again = "the certificates were read again";
    for log in ["coordinator", "worker"] {
        cluster.ajar().await_line(log, again).unwrap();
    }
    assert_ne!(serial(), before);
    let listed = cluster.run("pki/operator-ann", "campaign list");
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    // Files that cannot be used change nothing.
    cluster
        .ajar()
        .shell("echo nonsense >pki/coordinator-hub.pem")
        .unwrap();
    let kept = "the certificates stay as they were";
    cluster.ajar().await_line("coordinator", kept).unwrap();
    let listed = cluster.run("pki/operator-ann", "campaign list");
    assert_eq!(listed.status, 0, "{}", listed.stderr);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_by_who_has_it() {
    let cluster = Certified::start(Site::new());
    let in_a_day = "$(date -u -d tomorrow +%Y%m%d%H%M%SZ)";
    let made = format!(
        "{DATED}
         dated old 20200101000000Z 20200102000000Z
         dated ending 20200101000000Z {in_a_day}
         openssl req -x509 -newkey ed25519 -nodes -keyout strange-key.pem -out strange.pem -subj /CN=strange -days 2
         openssl x509 -req -in old.csr -CA strange.pem -CAkey strange-key.pem -CAcreateserial -days 2 -extfile old.ext -out stranger.pem
         cp old-key.pem stranger-key.pem"
    );
    cluster.ajar().shell(&made).unwrap();
    let listen = &cluster.listen;
    let url = format!("--coordinator https://{listen}");
    let serve = |files: &str| {
        let port = free_port().unwrap();
        format!("coordinator --listen 127.0.0.1:{port} --tls-ca pki/ca.pem {files}")
    };
    let list = |files: &str| format!("campaign list {url} {files}");
    let ca = "--tls-ca pki/ca.pem";
    let pair = |name: &str| format!("--tls-cert {name}.pem --tls-key {name}-key.pem");
    for (line, status, words) in [
        (
            list(ca),
            1,
            "it wants a certificate: give --tls-cert and --tls-key",
        ),
        (list(&pair("pki/viewer-ann")), 2, "needs --tls-ca"),
        (
            list(&format!("{ca} {}", pair("stranger"))),
            1,
            "it refuses our certificate, which is of an authority that it does not know",
        ),
        (
            list(&format!("--tls-ca strange.pem {}", pair("pki/viewer-ann"))),
            1,
            "its certificate is of another authority than --tls-ca names",
        ),
        (
            list(&format!("{ca} {}", pair("pki/coordinator-hub"))),
            2,
            "it is a server's, and this command needs a client's",
        ),
        (
            list(&format!("{ca} {}", pair("old"))),
            2,
            "old.pem cannot be used: it expired at 2020-01-02T00:00:00Z",
        ),
        (
            list(&format!(
                "{ca} --tls-cert pki/viewer-ann.pem --tls-key pki/operator-ann-key.pem"
            )),
            2,
            "it is not the key of pki/viewer-ann.pem",
        ),
        (serve(&pair("old")), 2, "it expired at 2020-01-02T00:00:00Z"),
        (
            serve(&pair("pki/worker-ann")),
            2,
            "it is a client's, and a coordinator needs a server's",
        ),
    ] {
        let finished = cluster.ajar().run(&line).unwrap();
        assert_eq!(finished.status, status, "{line}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(words),
            "{line}: {}",
            finished.stderr
        );
    }
    // The last fifth of its life is a warning.
    let near = cluster.run("ending", "campaign list");
    assert_eq!(near.status, 0, "{}", near.stderr);
    assert!(
        near.stderr.contains("our certificate ends soon"),
        "{near:?}"
    );
    let far = cluster.run("pki/viewer-ann", "campaign list");
    assert_eq!(far.stderr, "");
}

#[test]
fn a_client_finds_the_coordinator_that_answers() {
    let cluster = Certified::start(Site::new());
    let nobody = free_port().unwrap();
    let urls = format!("https://127.0.0.1:{nobody},https://{}", cluster.listen);
    let files =
        "--tls-cert pki/viewer-ann.pem --tls-key pki/viewer-ann-key.pem --tls-ca pki/ca.pem";
    let list = |urls: &str| {
        let line = format!("campaign list --coordinator {urls} {files}");
        cluster.ajar().run(&line).unwrap()
    };
    let listed = list(&urls);
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    let none = list(&format!(
        "https://127.0.0.1:{nobody},https://localhost:{nobody}"
    ));
    assert_eq!(none.status, 1);
    for url in ["https://127.0.0.1:", "https://localhost:"] {
        let said = format!("{url}{nobody}/: Connection refused");
        assert!(none.stderr.contains(&said), "{}", none.stderr);
    }
}

#[test]
fn a_service_outlives_a_hangup_and_a_scan_ends_with_its_resume_line() {
    let ajar = Ajar::new().unwrap();
    let port = free_port().unwrap();
    let line = format!("coordinator --listen 127.0.0.1:{port}");
    let mut coordinator = ajar.spawn(&line, "coordinator").unwrap();
    let ready = "the coordinator is ready";
    ajar.await_line("coordinator", ready).unwrap();
    signal(&coordinator, Signal::HUP).unwrap();
    let again = "read again every second";
    ajar.await_line("coordinator", again).unwrap();
    assert_eq!(coordinator.try_wait().unwrap(), None);
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();

    let site = Site::new();
    let scan = site.scan_line("127.0.91.0/24 -p 9 --rate 20 --prefix-rate 20");
    let mut child = site.ajar.spawn(&scan, "scan").unwrap();
    let id = site.ajar.await_campaign("scan").unwrap();
    thread::sleep(Duration::from_secs(1));
    signal(&child, Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = fs::read_to_string(site.ajar.path().join("scan")).unwrap();
    assert!(said.contains(&format!("ajar scan --resume {id}")), "{said}");

    // `nohup` says that a hangup is no reason to end.
    let scan = site.scan_line("127.0.91.0/28 -p 9 --rate 8 --prefix-rate 8 --store nohup.db");
    let words: Vec<String> = scan.split_whitespace().map(str::to_owned).collect();
    let mut command = std::process::Command::new("nohup");
    let plain = site.ajar.command("");
    command.arg(plain.get_program()).args(words);
    command.current_dir(site.ajar.path());
    let log = fs::File::create(site.ajar.path().join("nohup")).unwrap();
    command.stdout(std::process::Stdio::null()).stderr(log);
    let mut child = command.spawn().unwrap();
    site.ajar.await_campaign("nohup").unwrap();
    signal(&child, Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
