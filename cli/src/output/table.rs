//! A table for people: one line for each endpoint, coloured on a terminal (unless NO_COLOR is set, see no-color.org).

use std::io::{IsTerminal, Write};

use ajar_model::{CampaignId, Finding, Timestamp, Verdict};
use comfy_table::{CellAlignment, Table, presets};

use super::{Format, Out, Writer, name, one_file};

pub const FORMAT: Format = Format {
    name: "table",
    help: "For people",
    for_owners: false,
    prepare: |options| {
        let on_terminal = options.output.as_os_str() == "-" && std::io::stdout().is_terminal();
        let wide = options.wide;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        one_file(options, move |out| {
            Box::new(ForPeople {
                out,
                table: empty_table(wide),
                rows: Vec::new(),
                colored: on_terminal && !no_color,
                wide,
            })
        })
    },
};

struct ForPeople {
    out: Out,
    table: Table,
    rows: Vec<(CampaignId, Verdict)>,
    colored: bool,
    /// Ids and times are shown.
    wide: bool,
}

impl ForPeople {
    /// The header and the rows, each in the colour of its verdict. Rows of several campaigns are
    /// grouped under a line of each.
    fn lines(&self) -> Vec<String> {
        let mut table = self.table.lines();
        let header = table.next().unwrap_or_default();
        let mut lines = vec![header.trim_end().to_owned()];
        let mut campaigns = self.rows.iter().map(|(campaign, _)| campaign);
        let first = campaigns.next();
        let are_several = campaigns.any(|campaign| Some(campaign) != first);
        let mut last = None;
        for ((campaign, verdict), line) in self.rows.iter().zip(table) {
            if are_several && last != Some(campaign) {
                lines.push(format!("campaign {campaign}, begun {}", begun(*campaign)));
                last = Some(campaign);
            }
            let line = line.trim_end();
            lines.push(match self.colored {
                true => format!("{}{line}\x1b[0m", style(*verdict)),
                false => line.to_owned(),
            });
        }
        lines
    }
}

impl Writer for ForPeople {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let mut cells = row(finding).to_vec();
        if self.wide {
            cells.push(minute(finding.last_seen));
            cells.push(finding.id.clone());
        }
        self.table.add_row(cells);
        self.rows.push((finding.campaign, finding.verdict));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        match self.rows.is_empty() {
            true => writeln!(self.out, "no endpoint answered")?,
            false => writeln!(self.out, "{}", self.lines().join("\n"))?,
        }
        Ok(self.out.flush()?)
    }
}

/// The graver, the louder.
fn style(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Open => "\x1b[1;31m",
        Verdict::Unproven => "\x1b[33m",
        Verdict::Protected | Verdict::Closed => "\x1b[32m",
        Verdict::Inconclusive | Verdict::NotAService | Verdict::Unresponsive => "\x1b[2m",
    }
}

fn empty_table(wide: bool) -> Table {
    let mut table = Table::new();
    let mut header = vec![
        "ADDRESS",
        "PORT",
        "SERVICE",
        "VERDICT",
        "PROVEN BY",
        "VARIANTS",
    ];
    if wide {
        header.extend(["LAST SEEN", "ID"]);
    }
    table.load_preset(presets::NOTHING).set_header(header);
    if let Some(address) = table.column_mut(0) {
        address.set_padding((0, 1));
    }
    if let Some(port) = table.column_mut(1) {
        port.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// When a campaign was submitted: its id says so.
fn begun(campaign: CampaignId) -> String {
    let millis = i64::try_from(campaign.0.timestamp_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).map_or_else(|_| "long ago".to_owned(), minute)
}

/// A time to the minute.
pub fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn row(finding: &Finding) -> [String; 6] {
    let proof = finding.proof.as_ref().map_or_else(String::new, |proof| {
        let how = match proof.kind {
            ajar_model::proof::Kind::Mail => "mail from",
            ajar_model::proof::Kind::Tunnel => "tunnel from",
            ajar_model::proof::Kind::Fetch => "fetch from",
        };
        let times = match finding.confirmation {
            Some(_) => " x2",
            None => "",
        };
        format!("{how} {}{times}", proof.egress_ip)
    });
    [
        finding.ip.to_string(),
        finding.port.to_string(),
        name(&finding.service),
        finding.verdict.as_str().to_owned(),
        proof,
        variants(finding),
    ]
}

/// What opened the door, why it is not called open, or how many ways were tried: `ajar findings show` says more.
fn variants(finding: &Finding) -> String {
    if let Some(doubt) = finding.doubt {
        return doubt.as_str().replace('_', " ");
    }
    match (finding.verdict, &finding.variants[..]) {
        (_, []) => String::new(),
        (Verdict::Open, [only]) => cut(only, MOST),
        (Verdict::Open, [first, others @ ..]) => {
            let more = format!(" +{}", others.len());
            cut(first, MOST - more.len()) + &more
        }
        (_, tried) => format!("{} tried", tried.len()),
    }
}

/// Characters of the last column: with two IPv4 addresses a row then fits a hundred.
const MOST: usize = 17;

fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a table of these rows says: variants, verdict, and whether there is a proof.
    fn lines(rows: &[(&[&str], &str)], colored: bool) -> Vec<String> {
        let mut table = ForPeople {
            out: Box::new(std::io::sink()),
            table: empty_table(false),
            rows: Vec::new(),
            colored,
            wide: false,
        };
        for (variants, verdict) in rows {
            let proof = match *verdict {
                "open" => {
                    r#"{"kind": "tunnel", "nonce": "00112233445566778899aabbccddeeff",
                        "received_at": "2026-11-24T20:00:00Z", "egress_ip": "198.151.100.123"}"#
                }
                _ => "null",
            };
            let confirmation = match proof {
                "null" => "null".to_owned(),
                proof => proof.replace('{', r#"{"vantage": "local", "#),
            };
            let text = format!(
                r#"{{"id": "0", "campaign": "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P", "ip": "198.151.100.123", "port": 65535,
                "transport": "tcp", "service": "http-proxy", "exposure": null, "verdict": {verdict:?},
                "probe": "http-connect", "variants": {variants:?}, "proof": {proof}, "product": null, "banner": null,
                "confirmation": {confirmation}, "tls": false, "vantage": "local", "first_seen": "2026-11-24T20:00:00Z",
                "last_seen": "2026-11-24T20:00:00Z", "attempts": 1}}"#
            );
            table.write(&serde_json::from_str(&text).unwrap()).unwrap();
        }
        table.lines()
    }

    #[test]
    fn a_row_fits_a_hundred_columns() {
        let many = ["connect-name:65535"; 23];
        let lines = lines(
            &[
                (&many, "open"),
                (&many, "inconclusive"),
                (&[], "not_a_service"),
            ],
            false,
        );
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(lines[1].ends_with(" connect-name… +22"), "{}", lines[1]);
        assert!(lines[2].ends_with("23 tried"), "{}", lines[2]);
        assert!(lines[3].ends_with("not_a_service"), "{}", lines[3]);
    }

    #[test]
    fn colours_are_for_terminals() {
        let rows: [(&[&str], &str); 2] = [(&["get:80"], "open"), (&["get:80"], "closed")];
        assert!(
            lines(&rows, false)
                .iter()
                .all(|line| !line.contains('\x1b'))
        );
        let colored = lines(&rows, true);
        assert!(!colored[0].contains('\x1b'));
        assert!(colored[1].starts_with("\x1b[1;31m") && colored[1].ends_with("\x1b[0m"));
        assert!(colored[2].starts_with("\x1b[32m"));
    }
}
