//! The message that an open relay is given to deliver. Pure.

use ajar_model::{Nonce, Timestamp};
use jiff::fmt::rfc2822::DateTimePrinter;

/// What a message is made of.
pub(super) struct Letter<'a> {
    /// The canary's mailboxes that it is for, at least one: each nonce names a variant.
    pub(super) to: &'a [(Nonce, &'a str)],
    /// The local part of its author's address.
    pub(super) author: Nonce,
    /// The canary's domain that its author is of.
    pub(super) domain: &'a str,
    pub(super) endpoint: std::net::SocketAddr,
    /// What we call ourselves.
    pub(super) our_name: &'a str,
    /// Where to read more.
    pub(super) about: &'a str,
    /// When it is sent.
    pub(super) date: Timestamp,
}

/// The message (RFC 5322). It says what it is to whoever finds it in a queue.
pub(super) fn write(letter: &Letter<'_>) -> String {
    let Letter {
        to,
        author,
        domain,
        endpoint,
        our_name,
        about,
        date,
    } = letter;
    // The printer refuses years beyond 9999 only.
    let date = DateTimePrinter::new()
        .timestamp_to_string(date)
        .unwrap_or_default();
    let nonce = to[0].0;
    let to: Vec<String> = to
        .iter()
        .map(|(nonce, domain)| format!("<{nonce}@{domain}>"))
        .collect();
    let to = to.join(",\n ");
    format!(
        "Date: {date}
From: ajar relay audit <{author}@{domain}>
To: {to}
Message-ID: <{nonce}@{domain}>
Subject: ajar relay test {nonce}
X-Ajar-Nonce: {nonce}
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

This message tests whether the mail server at {endpoint}
relays mail from strangers to strangers. It was sent by {our_name},
and is addressed only to the testers' own mailbox.

If you read it there, the server is an open relay. If you found it in
a queue or a quarantine, you may delete it.

What this is, and whom to tell to stop it:
{about}

Nonce: {nonce}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_carries_its_nonce_in_header_recipient_and_body_and_explains_itself() {
        let nonce: Nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let other: Nonce = "ee112233445566778899aabbccddeeff".parse().unwrap();
        let author: Nonce = "ff112233445566778899aabbccddeeff".parse().unwrap();
        let message = write(&Letter {
            to: &[(nonce, "canary.test"), (other, "canary.example")],
            author,
            domain: "canary.test",
            endpoint: "192.0.2.1:25".parse().unwrap(),
            our_name: "audit.example",
            about: "http://192.0.2.9/.well-known/probing.txt",
            date: Timestamp::from_second(1_790_000_000).unwrap(),
        });
        let (header, body) = message.split_once("\n\n").unwrap();
        assert!(
            header.starts_with("Date: Mon, 21 Sep 2026 14:13:20 -0000\nFrom: "),
            "{header}"
        );
        for field in [
            format!("To: <{nonce}@canary.test>,"),
            format!(" <{other}@canary.example>"),
            format!("X-Ajar-Nonce: {nonce}"),
            format!("Message-ID: <{nonce}@canary.test>"),
        ] {
            assert!(header.lines().any(|line| line == field), "{field}");
        }
        assert!(body.contains(&nonce.to_string()) && body.contains("/.well-known/probing.txt"));
        assert!(message.is_ascii() && message.lines().all(|line| line.len() <= 78));
    }
}
