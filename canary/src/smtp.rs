//! The SMTP sink: takes mail for its own domain, tells the recorder, and keeps nothing.
//!
//! It offers no STARTTLS. An old relay that cannot speak our TLS would not deliver at all
//! (Sendmail), or only later (Postfix), and a test message holds no secret.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use ajar_model::{Nonce, Sighting, Timestamp, Untrusted, proof::Signature64};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{timeout, timeout_at},
};

use crate::{
    Arrival, Shared,
    codec::{self, Command, Message},
};

const LINE: usize = 2048;
const MESSAGE: usize = 1 << 20;
const COMMANDS: usize = 1000;
const RECIPIENTS: usize = 100;
/// Bytes of mails that are on their way to a slow coordinator; others wait.
pub(crate) const WAITING: usize = 8 << 20;
/// What a receipt takes of it beside its header.
const RECEIPT: usize = 1024;
const HEADER: usize = 16 * 1024;
const TEXT: usize = 512;
/// How long a receipt may take to become durable. After that its relay hears 451, and tries again in
/// half an hour or never. Relays wait for ten minutes (RFC 5321 section 4.5.3.2.6).
pub(crate) const RECORD: Duration = Duration::from_secs(120);

/// How long a relay that ends its message by bare line feeds waits for our answer at least.
const BARE_END: Duration = Duration::from_secs(3);

pub(crate) async fn serve(
    stream: TcpStream,
    arrival: Arrival,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let mut session = Session {
        stream,
        received: BytesMut::new(),
        arrival,
        shared,
        helo: String::new(),
        envelope: Envelope::default(),
        is_over: false,
    };
    let greeting = format!("220 {} ESMTP ajar-canary", session.shared.canary.domain);
    session.say(&greeting).await?;
    for _ in 0..COMMANDS {
        let Some(line) = session.line().await? else {
            return Ok(());
        };
        match codec::command(&line) {
            Command::Quit => return session.say("221 2.0.0 bye").await,
            command => session.obey(command).await?,
        }
        if session.is_over {
            return Ok(());
        }
    }
    session.say("421 4.7.0 too many commands").await
}

struct Session {
    stream: TcpStream,
    received: BytesMut,
    arrival: Arrival,
    shared: Arc<Shared>,
    helo: String,
    envelope: Envelope,
    /// Nothing more is read.
    is_over: bool,
}

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<(String, Nonce)>,
    /// True if it names `postmaster` or `abuse`, whose mail we refuse after DATA.
    to_a_person: bool,
}

