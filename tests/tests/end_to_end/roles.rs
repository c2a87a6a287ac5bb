//! A certificate says what its holder may do in a cluster. Certificates are made by `ajar pki`, and by openssl, which is the oracle too.

use std::{process::Child, sync::Arc};

use ajar_model::{
    Evidence, Observation, ProbeId, Sighting, Timestamp, Untrusted, proof::Signature64,
};
use ajar_proto::{dial, v1};
use ajar_tests::{Access, Ajar, Finished, Site, free_port};
use ed25519_dalek::SigningKey;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::watch;

/// A coordinator behind TLS, with the certificates of everybody, until it is dropped.
pub struct Certified {
    site: Site,
    /// Where its coordinator listens.
    pub listen: String,
    services: Vec<Child>,
}

impl Certified {
    pub fn start(site: Site) -> Self {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let mut cluster = Self {
            site,
            listen,
            services: Vec::new(),
        };
        cluster.done("pki init");
        cluster.done("pki issue coordinator hub --host 127.0.0.1");
        for role in ["operator", "viewer", "worker", "canary"] {
            cluster.done(&format!("pki issue {role} ann"));
        }
        let coordinator = format!(
            "coordinator --listen {} --tls-cert pki/coordinator-hub.pem --tls-key pki/coordinator-hub-key.pem \
             --tls-ca pki/ca.pem",
            cluster.listen
        );
        cluster.spawn(&coordinator, "coordinator");
        let ready = "the coordinator is ready";
        cluster.ajar().await_line("coordinator", ready).unwrap();
        cluster
    }

    pub fn ajar(&self) -> &Ajar {
        &self.site.ajar
    }

    pub fn spawn(&mut self, line: &str, log: &str) {
        let service = self.ajar().spawn(line, log).unwrap();
        self.services.push(service);
    }

    /// Runs a command that needs no cluster, and succeeds.
    pub fn done(&self, line: &str) -> Finished {
        let finished = self.ajar().run(line).unwrap();
        assert_eq!(finished.status, 0, "{line}: {}", finished.stderr);
        finished
    }

    /// How somebody reaches the cluster.
    pub fn by(&self, certificate: &str) -> String {
        format!(
            "--coordinator https://{} --tls-cert {certificate}.pem --tls-key {certificate}-key.pem --tls-ca pki/ca.pem",
            self.listen
        )
    }

    /// Runs a command as the holder of a certificate.
    pub fn run(&self, certificate: &str, line: &str) -> Finished {
        let line = format!("{line} {}", self.by(certificate));
        self.ajar().run(&line).unwrap()
    }

    /// Runs one that the coordinator must refuse, and says why it did.
    pub fn refused(&self, certificate: &str, line: &str) -> String {
        let finished = self.run(certificate, line);
        assert_ne!(finished.status, 0, "{line} by {certificate}");
        finished.stderr
    }

    /// The cluster as our own code reaches it, as the holder of a certificate.
    fn coordinator(&self, certificate: &str) -> dial::Coordinator {
        let pem = |file: &str| self.ajar().path().join(format!("pki/{file}.pem"));
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(pem("ca")).unwrap();
        roots.add(authority).unwrap();
        let chain = vec![CertificateDer::from_pem_file(pem(certificate)).unwrap()];
        let key = PrivateKeyDer::from_pem_file(pem(&format!("{certificate}-key"))).unwrap();
        let tls = dial::client_config(roots, Some((chain, key))).unwrap();
        let tls = watch::channel(Arc::new(tls)).1;
        let url = format!("https://{}", self.listen);
        dial::Coordinator::remote(&url, Some(tls), false).unwrap()
    }

    pub fn start_canary(&mut self) {
        let line = self.canary("pki/canary-ann");
        self.spawn(&line, "canary");
        let ready = "a canary is ready";
        self.ajar().await_line("coordinator", ready).unwrap();
    }

