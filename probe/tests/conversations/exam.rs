//! An examination of scripted peers, and what it found.

use std::{future::Future, net::SocketAddr, time::Duration};

use ajar_model::{
    CampaignId, Canary, Effort, Evidence, Nonce, NonceKey, ProbeId, Sighting, Tier, Timestamp,
    Untrusted, Verdict,
    evidence::{Attempt, Reply},
    judge::{Judgement, judge},
    proof::Signature64,
};
use ajar_probe::{Brief, Limits, examine, probes};
use futures::FutureExt;
use tokio::time::Instant;

use crate::{
    canary,
    peer::{Conn, Peers},
};

/// What is examined, and how.
pub struct Exam {
    pub port: u16,
    pub tier: Tier,
    pub probes: Vec<ProbeId>,
    pub limits: Limits,
    pub canary: Canary,
    pub connections: usize,
    pub claims: bool,
    pub names: Vec<String>,
    pub effort: Effort,
}

impl Exam {
    /// All probes that every canary can serve, at tier `deliver`.
    pub fn of(port: u16) -> Self {
        Self {
            port,
            tier: Tier::Deliver,
            probes: probes()
                .filter(|probe| probe.needs().is_none())
                .map(|probe| probe.id())
                .collect(),
            limits: Limits::default(),
            canary: canary::model(),
            connections: usize::MAX,
            claims: true,
            names: Vec::new(),
            effort: Effort::Normal,
        }
    }

    pub fn tier(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }

    pub fn only(self, probes: &[&'static str]) -> Self {
        let probes = probes
            .iter()
            .map(|probe| ProbeId::from_static(probe))
            .collect();
        Self { probes, ..self }
    }

    /// Examines peers that all follow one script.
    pub async fn run<F>(self, script: impl Fn(Conn) -> F + Send + Sync + 'static) -> Examined
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let peers = Peers::new(script, self.connections);
        let brief = Brief {
            endpoint: SocketAddr::new("192.0.2.1".parse().unwrap(), self.port),
            campaign: CampaignId(ulid::Ulid::from_parts(1, 1)),
            key: &NonceKey([9; 32]),
            vantage: "test",
            round: 0,
            canary: &self.canary,
            tier: self.tier,
            claims: self.claims,
            our_name: "audit.example",
            names: &self.names,
            effort: self.effort,
            dial: &peers,
            limits: self.limits,
        };
        let began = Instant::now();
        // Boxed, as a worker spawns it: it must be Send.
        let rows = examine(&brief, peers.open().unwrap(), &self.probes)
            .boxed()
            .await;
        Examined {
            rows,
            took: began.elapsed(),
            sent: peers
                .records()
                .iter()
                .map(|record| record.sent.lock().unwrap().clone())
                .collect(),
            taken: peers
                .records()
                .iter()
                .map(|record| *record.taken.lock().unwrap())
                .collect(),
        }
    }
}

/// What an examination found, and what it took.
pub struct Examined {
    pub rows: Vec<(ProbeId, Evidence)>,
    pub took: Duration,
    /// What was sent, by connection.
    pub sent: Vec<Vec<u8>>,
    /// How many bytes were taken, by connection.
    pub taken: Vec<usize>,
}

impl Examined {
    pub fn probes(&self) -> Vec<&str> {
        self.rows.iter().map(|(probe, _)| probe.as_str()).collect()
    }

    pub fn evidence(&self, probe: &str) -> &Evidence {
        let row = self.rows.iter().find(|(id, _)| id.as_str() == probe);
        &row.unwrap_or_else(|| panic!("no row {probe} in {:?}", self.probes()))
            .1
    }

    /// The verdict if no mail was received.
    pub fn verdict(&self, probe: &str) -> Verdict {
        self.judgement(probe).verdict
    }

    /// The judgement if no mail was received.
    pub fn judgement(&self, probe: &str) -> Judgement {
        judge(self.evidence(probe), &[], &canary::model().key)
    }

    /// The variants that were proven.
    pub fn proven(&self, probe: &str) -> Vec<String> {
        let judgement = self.judgement(probe);
        assert_eq!(
            judgement.verdict,
            Verdict::Open,
            "{:?}",
            self.evidence(probe).attempts
        );
        judgement.variants
    }

    /// The verdict if the canary received the mail of the variant.
    pub fn verdict_with_mail(&self, probe: &str, variant: &str) -> Verdict {
        let nonce = self.attempt(probe, variant).nonce;
        self.judgement_with_mails(probe, &[nonce], "").verdict
    }

    /// The judgement if the canary received mails with these nonces, and with this header.
    pub fn judgement_with_mails(&self, probe: &str, nonces: &[Nonce], header: &str) -> Judgement {
        let sighting = |nonce: &Nonce| Sighting {
            nonce: *nonce,
            egress_ip: "192.0.2.1".parse().unwrap(),
            received_at: Timestamp::UNIX_EPOCH,
            helo: Untrusted::default(),
            mail_from: Untrusted::default(),
            rcpt_to: Untrusted::default(),
            header: header.to_owned().into(),
            signature: Signature64::default(),
        };
        let sighting = |nonce: &Nonce| sighting(nonce).signed(&canary::key());
        let sightings: Vec<Sighting> = nonces.iter().map(sighting).collect();
        judge(self.evidence(probe), &sightings, &canary::model().key)
    }

    pub fn attempt(&self, probe: &str, variant: &str) -> &Attempt {
        let attempts = &self.evidence(probe).attempts;
        let attempt = attempts.iter().find(|attempt| attempt.variant == variant);
        attempt.unwrap_or_else(|| panic!("no {variant} in {attempts:?}"))
    }

    /// Variants with their replies.
    pub fn replies(&self, probe: &str) -> Vec<(&str, Reply)> {
        let attempts = self.evidence(probe).attempts.iter();
        attempts
            .map(|attempt| (attempt.variant.as_str(), attempt.reply))
            .collect()
    }

    /// Everything that was sent, as text.
    pub fn said(&self) -> String {
        self.sent
            .iter()
            .map(|sent| String::from_utf8_lossy(sent))
            .collect()
    }

    /// How often a line that begins so was sent.
    pub fn count(&self, start: &str) -> usize {
        self.said()
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
    }
}