impl Session {
    async fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Hello(name, extended) => self.hello(name, extended).await,
            Command::Mail(_) if self.envelope.from.is_some() => {
                self.say("503 5.5.1 one sender at a time").await
            }
            Command::Mail(path) => {
                self.envelope.from = Some(path);
                self.say("250 2.1.0 ok").await
            }
            Command::Rcpt(path) => self.recipient(path).await,
            Command::Data => self.data().await,
            Command::Rset => {
                self.envelope = Envelope::default();
                self.say("250 2.0.0 ok").await
            }
            Command::Noop => self.say("250 2.0.0 ok").await,
            Command::Vrfy => self.say("252 2.5.2 send some mail and see").await,
            Command::StartTls => self.say("502 5.5.1 not offered").await,
            Command::Quit => self.say("503 5.5.1 not here").await,
            Command::BadArgument => self.say("501 5.5.4 syntax error in the argument").await,
            Command::Unknown => self.say("500 5.5.2 command not recognised").await,
        }
    }

    async fn hello(&mut self, name: String, extended: bool) -> io::Result<()> {
        self.envelope = Envelope::default();
        let domain = &self.shared.canary.domain;
        let mut lines = vec![domain.clone()];
        if extended {
            // A tunnel to this port is proven here: its other end says its nonce, and reads the answer.
            let nonce = name
                .split('.')
                .next()
                .and_then(|label| label.parse::<Nonce>().ok());
            lines.extend(nonce.map(|nonce| self.shared.answer(nonce, self.arrival).to_string()));
            lines.extend(
                ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"].map(str::to_owned),
            );
            lines.push(format!("SIZE {MESSAGE}"));
        }
        self.helo = name;
        let last = lines.len() - 1;
        let reply: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("250{}{line}", if i == last { ' ' } else { '-' }))
            .collect();
        self.say(&reply.join("\r\n")).await
    }

    async fn recipient(&mut self, path: String) -> io::Result<()> {
        if self.envelope.from.is_none() {
            return self.say("503 5.5.1 sender first").await;
        }
        if self.envelope.to.len() >= RECIPIENTS {
            return self.say("452 4.5.3 too many recipients").await;
        }
        if !self.shared.is_ours(&path) {
            return self.say("550 5.7.1 this host relays nothing").await;
        }
        let local = codec::local_part(&path);
        let nonce = codec::nonce_in(local);
        // Every mail domain has these (RFC 5321 section 4.5.1), and some relays ask for them before
        // they take mail from a domain.
        let mut people = ["postmaster", "abuse"].into_iter();
        if nonce.is_none() && people.any(|name| local.eq_ignore_ascii_case(name)) {
            self.envelope.to_a_person = true;
            return self.say("250 2.1.5 ok").await;
        }
        let Some(nonce) = nonce else {
            return self.say("550 5.1.1 no such mailbox").await;
        };
        self.envelope.to.push((path, nonce));
        self.say("250 2.1.5 ok").await
    }

    async fn data(&mut self) -> io::Result<()> {
        if self.envelope.to.is_empty() {
            let reply = match (self.envelope.to_a_person, &self.shared.contact) {
                (false, _) => "503 5.5.1 recipients first".to_owned(),
                (true, Some(contact)) => {
                    format!("550 5.1.1 nobody reads mail here: write to {contact}")
                }
                (true, None) => "550 5.1.1 nobody reads mail here".to_owned(),
            };
            return self.say(&reply).await;
        }
        self.say("354 end with <CRLF>.<CRLF>").await?;
        let message = self.message().await?;
        let envelope = std::mem::take(&mut self.envelope);
        if message.size() > MESSAGE {
            // Who sends more than EHLO allows may never come to an end.
            self.is_over = true;
            return self.say("552 5.3.4 message too big").await;
        }
        let recorded = self.record(envelope, &message).await;
        let outcome = if recorded.is_ok() {
            "recorded"
        } else {
            "put_off"
        };
        metrics::counter!("ajar_canary_mails_total", "outcome" => outcome).increment(1);
        match recorded {
            Ok(()) => self.say("250 2.0.0 received").await,
            Err(cause) => {
                let put_off = &self.shared.put_off;
                let count = put_off
                    .lock()
                    .expect("no holder panics")
                    .count(Instant::now());
                if let Some(count) = count {
                    tracing::warn!(
                        cause,
                        count,
                        "mails could not be recorded; their relays will try again"
                    );
                }
                self.say("451 4.3.0 try again later").await
            }
        }
    }

    /// Makes the receipts durable, even if the sender hangs up or the canary is stopped meanwhile.
    async fn record(&self, envelope: Envelope, message: &Message) -> Result<(), String> {
        let text = |text: &str| Untrusted::from_bytes(text.as_bytes(), TEXT);
        let size = message.header().len() + RECEIPT * (1 + envelope.to.len());
        let deadline = tokio::time::Instant::now() + RECORD;
        let room = Arc::clone(&self.shared.waiting).acquire_many_owned(size as u32);
        let room = timeout_at(deadline, room).await;
        let room = room.map_err(|_| "too many mails wait to be recorded")?;
        let mut sightings: Vec<Sighting> = Vec::new();
        for (path, nonce) in &envelope.to {
            // A header is kept once, however many recipients a mail has.
            let header = match sightings.is_empty() {
                true => message.header(),
                false => &[],
            };
            let sighting = Sighting {
                nonce: *nonce,
                egress_ip: self.arrival.peer,
                received_at: Timestamp::now(),
                helo: text(&self.helo),
                mail_from: text(envelope.from.as_deref().unwrap_or_default()),
                rcpt_to: text(path),
                header: Untrusted::from_bytes(header, HEADER),
                signature: Signature64::default(),
            };
            sightings.push(sighting.signed(&self.shared.key));
        }
        let recorder = Arc::clone(&self.shared.recorder);
        let recording = self
            .shared
            .recordings
            .spawn(timeout_at(deadline, async move {
                let recorded = sightings.into_iter().map(|one| recorder.record(one));
                futures::future::try_join_all(recorded).await?;
                drop(room);
                Ok(())
            }));
        match recording.await {
            Ok(Ok(recorded)) => recorded,
            Ok(Err(_)) => Err(format!("not recorded within {} s", RECORD.as_secs())),
            Err(_) => Err("the recorder failed".to_owned()),
        }
    }

    /// Reads the message after DATA, to its end or to the first byte too many.
    async fn message(&mut self) -> io::Result<Message> {
        let mut message = Message::new(HEADER);
        loop {
            let (taken, ended) = message.take(&self.received);
            let _ = self.received.split_to(taken);
            if ended || message.size() > MESSAGE {
                return Ok(message);
            }
            let reading = self.stream.read_buf(&mut self.received);
            let read = match message.may_have_ended() {
                false => reading.await,
                true => match timeout(BARE_END, reading).await {
                    Ok(read) => read,
                    Err(_) => {
                        // Whatever follows may be meant as another mail.
                        self.is_over = true;
                        return Ok(message);
                    }
                },
            };
            if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// One line; none at the end of the stream.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(self.received.split_to(end + 1).to_vec()));
            }
            if self.received.len() > LINE {
                self.say("500 5.5.2 line too long").await?;
                return Ok(None);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream
            .write_all(format!("{reply}\r\n").as_bytes())
            .await?;
        self.stream.flush().await
    }
}