    fn canary(&self, certificate: &str) -> String {
        format!(
            "canary --domain canary.test --canary-ports {} {}",
            self.site.canary_ports(),
            self.by(certificate)
        )
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        for service in &mut self.services {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

#[test]
fn everybody_does_their_own_work_in_a_certified_cluster_and_nobody_elses() {
    let site = Site::new().squid("127.0.81.1:3128", Access::Open);
    let mut cluster = Certified::start(site);
    // Nobody's certificate is good for another's service.
    let refusal = "is not certified for";
    let line = cluster.canary("pki/worker-ann");
    cluster.spawn(&line, "impostor-canary");
    cluster
        .ajar()
        .await_line("impostor-canary", refusal)
        .unwrap();
    let worker = |cluster: &Certified, certificate: &str| {
        format!("worker --vantage here {}", cluster.by(certificate))
    };
    let line = worker(&cluster, "pki/operator-ann");
    cluster.spawn(&line, "impostor-worker");
    cluster
        .ajar()
        .await_line("impostor-worker", refusal)
        .unwrap();
    cluster.start_canary();
    for (certificate, line) in [
        ("pki/viewer-ann", "campaign submit 127.0.81.1 -p 3128"),
        ("pki/viewer-ann", "campaign stop-all"),
        ("pki/worker-ann", "campaign submit 127.0.81.1 -p 3128"),
        ("pki/worker-ann", "campaign list"),
        ("pki/canary-ann", "audit show"),
    ] {
        let cause = cluster.refused(certificate, line);
        assert!(cause.contains(refusal), "{line}: {cause}");
    }
    let listed = cluster.run("pki/viewer-ann", "campaign list");
    let campaigns = listed.stdout.lines().skip(1).count();
    assert_eq!((listed.status, campaigns), (0, 0), "{listed:?}");

    let line = worker(&cluster, "pki/worker-ann");
    cluster.spawn(&line, "worker");
    let submit = "campaign submit 127.0.81.1 -p 3128 --probes http-connect --settle 1s";
    let submitted = cluster.run("pki/operator-ann", submit);
    let id = submitted.stdout.trim();
    assert_eq!(submitted.status, 0, "{}", submitted.stderr);
    let watched = cluster.run("pki/viewer-ann", &format!("campaign watch {id}"));
    assert!(watched.stdout.contains("finished"), "{watched:?}");
    let findings = format!("findings list --format jsonl --campaign {id}");
    let found = cluster.run("pki/viewer-ann", &findings);
    assert!(found.stdout.contains(r#""verdict":"open""#), "{found:?}");
    assert!(found.stdout.contains(r#""vantage":"ann""#), "{found:?}");

    // Who tried what in vain is on record, each attempt once.
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    for (who, what) in [
        ("viewer/ann", "/ajar.v1.CampaignService/Submit"),
        ("viewer/ann", "/ajar.v1.CampaignService/StopAll"),
        ("worker/ann", "/ajar.v1.CanaryService/Register"),
        ("operator/ann", "/ajar.v1.WorkService/Session"),
        ("canary/ann", "/ajar.v1.CampaignService/Audit"),
    ] {
        let of = |line: &&str| {
            line.contains("call.refused") && line.contains(who) && line.contains(what)
        };
        assert_eq!(shown.lines().filter(of).count(), 1, "{who} {what}: {shown}");
    }

    // What is over can be forgotten, but not that it was.
    let remove = format!("campaign remove {id}");
    let cause = cluster.refused("pki/viewer-ann", &remove);
    assert!(cause.contains("CampaignService/Remove"), "{cause}");
    assert_eq!(cluster.run("pki/operator-ann", &remove).status, 0);
    assert_eq!(cluster.run("pki/viewer-ann", &findings).stdout, "");
    let cause = cluster.refused("pki/operator-ann", &remove);
    assert!(cause.contains(id), "{cause}");
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    let of = |line: &&str| line.contains("campaign.remove") && line.contains(id);
    assert_eq!(shown.lines().filter(of).count(), 1, "{shown}");
}

#[tokio::test]
async fn nobody_speaks_of_the_lease_of_another_worker() {
    // The program does so itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut cluster = Certified::start(Site::new());
    cluster.done("pki issue worker bob");
    cluster.start_canary();
    let submit = "campaign submit 127.0.82.0/24 127.0.83.0/24 -p 9-100 --rate 20 --prefix-rate 20";
    let submitted = cluster.run("pki/operator-ann", submit);
    assert_eq!(submitted.status, 0, "{}", submitted.stderr);
    let client = |name: &str| cluster.coordinator(name).work();
    let (mut ann, mut bob) = (client("worker-ann"), client("worker-bob"));
    // A worker's name is what it says it is: only the certificate tells them apart.
    let asked = v1::LeaseRequest {
        worker: "one".to_owned(),
        vantage: "here".to_owned(),
        ..v1::LeaseRequest::default()
    };
    let lease = ann.lease(asked).await.unwrap().into_inner().lease.unwrap();
    assert_eq!(lease.vantage, "ann");
    let renewal = v1::RenewRequest {
        shard: lease.shard.clone(),
        token: lease.token,
        want_rate: 1,
        worker: "one".to_owned(),
        rate: lease.rate,
        number: 0,
        revision: 0,
    };
    let release = v1::ReleaseRequest {
        shard: lease.shard.clone(),
        token: lease.token,
        worker: "one".to_owned(),
        vantage: "here".to_owned(),
        ..v1::ReleaseRequest::default()
    };
    let report = v1::ReportRequest {
        shard: lease.shard.clone(),
        token: lease.token,
        advance: Some(v1::Advance {
            from: 0,
            to: lease.end,
            tally: Some(v1::Tally {
                silent: lease.end,
                ..v1::Tally::default()
            }),
            closes: true,
        }),
        ..v1::ReportRequest::default()
    };
    let reported = bob.report(futures::stream::iter([report])).await;
    let mut answers = reported.unwrap().into_inner();
    let session = v1::SessionRequest {
        number: 1,
        worker: Some(v1::LeaseRequest::default()),
        leases: vec![renewal.clone()],
        room: 0,
    };
    let session = bob.session(futures::stream::iter([session])).await;
    let mut said = session.unwrap().into_inner();
    let refusals = [
        said.message().await.map(drop).unwrap_err(),
        bob.renew(renewal.clone()).await.map(drop).unwrap_err(),
        bob.release(release.clone()).await.map(drop).unwrap_err(),
        answers.message().await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), tonic::Code::PermissionDenied, "{refusal}");
        let cause = refusal.message();
        assert!(cause.contains("another worker's"), "{cause}");
    }
    // Nor does its holder speak of what is in another shard: each has one of the two networks.
    let mut told = Vec::new();
    for ip in ["127.0.82.7", "127.0.83.7"] {
        let seen = Observation {
            campaign: submitted.stdout.trim().parse().unwrap(),
            endpoint: format!("{ip}:25").parse().unwrap(),
            probe: ProbeId::from_static("smtp-relay"),
            vantage: "here".to_owned(),
            started_at: Timestamp::now(),
            finished_at: "2999-01-01T00:00:00Z".parse().unwrap(),
            visit: 1,
            round: 0,
            evidence: Evidence::default(),
        };
        let report = v1::ReportRequest {
            shard: lease.shard.clone(),
            token: lease.token,
            observations: vec![(&seen).into()],
            ..v1::ReportRequest::default()
        };
        let reported = ann.report(futures::stream::iter([report])).await;
        let answer = reported.unwrap().into_inner().message().await;
        told.push(answer.map(drop).map_err(|refusal| refusal.code()));
    }
    told.sort_by_key(Result::is_err);
    assert_eq!(told, [Ok(()), Err(tonic::Code::PermissionDenied)]);
    let rows = cluster
        .ajar()
        .shell("sqlite3 ajar.db 'SELECT count(*), max(vantage) FROM observations'")
        .unwrap();
    // A vantage point is its worker's by certificate, whatever the worker says.
    assert_eq!(rows.trim(), "1|ann");
    // Nothing was observed later than it is.
    let finished = cluster
        .ajar()
        .shell("sqlite3 ajar.db 'SELECT max(finished_at) / 1000000 FROM observations'")
        .unwrap();
    let finished: i64 = finished.trim().parse().unwrap();
    assert!(finished <= Timestamp::now().as_second() + 5, "{finished}");
    // The lease is still held by whom it was granted to, who had not moved.
    let shard = "SELECT owner, closed, cursor FROM leases JOIN shards USING (campaign, number)";
    let shard = cluster
        .ajar()
        .shell(&format!("sqlite3 ajar.db '{shard}'"))
        .unwrap();
    assert_eq!(
        shard.trim(),
        "one as spiffe://ajar.internal/ajar/worker/ann|0|0"
    );
    let renewed = ann.renew(renewal).await.unwrap().into_inner();
    assert!(renewed.kept, "{renewed:?}");
    ann.release(release).await.unwrap();
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    let of = |line: &&str| line.contains("call.refused") && line.contains("worker/bob");
    assert_eq!(shown.lines().filter(of).count(), 1, "{shown}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_put_on_record() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Certified::start(Site::new());
    let long = "x".repeat(ajar_proto::MAX_MESSAGE + 1);
    let mut operator = cluster.coordinator("operator-ann").campaigns();
    // Our own clients send none.
    operator = operator.max_encoding_message_size(usize::MAX);
    let request = v1::PauseRequest { id: long.clone() };
    let refused = operator.pause(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
    let worker = cluster.coordinator("worker-ann").work();
    let mut worker = worker.max_encoding_message_size(usize::MAX);
    let report = v1::ReportRequest {
        shard: Some(v1::ShardId {
            campaign: long,
            number: 0,
        }),
        ..v1::ReportRequest::default()
    };
    let reported = worker.report(futures::stream::iter([report])).await;
    let refused = reported.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    for who in ["operator/ann", "worker/ann"] {
        let of = |line: &&str| line.contains(who) && line.contains("a message over the limit");
        assert_eq!(shown.lines().filter(of).count(), 1, "{who}: {shown}");
    }
}

#[tokio::test]
async fn a_canary_reports_only_what_a_registered_key_signed() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut cluster = Certified::start(Site::new());
    cluster.start_canary();
    let mut canary = cluster.coordinator("canary-ann").canary();
    let mail = Sighting {
        nonce: "00112233445566778899aabbccddeeff".parse().unwrap(),
        egress_ip: "127.0.0.1".parse().unwrap(),
        received_at: Timestamp::now(),
        helo: Untrusted::default(),
        mail_from: Untrusted::default(),
        rcpt_to: Untrusted::default(),
        header: Untrusted::default(),
        signature: Signature64::default(),
    };
    let strange = mail.clone().signed(&SigningKey::from_bytes(&[9; 32]));
    for forged in [&mail, &strange] {
        let sighting = Some(forged.into());
        let refused = canary.record(v1::RecordRequest { sighting }).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    }
    let rows = cluster
        .ajar()
        .shell("sqlite3 ajar.db 'SELECT count(*) FROM sightings'")
        .unwrap();
    assert_eq!(rows.trim(), "0");
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    let of = |line: &&str| line.contains("call.refused") && line.contains("no canary signed");
    assert_eq!(shown.lines().filter(of).count(), 1, "{shown}");
}

#[test]
fn who_is_certified_for_nothing_or_by_a_stranger_is_told_so_and_gets_nothing() {
    let cluster = Certified::start(Site::new());
    cluster.ajar().shell(
        "sign() { openssl req -newkey ed25519 -nodes -keyout $1-key.pem -subj /CN=$1 -out $1.csr
                  echo basicConstraints=CA:FALSE >$1.ext
                  openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2-key.pem -CAcreateserial -days 2 -extfile $1.ext -out $1.pem; }
         openssl req -x509 -newkey ed25519 -nodes -keyout strange-key.pem -out strange.pem -subj /CN=strange -days 2
         sign plain pki/ca
         sign stranger strange",
    )
    .unwrap();
    let cause = cluster.refused("plain", "campaign list");
    assert!(cause.contains("plain (sha256 "), "{cause}");
    assert!(cause.contains("is certified for nothing"), "{cause}");
    let cause = cluster.refused("stranger", "campaign list");
    assert!(cause.contains("does not answer"), "{cause}");
    let old = "printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\n[p]\ncommonName=supplied\n' >ca.cnf
               touch index
               openssl ca -batch -config ca.cnf -create_serial -md sha256 -cert pki/ca.pem -keyfile pki/ca-key.pem -in plain.csr \
                   -extfile plain.ext -startdate 20200101000000Z -enddate 20200102000000Z -notext -out old.pem
               cp plain-key.pem old-key.pem";
    cluster.ajar().shell(old).unwrap();
    // Our own client would not show it.
    let shown = format!(
        "! openssl s_client -connect {} -CAfile pki/ca.pem -cert old.pem -key old-key.pem -quiet </dev/null",
        cluster.listen
    );
    cluster.ajar().shell(&shown).unwrap();
    // Nobody knows who they are, but whence they came, and what was wrong.
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    for cause in [
        "a certificate of another authority",
        "an expired certificate",
    ] {
        let of = |line: &&str| {
            line.contains("call.refused") && line.contains("127.0.0.1") && line.contains(cause)
        };
        assert_eq!(shown.lines().filter(of).count(), 1, "{cause}: {shown}");
    }
}

#[test]
fn certificates_are_what_openssl_takes_them_for_and_keys_are_private() {
    let ajar = Ajar::new().unwrap();
    for line in [
        "pki init",
        "pki issue coordinator hub --host scan.example.net --host 192.0.2.1 --host 2001:db8::1",
        "pki issue worker paris-1 --days 7",
    ] {
        let finished = ajar.run(line).unwrap();
        assert_eq!(finished.status, 0, "{line}: {}", finished.stderr);
    }
    ajar.shell(
        "openssl verify -x509_strict -CAfile pki/ca.pem -purpose sslserver pki/coordinator-hub.pem
         openssl verify -x509_strict -CAfile pki/ca.pem -purpose sslclient pki/worker-paris-1.pem
         openssl verify -CAfile pki/ca.pem -verify_hostname scan.example.net pki/coordinator-hub.pem
         openssl verify -CAfile pki/ca.pem -verify_ip 2001:db8::1 pki/coordinator-hub.pem
         ! openssl verify -CAfile pki/ca.pem -purpose sslserver pki/worker-paris-1.pem
         openssl x509 -in pki/worker-paris-1.pem -noout -checkend $((6 * 86400))
         ! openssl x509 -in pki/worker-paris-1.pem -noout -checkend $((9 * 86400))",
    )
    .unwrap();
    let names = ajar
        .shell("openssl x509 -in pki/worker-paris-1.pem -noout -ext subjectAltName")
        .unwrap();
    assert!(
        names.contains("URI:spiffe://ajar.internal/ajar/worker/paris-1"),
        "{names}"
    );
    assert_eq!(
        ajar.shell("stat -c %a pki/*-key.pem").unwrap(),
        "600\n600\n600\n"
    );

    // What is there is not replaced, and nothing is made that could not be used.
    for (line, expect) in [
        ("pki init", "pki/ca.pem exists already"),
        (
            "pki issue worker paris-1",
            "pki/worker-paris-1.pem exists already",
        ),
        ("pki issue coordinator two", "--host"),
        (
            "pki issue worker two --host a.example",
            "--host is for a coordinator",
        ),
        ("pki issue worker ../two", "letters, digits"),
        (
            "pki issue viewer two --directory elsewhere",
            "make an authority with `ajar pki init`",
        ),
    ] {
        let finished = ajar.run(line).unwrap();
        assert_eq!(finished.status, 2, "{line}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(expect),
            "{line}: {}",
            finished.stderr
        );
    }
    assert_eq!(ajar.shell("ls pki | wc -l").unwrap().trim(), "6");
}
