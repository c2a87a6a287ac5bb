//! Comma-separated values with the columns of Shadowserver's reports, one file for each report, for the tools that read those.
//!
//! There is no report of open relays: ours is `scan_smtp_relay`, in the same columns and the banner. Gateways that are neither HTTP
//! nor SOCKS are in `scan_open_proxy`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use ajar_model::{Finding, Timestamp};

use super::{Format, Writer, harmless, name};
use crate::exit::{OrRefuse, refuse};

pub const FORMAT: Format = Format {
    name: "shadowserver",
    help: "What is open, in the columns of Shadowserver's reports; -o names a directory",
    for_owners: true,
    prepare: |options| {
        let directory = options.output.clone();
        if directory.as_os_str() == "-" {
            return refuse("this format writes a file for each report: name a directory with -o");
        }
        let shown = directory.display();
        let made = fs::create_dir_all(&directory);
        made.map_err(|error| format!("{shown} cannot be made: {error}"))
            .or_refuse()?;
        Ok(Box::new(move || {
            Ok(Box::new(Reports {
                directory,
                rows: BTreeMap::new(),
            }))
        }))
    },
};

/// The columns of every report.
const COMMON: [&str; 14] = [
    "timestamp",
    "severity",
    "ip",
    "protocol",
    "port",
    "hostname",
    "tag",
    "asn",
    "geo",
    "region",
    "city",
    "naics",
    "hostname_source",
    "sector",
];
/// Those of `scan_http_proxy` beside.
const HTTP: [&str; 11] = [
    "http",
    "http_code",
    "http_reason",
    "content_type",
    "connection",
    "proxy_authenticate",
    "via",
    "server",
    "content_length",
    "transfer_encoding",
    "http_date",
];

struct Reports {
    directory: PathBuf,
    /// By the report's name.
    rows: BTreeMap<String, Vec<Finding>>,
}

impl Writer for Reports {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let rows = self.rows.entry(report(finding)).or_default();
        rows.push(finding.clone());
        Ok(())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        for (report, rows) in self.rows {
            let newest = rows.iter().map(|finding| finding.last_seen).max();
            let day = newest.unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d");
            let path = self.directory.join(format!("{day}-{report}-ajar.csv"));
            let mut out = csv::Writer::from_path(&path)?;
            let (http, relay) = (
                report.ends_with("http_proxy"),
                report.ends_with("smtp_relay"),
            );
            let mut header = COMMON.to_vec();
            if http {
                header.extend(HTTP);
            }
            if relay {
                header.push("banner");
            }
            out.write_record(&header)?;
            for finding in &rows {
                let mut record = common(finding);
                if relay {
                    let banner = finding.banner.as_ref();
                    record.push(banner.map(|banner| banner.clean()).unwrap_or_default());
                }
                record.resize(header.len(), String::new());
                out.write_record(record.iter().map(|cell| harmless(cell)))?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// The report that a finding belongs to; Shadowserver reports the families apart.
fn report(finding: &Finding) -> String {
    let family = if finding.ip.is_ipv4() {
        "scan"
    } else {
        "scan6"
    };
    let kind = match name(&finding.service).as_str() {
        "smtp" => "smtp_relay",
        "http-proxy" => "http_proxy",
        "socks4" | "socks5" => "socks",
        _ => "open_proxy",
    };
    format!("{family}_{kind}")
}

/// Names, places and numbers of networks are for others to add.
fn common(finding: &Finding) -> Vec<String> {
    let sends_mail = finding
        .variants
        .iter()
        .any(|variant| variant.ends_with(":25"));
    let severity = match name(&finding.exposure).as_str() {
        "open_relay" => "high",
        _ if sends_mail => "high",
        _ => "medium",
    };
    let at = finding
        .proof
        .as_ref()
        .map_or(finding.last_seen, |proof| proof.received_at);
    let mut record = vec![
        at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        severity.to_owned(),
        finding.ip.to_string(),
        finding.transport.clone(),
        finding.port.to_string(),
        String::new(),
        format!("{};{}", name(&finding.service), finding.probe),
    ];
    record.resize(COMMON.len(), String::new());
    record
}
