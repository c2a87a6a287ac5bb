//! The canary over real sockets, with peers that mean it no good.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ajar_canary::{Handle, Options, Ports, Recorder};
use ajar_model::{Nonce, Sighting};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const NONCE: &str = "00112233445566778899aabbccddeeff";
const DOMAIN: &str = "canary.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what it is told, unless it is broken; waits while it is held up.
struct Ledger {
    sightings: Mutex<Vec<Sighting>>,
    broken: AtomicBool,
    gate: Semaphore,
}

impl Recorder for Ledger {
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let _pass = self.gate.acquire().await.unwrap();
            if self.broken.load(Ordering::SeqCst) {
                return Err("the disk is full".to_owned());
            }
            self.sightings.lock().unwrap().push(sighting);
            Ok(())
        })
    }
}

struct Bench {
    handle: Handle,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

async fn bench() -> Bench {
    let ledger = Arc::new(Ledger {
        sightings: Mutex::default(),
        broken: AtomicBool::new(false),
        gate: Semaphore::new(1),
    });
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        address: Ipv4Addr::LOCALHOST.into(),
        advertise: None,
        ports: Ports::any(),
        domain: DOMAIN.to_owned(),
        other_domain: None,
        key: ajar_canary::key::load_or_create(&directory.path().join("key")).unwrap(),
        contact: Some("ops@example.net".to_owned()),
        certificate: None,
    };
    let stop = CancellationToken::new();
    let handle = ajar_canary::serve(options, ledger.clone(), stop.clone())
        .await
        .unwrap();
    Bench {
        handle,
        ledger,
        stop,
    }
}

impl Bench {
    fn sightings(&self) -> usize {
        self.ledger.sightings.lock().unwrap().len()
    }

    async fn mail(&self) -> Peer {
        let mut peer = Peer::connect(self.handle.canary().smtp).await;
        assert!(peer.reply().await.starts_with("220 "));
        peer
    }

    async fn raw(&self) -> Peer {
        let mut peer = Peer::connect(self.handle.canary().raw).await;
        assert!(peer.line().await.starts_with("ajar-canary "));
        peer
    }
}

struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    async fn connect(port: u16) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, port).await
    }

    async fn connect_from(source: Ipv4Addr, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            stream: socket.connect(address).await.unwrap(),
            received: Vec::new(),
        }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The last line of the next reply; empty at the end of the stream.
    async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return String::from_utf8(line).unwrap();
            }
            let read = self.stream.read_buf(&mut self.received);
            let read = timeout(PATIENCE, read).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Up to the 354 after DATA.
    async fn begin(&mut self) {
        let recipient = format!("RCPT TO:<{NONCE}@{DOMAIN}>");
        for line in ["EHLO peer.test", "MAIL FROM:<a@b.test>", &recipient] {
            assert!(self.ask(line).await.starts_with("250 "), "{line}");
        }
        assert!(self.ask("DATA").await.starts_with("354 "));
    }
}

#[tokio::test]
async fn a_pipelined_mail_is_recorded_before_it_is_accepted() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.send(format!(
        "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<{NONCE}@{DOMAIN}>\r\nDATA\r\n\
         Subject: x\r\n..dot: y\r\n\r\nbody\r\n.\r\nQUIT\r\n"
    ))
    .await;
    for code in ["250 ", "250 ", "250 ", "354 ", "250 2.0.0", "221 "] {
        let reply = peer.reply().await;
        assert!(reply.starts_with(code), "{code}: {reply}");
    }
    let sightings = bench.ledger.sightings.lock().unwrap();
    let [sighting] = &sightings[..] else {
        panic!("{} sightings", sightings.len())
    };
    assert_eq!(sighting.nonce, NONCE.parse::<Nonce>().unwrap());
    assert_eq!(sighting.header.raw(), "Subject: x\r\n.dot: y\r\n");
    assert_eq!(sighting.egress_ip.to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_mail_that_cannot_be_recorded_is_not_accepted() {
    let bench = bench().await;
    bench.ledger.broken.store(true, Ordering::SeqCst);
    let mut peer = bench.mail().await;
    peer.begin().await;
    assert!(peer.ask("x\r\n.").await.starts_with("451 "));
    bench.ledger.broken.store(false, Ordering::SeqCst);
    peer.begin().await;
    assert!(peer.ask("x\r\n.").await.starts_with("250 "));
    assert_eq!(bench.sightings(), 1);
}

#[tokio::test]
async fn a_receipt_survives_a_stop_and_a_sender_that_hangs_up() {
    let bench = bench().await;
    let pass = bench.ledger.gate.acquire().await.unwrap();
    let mut peer = bench.mail().await;
    peer.begin().await;
    peer.send("x\r\n.\r\n").await;
    // The sink has the message once its recorder waits at the gate, which nothing but time can show.
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(peer);
    bench.stop.cancel();
    drop(pass);
    timeout(PATIENCE, bench.handle.join()).await.unwrap();
    assert_eq!(bench.ledger.sightings.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_connects_while_the_machine_is_busy_is_greeted_in_the_end() {
    let bench = bench().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bench.handle.canary().smtp));
    // Nothing is accepted meanwhile: this test does not give way, and has one thread for everything. A full queue drops SYNs.
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500));
    let peers: Vec<_> = (0..1200).map(|_| connect().unwrap()).collect();
    for stream in peers {
        stream.set_nonblocking(true).unwrap();
        let mut peer = Peer {
            stream: TcpStream::from_std(stream).unwrap(),
            received: Vec::new(),
        };
        // One address has 256 places; the others hear that.
        let greeting = peer.reply().await;
        assert!(greeting.starts_with("220 ") || greeting.starts_with("421 "));
    }
}

