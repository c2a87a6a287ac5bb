//! Which protocol an endpoint speaks, whatever its port.
//!
//! It is listened to first: a mail server that is talked to before it has greeted may rightly refuse us. Then the
//! protocols that were chosen are offered, the likely one first, each as the very request that its probe would begin
//! with, so that an answer is a first step and its connection is not wasted.

use ajar_model::{
    ProbeId,
    evidence::{Broken, Service},
};

use crate::{
    BoxStream,
    codec::{http, smtp},
    http_connect::{self, HttpConnect},
    offers::{self, Offer},
    registry::Probe,
    socks4::Socks4,
    socks5::{self, Socks5},
    tunnel::{self, Gateway},
    visit::{Kept, Visit},
    wire::Wire,
};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recognised {
    /// The protocol.
    pub(crate) service: Option<Service>,
    /// How it ended where the endpoint never said anything, or never ended its first words.
    pub(crate) broken: Option<Broken>,
}

impl From<Service> for Recognised {
    fn from(service: Service) -> Self {
        Self {
            service: Some(service),
            broken: None,
        }
    }
}

/// It answers, but in none of our protocols.
const STRANGE: Recognised = Recognised {
    service: None,
    broken: None,
};

/// Listens, then offers, beginning on the connection that is open.
pub(crate) async fn recognise(
    visit: &mut Visit<'_>,
    first: BoxStream,
    chosen: &[&dyn Probe],
) -> Recognised {
    let session = visit.session();
    let port = session.endpoint.port();
    let mut recogniser = Recogniser {
        chosen,
        idle: None,
        heard: false,
        broken: None,
        visit,
    };
    let mut offers = offers::plan(port, chosen, session.tier);
    let wire = match recogniser.visit.wire(first).await {
        Ok(wire) => wire,
        Err(how) => {
            return Recognised {
                service: None,
                broken: Some(how),
            };
        }
    };
    if offers.front() == Some(&Offer::Tls) && offers::is_tls_from_the_start(port) {
        recogniser.idle = Some(wire);
    } else if let Some(recognised) = recogniser
        .listen(wire, offers::greeting_wait(port, &session.limits))
        .await
    {
        return recognised;
    }
    let mut patience = session.limits.reply;
    while let Some(offer) = offers.pop_front() {
        if let Some(recognised) = recogniser.offer(offer, patience).await {
            return recognised;
        }
        patience = session.limits.reply / 3;
        if recogniser.broken == Some(Broken::Connect) || recogniser.visit.is_over() {
            break;
        }
    }
    recogniser.unrecognised()
}

/// True where a SOCKS 5 server speaks SOCKS 4 too; its connection is kept for the probe.
pub(crate) async fn is_socks4_too(visit: &mut Visit<'_>) -> bool {
    let reply = visit.session().limits.reply;
    let chosen: &[&dyn Probe] = &[&Socks4];
    let mut recogniser = Recogniser {
        chosen,
        idle: None,
        heard: false,
        broken: None,
        visit,
    };
    let recognised = recogniser.offer(Offer::Socks4, reply / 3).await;
    recognised.is_some_and(|recognised| recognised.service == Some(Service::Socks4))
}

struct Recogniser<'r, 'v> {
    visit: &'r mut Visit<'v>,
    chosen: &'r [&'r dyn Probe],
    /// A connection on which nothing was said yet by either side.
    idle: Option<Wire>,
    heard: bool,
    broken: Option<Broken>,
}

impl Recogniser<'_, '_> {
    fn unrecognised(self) -> Recognised {
        let broken = self.broken.unwrap_or(Broken::TimedOut);
        Recognised {
            service: None,
            broken: (!self.heard).then_some(broken),
        }
    }

    /// Waits for the endpoint to speak first; none where it does not.
    async fn listen(&mut self, mut wire: Wire, wait: std::time::Duration) -> Option<Recognised> {
        let max_line = wire.limits().line;
        let greeting = wire
            .frame(wait, |bytes| smtp::Reply::parse(bytes, max_line))
            .await;
        self.heard |= self.visit.listen(&wire);
        match greeting {
            Ok(greeting) => Some(self.greeted(wire, greeting).await),
            Err(Broken::TimedOut) if wire.unread().is_empty() => {
                self.idle = Some(wire);
                None
            }
            Err(how) if wire.unread().is_empty() => {
                self.broken = Some(how);
                None
            }
            Err(Broken::Garbled) => Some(by_first_bytes(wire.unread()).unwrap_or(STRANGE)),
            Err(how) => Some(Recognised {
                service: None,
                broken: Some(how),
            }),
        }
    }

    /// Tells mail servers from the others that greet with a code. The word decides, then the port, then EHLO.
    async fn greeted(&mut self, mut wire: Wire, greeting: smtp::Reply) -> Recognised {
        let usual = offers::is_mail_port(self.visit.session().endpoint.port());
        let says_mail = ["smtp", "mail"].iter().any(|word| greeting.mentions(word));
        let says_file = greeting.mentions("ftp") && !greeting.mentions("smtp");
        let is_mail = match greeting.code {
            _ if says_file => false,
            220 if says_mail || usual => true,
            220 => self.takes_a_hello(&mut wire).await,
            421 | 554 => true,
            400..=599 => usual,
            _ => false,
        };
        if !is_mail {
            return STRANGE;
        }
        self.visit.keep(Kept::Greeted(wire, greeting));
        Service::Smtp.into()
    }

