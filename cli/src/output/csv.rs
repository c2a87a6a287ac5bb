//! Comma-separated values with a header.

use ajar_model::Finding;

use super::{Format, Out, Writer, harmless, name, one_file};

pub const FORMAT: Format = Format {
    name: "csv",
    help: "Comma-separated values with a header",
    for_owners: false,
    prepare: |options| {
        one_file(options, |out| {
            Box::new(Csv {
                out: csv::Writer::from_writer(out),
                has_header: false,
            })
        })
    },
};

struct Csv {
    out: csv::Writer<Out>,
    has_header: bool,
}

impl Csv {
    fn header(&mut self) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.has_header, true) {
            self.out.write_record(COLUMNS)?;
        }
        Ok(())
    }
}

impl Writer for Csv {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.header()?;
        Ok(self
            .out
            .write_record(record(finding).map(|cell| harmless(&cell)))?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.header()?;
        Ok(self.out.flush()?)
    }
}

const COLUMNS: [&str; 24] = [
    "id",
    "campaign",
    "ip",
    "port",
    "transport",
    "service",
    "exposure",
    "verdict",
    "probe",
    "variants",
    "proof_kind",
    "proof_received_at",
    "egress_ip",
    "banner",
    "tls",
    "vantage",
    "first_seen",
    "last_seen",
    "doubt",
    "cpe",
    "outdated",
    "confirmed_at",
    "anonymity",
    "cause",
];

fn record(finding: &Finding) -> [String; 24] {
    let (proof, product) = (finding.proof.as_ref(), finding.product.as_ref());
    [
        finding.id.clone(),
        finding.campaign.to_string(),
        finding.ip.to_string(),
        finding.port.to_string(),
        finding.transport.clone(),
        name(&finding.service),
        name(&finding.exposure),
        finding.verdict.as_str().to_owned(),
        finding.probe.to_string(),
        finding.variants.join(" "),
        name(&proof.map(|proof| proof.kind)),
        proof
            .map(|proof| proof.received_at.to_string())
            .unwrap_or_default(),
        proof
            .map(|proof| proof.egress_ip.to_string())
            .unwrap_or_default(),
        finding
            .banner
            .as_ref()
            .map(|banner| banner.clean())
            .unwrap_or_default(),
        finding.tls.to_string(),
        finding.vantage.clone(),
        finding.first_seen.to_string(),
        finding.last_seen.to_string(),
        name(&finding.doubt),
        product
            .map(|product| product.cpe.clone())
            .unwrap_or_default(),
        product
            .and_then(|product| product.outdated)
            .map(|outdated| outdated.to_string())
            .unwrap_or_default(),
        finding
            .confirmation
            .as_ref()
            .map(|again| again.proof.received_at.to_string())
            .unwrap_or_default(),
        name(&proof.and_then(|proof| proof.anonymity)),
        name(&finding.cause),
    ]
}