#[tokio::test]
async fn mails_wait_for_a_coordinator_that_is_slow() {
    answered("Subject: a test\r\n", Duration::from_secs(60), "250 ").await;
}

/// 16 KiB of a header are kept, and a receipt counts for 2 KiB more, of 8 MiB.
fn large() -> String {
    format!("Subject: {}\r\n", "x".repeat(900)).repeat(20)
}

#[tokio::test]
async fn mails_beyond_a_bound_wait_their_turn() {
    answered(&large(), Duration::from_secs(60), "250 ").await;
}

#[tokio::test]
async fn mails_are_put_off_when_a_relay_might_lose_patience() {
    answered(&large(), Duration::from_secs(121), "451 ").await;
}

/// Sends 600 mails to a canary whose coordinator takes so long, and expects this answer to each.
async fn answered(header: &str, slow: Duration, answer: &str) {
    let bench = bench().await;
    let pass = bench.ledger.gate.acquire().await.unwrap();
    let mut peers = Vec::new();
    for number in 0..600_u16 {
        // One address has 256 places.
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number / 200) as u8);
        let mut peer = Peer::connect_from(source, bench.handle.canary().smtp).await;
        assert!(peer.reply().await.starts_with("220 "));
        peer.begin().await;
        peer.send(format!("{header}\r\nx\r\n.\r\n")).await;
        peers.push(peer);
    }
    // Nothing but time can show that all mails have arrived, and that the canary gave some up.
    let settled = || tokio::time::sleep(Duration::from_millis(500));
    settled().await;
    tokio::time::pause();
    tokio::time::advance(slow).await;
    tokio::time::resume();
    settled().await;
    drop(pass);
    for peer in &mut peers {
        let reply = peer.reply().await;
        assert!(reply.starts_with(answer), "{reply}");
    }
    let taken = if answer == "250 " { peers.len() } else { 0 };
    assert_eq!(bench.sightings(), taken);
}

#[tokio::test]
async fn a_message_without_an_end_is_cut_off() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.begin().await;
    // A sink that forgets where a line began takes this for the end.
    let line = [&[b'a'; 997][..], b".\r\n"].concat();
    let mut sent = 0;
    while peer.stream.write_all(&line).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 << 20, "it takes whatever comes");
    }
    assert!(peer.line().await.starts_with("552 "));
    assert_eq!(bench.sightings(), 0);
}

#[tokio::test]
async fn a_second_mail_cannot_be_smuggled_in_behind_a_bare_line_feed() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.begin().await;
    let smuggled = format!("MAIL FROM:<x@y>\r\nRCPT TO:<{NONCE}@{DOMAIN}>\r\nDATA\r\nx\r\n");
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r"] {
        peer.send(format!("x{end}{smuggled}")).await;
    }
    assert!(peer.ask("\r\n.").await.starts_with("250 "));
    assert!(peer.ask("QUIT").await.starts_with("221 "));
    assert_eq!(bench.sightings(), 1);
}

#[tokio::test]
async fn a_message_that_ends_by_bare_line_feeds_is_recorded_and_nothing_after_it_is_read() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.begin().await;
    peer.send("Received: by old.example\nSubject: x\n\ntext\n.\n")
        .await;
    assert!(peer.reply().await.starts_with("250 "));
    peer.send("NOOP\r\n").await;
    assert_eq!(peer.reply().await, "");
    assert_eq!(bench.sightings(), 1);
    let header = bench.ledger.sightings.lock().unwrap()[0].header.clone();
    assert_eq!(header.raw(), "Received: by old.example\nSubject: x\n");
}