    async fn takes_a_hello(&mut self, wire: &mut Wire) -> bool {
        if !self
            .chosen
            .iter()
            .any(|probe| probe.service() == Service::Smtp)
        {
            return false;
        }
        let our_name = self.visit.session().our_name;
        for hello in [smtp::ehlo(our_name), smtp::helo(our_name)]
            .into_iter()
            .flatten()
        {
            let limits = *wire.limits();
            if wire.send(&hello).await.is_err() {
                return false;
            }
            let parse = |bytes: &[u8]| smtp::Reply::parse(bytes, limits.line);
            match wire.frame(limits.reply, parse).await {
                Ok(reply) if reply.code == 250 => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Makes one offer, on a connection on which nothing was said.
    async fn offer(&mut self, offer: Offer, patience: std::time::Duration) -> Option<Recognised> {
        let wire = match self.idle.take() {
            Some(wire) => wire,
            None => match self.visit.open().await {
                Ok(wire) => wire,
                Err(how) => {
                    self.broken = Some(how);
                    return None;
                }
            },
        };
        let wire = wire.patient(patience);
        match offer {
            Offer::Http => self.ask(&HttpConnect, wire).await,
            Offer::Socks4 => self.ask(&Socks4, wire).await,
            Offer::Socks5 => self.ask(&Socks5, wire).await,
            Offer::HttpOptions => self.options(wire).await,
            Offer::Socks5Greeting => self.greeting(wire).await,
            Offer::Tls => self.tls(wire).await,
        }
    }

    async fn ask(&mut self, gateway: &dyn Gateway, mut wire: Wire) -> Option<Recognised> {
        let hop = tunnel::first_hop(gateway, self.visit.session().canary)?;
        match gateway.ask(&mut wire, &hop, &self.visit.agent()).await {
            Ok(reply) => {
                self.keep_asked(gateway.id(), wire, reply);
                Some(gateway.service().into())
            }
            Err(how) => self.not_this(&wire, how),
        }
    }

    async fn options(&mut self, mut wire: Wire) -> Option<Recognised> {
        let host = self.visit.session().endpoint.to_string();
        let request = http::options(&host, &self.visit.agent()).ok()?;
        let answered = match wire.send(&request).await {
            Ok(()) => http_connect::head(&mut wire).await.map(drop),
            Err(how) => Err(how),
        };
        match answered {
            Ok(()) => {
                self.visit.listen(&wire);
                Some(Service::HttpProxy.into())
            }
            Err(how) => self.not_this(&wire, how),
        }
    }

    async fn greeting(&mut self, mut wire: Wire) -> Option<Recognised> {
        match socks5::greet(&mut wire).await {
            Ok(refused) => {
                self.visit.listen(&wire);
                if let Some(reply) = refused {
                    self.keep_asked(Gateway::id(&Socks5), wire, reply);
                }
                Some(Service::Socks5.into())
            }
            Err(how) => self.not_this(&wire, how),
        }
    }

    /// A handshake that succeeds rules the plain protocols out; inside it, it is listened and offered again.
    async fn tls(&mut self, wire: Wire) -> Option<Recognised> {
        let session = self.visit.session();
        let wire = match self.visit.secure(wire).await {
            Ok(wire) => wire,
            Err(how) => {
                self.heard |= how == Broken::Tls;
                self.broken = Some(how);
                return None;
            }
        };
        self.heard = true;
        let wait = offers::greeting_wait(session.endpoint.port(), &session.limits);
        if let Some(recognised) = self.listen(wire.patient(session.limits.reply), wait).await {
            return Some(recognised);
        }
        match offers::inside_tls(self.chosen, session.tier) {
            Some(Offer::Http) if self.idle.is_some() => {
                let wire = self.idle.take()?;
                Some(self.ask(&HttpConnect, wire).await.unwrap_or(STRANGE))
            }
            Some(Offer::HttpOptions) if self.idle.is_some() => {
                let wire = self.idle.take()?;
                Some(self.options(wire).await.unwrap_or(STRANGE))
            }
            _ => Some(STRANGE),
        }
    }

    fn keep_asked(&mut self, id: ProbeId, wire: Wire, reply: ajar_model::Reply) {
        self.visit.listen(&wire);
        let patience = self.visit.session().limits.reply;
        self.visit
            .keep(Kept::Asked(id, wire.patient(patience), reply));
    }

    /// An offer was not taken; what was said instead may still be of another protocol.
    fn not_this(&mut self, wire: &Wire, how: Broken) -> Option<Recognised> {
        self.heard |= self.visit.listen(wire);
        self.broken = self.broken.or(Some(how));
        by_first_bytes(wire.opening())
    }
}

/// HTTP servers answer nonsense by a status line, and mail servers greet late.
fn by_first_bytes(bytes: &[u8]) -> Option<Recognised> {
    let starts = |words: &[&str]| words.iter().any(|word| bytes.starts_with(word.as_bytes()));
    if starts(&["HTTP/"]) {
        Some(Service::HttpProxy.into())
    } else if starts(&["220 ", "220-", "421 ", "554 ", "554-"]) {
        Some(Service::Smtp.into())
    } else {
        None
    }
}
