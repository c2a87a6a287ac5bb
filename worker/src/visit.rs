//! One target: connect, converse, observe.

use std::{
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use ajar_model::{
    CampaignId, Evidence, NonceKey, Observation, Outcome, ProbeId, Spec, Tier, Timestamp,
    evidence::Control, proof::Check, space, special,
};
use ajar_probe::{BoxStream, Brief, Limits};
use ajar_sweep::connect;
use futures::FutureExt;

use crate::{
    egress::{Egress, EndpointDial, Refusal, Unvisited},
    greeting::Greeting,
    prefix_slots::PrefixSlots,
    standpoint::Standpoints,
    turn::Turn,
};

/// The probe of observations that say only that a connection was opened.
const DISCOVERED: ProbeId = ProbeId::from_static("connect");

/// What every visit of a lease has in common.
pub struct Visitor {
    pub campaign: CampaignId,
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// The key of its nonces.
    pub key: NonceKey,
    pub vantage: String,
    /// Whether its authorization lets us claim that we connect from loopback.
    pub claims: bool,
    /// What we call ourselves.
    pub greeting: Arc<Greeting>,
    /// 1 for a first visit.
    pub visit: u32,
    /// See [`Observation::round`].
    pub round: u32,
    /// Where connections go out.
    pub egress: Egress,
    /// What a target may cost.
    pub limits: Limits,
    /// True if its targets have answered a SYN.
    pub swept: bool,
    /// Limits the conversations with each prefix.
    pub slots: PrefixSlots,
    /// The addresses of ours that were found to be inside.
    pub standpoints: Arc<Standpoints>,
    /// The coordinator is of an older version, which cannot read all checks.
    pub for_older: bool,
    /// The address that targets see behind NAT, unless they are behind it too.
    pub public_address: Option<IpAddr>,
}

/// What became of a target.
#[derive(Debug)]
pub struct Visited {
    pub outcome: Outcome,
    /// What was observed, one for each probe that ran.
    pub observations: Vec<Observation>,
}

impl Visitor {
    /// Visits a target, unless the lease ended or this machine failed before it was done. `turn` is given back as soon as
    /// the pace has let the first connection go.
    pub async fn visit(&self, endpoint: SocketAddr, turn: Turn) -> Result<Visited, Unvisited> {
        let nothing = |outcome| Visited {
            outcome,
            observations: Vec::new(),
        };
        let started_at = Timestamp::now();
        self.egress.admit(endpoint).await;
        drop(turn);
        let opened = self.egress.open(endpoint).await;
        if self.swept {
            self.egress.tried(&opened);
        }
        let stream = match opened {
            Ok(stream) => stream,
            Err(refusal) => return refused(endpoint, refusal).map(nothing),
        };
        let prefix = space::prefix_of(endpoint.ip());
        let (stream, _place) = match self.slots.try_enter(prefix) {
            Some(place) => (stream, place),
            None => {
                // A connection must not wait unused: its server would time out, or greet into the void.
                drop(stream);
                let place = self.slots.enter(prefix).await;
                match self.egress.connect(endpoint).await {
                    Ok(stream) => (stream, place),
                    Err(refusal) => return refused(endpoint, refusal).map(nothing),
                }
            }
        };
        let from = self.standing(endpoint, stream.local_addr().ok().map(|ours| ours.ip()));
        if let Some(ours) = from.source.filter(|_| from.is_from_inside(endpoint.ip())) {
            self.standpoints.note_inside(ours);
        }
        let dial = EndpointDial::new(&self.egress, endpoint);
        // In a box of its own: most visits never come so far, and would carry its room about.
        let conversation = self
            .converse(endpoint, from.source, &dial, Box::new(stream))
            .boxed();
        let evidence = tokio::select! {
            biased;
            // It is cut off in the middle of a word, and what it said is nobody's business any
            // more.
            () = self.egress.until_excluded(endpoint.ip()) => return Ok(nothing(Outcome::Denied)),
            evidence = AssertUnwindSafe(conversation).catch_unwind() => evidence,
        };
        if let Some(unvisited) = dial.unvisited() {
            return Err(unvisited);
        }
        match evidence {
            Ok(evidence) => Ok(Visited {
                outcome: Outcome::Answered,
                observations: self.observations(endpoint, started_at, &from, evidence),
            }),
            Err(_) => {
                tracing::error!("a probe panicked; the target counts as failed");
                tracing::debug!(%endpoint, "the target whose probe panicked");
                Ok(nothing(Outcome::Failed))
            }
        }
    }

    /// What there is to say of a target that answered a SYN, if no more is asked for.
    pub fn discovered(&self, endpoint: SocketAddr, ours: IpAddr) -> Visited {
        let evidence = vec![(DISCOVERED, Evidence::default())];
        let from = self.standing(endpoint, Some(ours));
        Visited {
            outcome: Outcome::Answered,
            observations: self.observations(endpoint, Timestamp::now(), &from, evidence),
        }
    }

    #[tracing::instrument(name = "probe", skip_all, fields(endpoint = %endpoint))]
    async fn converse(
        &self,
        endpoint: SocketAddr,
        ours: Option<IpAddr>,
        dial: &EndpointDial<'_>,
        stream: BoxStream,
    ) -> Vec<(ProbeId, Evidence)> {
        if self.spec.tier == Tier::Connect {
            return vec![(DISCOVERED, Evidence::default())];
        }
        let names = self.spec.names_of(endpoint.ip());
        let our_name = self.greeting.name(ours).await;
        let brief = Brief {
            endpoint,
            campaign: self.campaign,
            key: &self.key,
            vantage: &self.vantage,
            round: self.round,
            canary: &self.spec.canary,
            tier: self.spec.tier,
            claims: self.claims,
            our_name: our_name.as_deref().unwrap_or(&self.spec.canary.domain),
            names: &names,
            effort: self.spec.effort,
            dial,
            limits: self.limits(),
        };
        ajar_probe::examine(&brief, stream, &self.spec.probes).await
    }

    /// Returns the limits of this visit. One that is visited again had kept silent, broken
    /// off or deferred us; one that is to be confirmed may greet late.
    fn limits(&self) -> Limits {
        match (self.visit, self.round) {
            (1, 0) => self.limits,
            (_, 0) => self.limits.patient(),
            _ => Limits {
                examination: self.limits.examination + self.limits.greeting,
                greeting: self.limits.greeting * 2,
                ..self.limits
            },
        }
    }

    /// Returns evidence of the address of ours, and nothing else.
    fn standing(&self, endpoint: SocketAddr, source: Option<IpAddr>) -> Evidence {
        let public = self.public_address;
        let is_public = special::denied(endpoint.ip()).is_none();
        let source = public.filter(|_| is_public).or(source);
        Evidence {
            source,
            source_in_scope: source.is_some_and(|source| self.egress.covers(source)),
            ..Evidence::default()
        }
    }

    fn observations(
        &self,
        endpoint: SocketAddr,
        started_at: Timestamp,
        from: &Evidence,
        evidence: Vec<(ProbeId, Evidence)>,
    ) -> Vec<Observation> {
        let finished_at = Timestamp::now();
        evidence
            .into_iter()
            .map(|(probe, evidence)| Observation {
                campaign: self.campaign,
                endpoint,
                probe,
                vantage: self.vantage.clone(),
                started_at,
                finished_at,
                visit: self.visit,
                round: self.round,
                evidence: Evidence {
                    controls: match self.for_older {
                        true => known_to_older(evidence.controls),
                        false => evidence.controls,
                    },
                    source: from.source,
                    source_in_scope: from.source_in_scope,
                    ..evidence
                },
            })
            .collect()
    }
}

/// Returns the controls that versions without sessions can read.
fn known_to_older(mut controls: Vec<Control>) -> Vec<Control> {
    controls.retain(|control| {
        !matches!(
            control.check,
            Check::Again | Check::SecondName | Check::Literal
        )
    });
    controls
}

/// What a refused connection, or a refused SYN, means for its target.
pub fn refused(endpoint: SocketAddr, refusal: Refusal) -> Result<Outcome, Unvisited> {
    let outcome = match refusal {
        Refusal::Unvisited(unvisited) => return Err(unvisited),
        Refusal::Denied(denied) => {
            tracing::debug!(%endpoint, %denied, "a target was denied, and nothing was sent");
            Outcome::Denied
        }
        Refusal::Failed(error) => {
            let outcome = connect::outcome(&error);
            if outcome == Outcome::Failed {
                tracing::warn!(%error, "a connection failed for a reason that is not understood");
            }
            outcome
        }
    };
    Ok(outcome)
}