#[tokio::test]
async fn tls_is_not_offered_where_mail_arrives() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    let offered = peer.ask("EHLO x").await;
    assert!(!offered.contains("STARTTLS"), "{offered}");
    assert!(peer.ask("STARTTLS").await.starts_with("502 "));
}

#[tokio::test]
async fn an_endless_line_ends_the_session() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.send([b'A'; 4096]).await;
    assert!(peer.reply().await.starts_with("500 "));
    assert_eq!(peer.reply().await, "");
    let mut peer = bench.raw().await;
    peer.send([b'A'; 4096]).await;
    assert_eq!(peer.line().await, "");
}

#[tokio::test]
async fn commands_and_recipients_are_counted() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.ask("EHLO x").await;
    peer.ask("MAIL FROM:<>").await;
    let recipient = format!("RCPT TO:<{NONCE}@{DOMAIN}>");
    let mut refused = 0;
    let last = loop {
        let reply = peer.ask(&recipient).await;
        match &reply[..4] {
            "250 " => assert_eq!(refused, 0),
            "452 " => refused += 1,
            _ => break reply,
        }
        assert!(refused < 10_000);
    };
    assert!(last.starts_with("421 ") && refused > 0, "{last}");
}

#[tokio::test]
async fn nothing_is_taken_for_any_other_domain() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    peer.ask("HELO x").await;
    assert!(peer.ask("RCPT TO:<a@b>").await.starts_with("503 "));
    peer.ask("MAIL FROM:<>").await;
    for recipient in [
        format!("{NONCE}@elsewhere.test"),
        format!("{NONCE}@{DOMAIN}@elsewhere.test"),
        format!("{NONCE}%elsewhere.test@{DOMAIN}.test"),
        NONCE.to_owned(),
        format!("nobody@{DOMAIN}"),
    ] {
        let reply = peer.ask(&format!("RCPT TO:<{recipient}>")).await;
        assert!(reply.starts_with("550 "), "{recipient}: {reply}");
    }
    // Relays check that they exist. A person who writes to them learns the contact.
    for person in ["postmaster", "Abuse"] {
        let taken = peer.ask(&format!("RCPT TO:<{person}@{DOMAIN}>")).await;
        assert!(taken.starts_with("250 "), "{taken}");
    }
    let refused = peer.ask("DATA").await;
    assert!(
        refused.starts_with("550 ") && refused.contains("ops@example.net"),
        "{refused}"
    );
    assert_eq!(bench.sightings(), 0);
}

#[tokio::test]
async fn one_peer_cannot_take_every_place() {
    let bench = bench().await;
    let mut crowd = Vec::new();
    for _ in 0..256 {
        crowd.push(bench.mail().await);
    }
    let mut late = Peer::connect(bench.handle.canary().smtp).await;
    assert!(late.reply().await.starts_with("421 "));
    drop(crowd);
    for _ in 0..100 {
        let mut peer = Peer::connect(bench.handle.canary().smtp).await;
        if peer.reply().await.starts_with("220 ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no place was given back");
}

#[tokio::test]
async fn the_raw_greeting_answers_a_nonce_and_nothing_else() {
    let bench = bench().await;
    let mut peer = bench.raw().await;
    peer.send(format!("{NONCE}\r\n")).await;
    let answer = peer.line().await;
    assert!(answer.contains(NONCE), "{answer}");
    let mut peer = bench.raw().await;
    peer.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(peer.line().await, "");
}

#[tokio::test]
async fn a_header_is_kept_once_however_many_recipients_a_mail_has() {
    let bench = bench().await;
    let mut peer = bench.mail().await;
    for line in ["EHLO peer.test", "MAIL FROM:<a@b.test>"] {
        assert!(peer.ask(line).await.starts_with("250 "), "{line}");
    }
    for number in 0..20 {
        let recipient = format!("RCPT TO:<{number:032x}@{DOMAIN}>");
        assert!(peer.ask(&recipient).await.starts_with("250 "));
    }
    assert!(peer.ask("DATA").await.starts_with("354 "));
    let header = format!("X-Long: {}", "x".repeat(8000));
    assert!(
        peer.ask(&format!("{header}\r\n\r\nbody\r\n."))
            .await
            .starts_with("250 ")
    );
    let sightings = bench.ledger.sightings.lock().unwrap();
    assert_eq!(sightings.len(), 20);
    let kept: usize = sightings.iter().map(|seen| seen.header.raw().len()).sum();
    assert!((8000..9000).contains(&kept), "{kept} bytes");
}
