//! Abuse reports in X-ARF version 4, one JSON object a line: what is open, as category `vulnerability`, type `open_service`.

use std::io::Write;

use ajar_model::Finding;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Format, Out, Reporter, Writer, escaped, name, one_file};
use crate::exit::refuse;

pub const FORMAT: Format = Format {
    name: "xarf",
    help: "X-ARF 4 reports of what is open, one a line; needs --reporter",
    for_owners: true,
    prepare: |options| {
        let Some(reporter) = options.reporter.clone() else {
            return refuse(
                "X-ARF reports name who reports: give --reporter 'Example Net <abuse@example.net>'",
            );
        };
        one_file(options, |out| Box::new(Reports { out, reporter }))
    },
};

struct Reports {
    out: Out,
    reporter: Reporter,
}

impl Writer for Reports {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        escaped::to_writer(&mut self.out, &report(finding, &self.reporter)?)?;
        Ok(self.out.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

/// Returns a finding for an owner, who need not be able to send its nonces again.
fn without_nonces(finding: &Finding) -> Finding {
    let mut shown = finding.clone();
    let confirmation = shown.confirmation.iter_mut();
    let proofs = confirmation.map(|confirmation| &mut confirmation.proof);
    for proof in proofs.chain(&mut shown.proof) {
        proof.nonce = proof.nonce.cut_short();
    }
    shown
}

fn report(finding: &Finding, reporter: &Reporter) -> anyhow::Result<Value> {
    let mut evidence = Vec::new();
    escaped::to_writer(&mut evidence, &without_nonces(finding))?;
    let digest: [u8; 32] = Sha256::digest(&evidence).into();
    let at = finding
        .proof
        .as_ref()
        .map_or(finding.last_seen, |proof| proof.received_at);
    let again = finding
        .confirmation
        .as_ref()
        .map_or_else(String::new, |again| {
            format!(" and again at {:.0}", again.proof.received_at)
        });
    let Reporter {
        organization,
        contact,
        domain,
    } = reporter;
    let who = json!({"org": organization, "contact": contact, "domain": domain});
    let exposure = name(&finding.exposure).replace('_', " ");
    Ok(json!({
        "xarf_version": "4.0.0",
        "report_id": uuid(&digest),
        "timestamp": at.to_string(),
        "reporter": who,
        "sender": who,
        "source_identifier": finding.ip.to_string(),
        "source_port": finding.port,
        "category": "vulnerability",
        "type": "open_service",
        "service": name(&finding.service),
        "evidence_source": "vulnerability_scan",
        "confidence": 1.0,
        "description": format!(
            "{exposure} on port {} ({}): what was sent to it for a stranger arrived at the reporter's own server at {at:.0}{again}",
            finding.port,
            name(&finding.service),
        ),
        "evidence": [{
            "content_type": "application/json",
            "description": "the finding, with the receipts that prove it",
            "payload": STANDARD.encode(&evidence),
            "hash": format!("sha256:{}", hex(&digest)),
            "size": evidence.len(),
        }],
    }))
}

/// The same evidence has the same report id: the bits of a hash in the form of a random UUID (RFC 9562 section 5.4).
fn uuid(digest: &[u8; 32]) -> String {
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("half of 32");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
