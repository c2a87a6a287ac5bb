//! The connections to one mail server: their openings, their number and their end.

use ajar_model::{Reply, Tier, evidence::Broken};

use super::{
    Smtp,
    heard::Heard,
    line::{Failure, Introduction, Line, StartTls},
    mail::Connection,
    variant::Opening,
};
use crate::{examination::Examination, preface::Preface};

/// Connections for one conversation, the first and the one after a failed STARTTLS included.
const MAX_LINES: usize = 16;

/// Connections that the server may cut off before it is left in peace.
const MAX_CUTS: usize = 6;

/// Refusals after which a failed connection counts as a ban. Programs that watch logs ban a client
/// after three to five (fail2ban).
const MAY_BAN_AFTER: usize = 3;

/// The connections to one server.
pub(super) struct Lines<'r, 'v> {
    pub(super) examination: &'r mut Examination<'v>,
    /// An open connection, and how it began.
    line: Option<(Opening, Line)>,
    lines_left: usize,
    cuts_left: usize,
    refusals: usize,
    starttls: StartTls,
    /// The server makes us wait on connections on which it has refused something.
    is_tarpit: bool,
    /// The server takes a second greeting by another name.
    may_introduce: bool,
    /// Some connection was inside TLS.
    pub(super) tls: bool,
    /// The number of refusals before the server shut us out.
    pub(super) shut_out_after: Option<usize>,
}

impl<'r, 'v> Lines<'r, 'v> {
    pub(super) fn new(examination: &'r mut Examination<'v>) -> Self {
        Self {
            examination,
            line: None,
            lines_left: MAX_LINES,
            cuts_left: MAX_CUTS,
            refusals: 0,
            starttls: StartTls::Modern,
            is_tarpit: false,
            may_introduce: true,
            tls: false,
            shut_out_after: None,
        }
    }

    /// Opens a connection that begins that way. `host` is the server's own name.
    pub(super) async fn connect(&mut self, opening: Opening, host: &str) -> Result<Line, Failure> {
        while self.lines_left > 0 && self.cuts_left > 0 {
            self.lines_left -= 1;
            let brief = self.examination.brief();
            let peer = match (self.examination.peer(), opening) {
                (peer, Opening::Certificate) => peer.with_certificate(),
                (peer, _) => peer,
            };
            let wire = self.examination.open_to(&Smtp, peer.clone()).await?;
            let introduction = Introduction {
                name: opening.name(brief.our_name, host),
                peer,
                starttls: match opening {
                    Opening::Plain => StartTls::Never,
                    _ => self.starttls,
                },
                xclient: opening == Opening::Xclient,
            };
            match Line::greet(wire, &introduction).await {
                Err(Failure::Starttls(how)) => {
                    self.starttls = match (self.starttls, how) {
                        (StartTls::Modern, Broken::Tls) => StartTls::Old,
                        _ => StartTls::Never,
                    };
                }
                Ok(line) => {
                    self.tls |= line.is_tls();
                    return Ok(line);
                }
                failed => return failed,
            }
        }
        Err(Failure::Broke(Broken::Connect))
    }

    /// Opens a connection to a server that waits for a PROXY header.
    pub(super) async fn connect_through_proxy(&mut self) -> Option<Line> {
        let brief = self.examination.brief();
        let may = brief.claims && brief.tier >= Tier::Envelope;
        if !may || !self.examination.may_want_a_preface() {
            return None;
        }
        self.examination.preface(Some(Preface::Text));
        let connected = self.connect(Opening::Usual, "").await;
        if connected.is_err() {
            self.examination.preface(None);
        }
        connected.ok()
    }

    /// Returns a connection that began that way: the open one if the server takes a second
    /// greeting, or else a new one.
    pub(super) async fn get(&mut self, opening: Opening, host: &str) -> Result<Line, Heard> {
        if let Some((known, mut line)) = self.line.take() {
            if known == opening {
                return Ok(line);
            }
            let by_name = known.is_a_name() && opening.is_a_name() && self.may_introduce;
            let name = opening.name(self.examination.brief().our_name, host);
            if by_name && line.introduce(name).await {
                return Ok(line);
            }
            self.may_introduce &= !by_name;
            self.refusals += line.refusals();
            line.quit().await;
        }
        let may_ask = self.lines_left > 0 && self.cuts_left > 0;
        let connected = self.connect(opening, host).await;
        connected.map_err(|failure| {
            let heard = match &failure {
                Failure::Said(reply) => Heard::at_the_door(reply),
                failure => Reply::Broken { how: how(failure) }.into(),
            };
            let is_for_our_name = opening != Opening::Usual && matches!(failure, Failure::Said(_));
            if may_ask && !is_for_our_name && self.refusals >= MAY_BAN_AFTER {
                let refusals = self.refusals;
                let what = format!("shut out after {refusals} refusals: nothing more is asked");
                self.examination.event(&what);
                self.shut_out_after = Some(refusals);
            }
            heard
        })
    }

    /// Keeps a connection for the next mail, if it can carry one.
    pub(super) async fn put_back(&mut self, opening: Opening, line: Line, state: Connection) {
        self.is_tarpit |= line.is_tarpit();
        // A tarpit makes us wait for everything but a new connection.
        let is_slow = self.is_tarpit && line.refusals() > 0;
        if state == Connection::Good && !is_slow {
            self.line = Some((opening, line));
            return;
        }
        self.refusals += line.refusals();
        match state {
            Connection::Cut => self.cuts_left = self.cuts_left.saturating_sub(1),
            _ if is_slow => line.quit_at_once().await,
            _ => line.quit().await,
        }
    }

    /// Returns whether no connection is left.
    pub(super) fn are_over(&self) -> bool {
        self.line.is_none() && (self.lines_left == 0 || self.cuts_left == 0)
    }

    /// Ends the open connection in due form.
    pub(super) async fn leave(&mut self) {
        if let Some((_, line)) = self.line.take() {
            line.quit().await;
        }
    }
}

pub(super) fn how(failure: &Failure) -> Broken {
    match failure {
        Failure::Broke(how) => *how,
        Failure::Starttls(how) => *how,
        Failure::Said(_) => Broken::Closed,
    }
}
