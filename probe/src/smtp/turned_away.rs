//! Refusals of us: a server that turns away our address or our name has said nothing about
//! relaying. No standard says how that is written; these are the ways of servers in use. Pure.

use super::codec as smtp;

/// Words that name a list of addresses, or what a server misses in our name.
const WORDS: [&str; 12] = [
    "dnsbl",
    "rbl",
    "rbldns",
    "blacklist",
    "blacklisted",
    "blocklist",
    "blocklisted",
    "ptr",
    "rdns",
    "helo",
    "ehlo",
    "banned",
];

const PHRASES: [&str; 11] = [
    "blocked using",
    "spamhaus",
    "spamcop",
    "barracuda",
    "block list",
    "black list",
    "reputation",
    "reverse dns",
    "reverse hostname",
    "reverse lookup",
    "dynamic ip",
];

/// Returns whether a refusal is of our address or our name. RFC 7372 has codes for some of its
/// reasons.
pub(super) fn is_of_us(reply: &smtp::Reply) -> bool {
    if matches!(reply.enhanced, Some([4 | 5, 7, 25..=27])) {
        return true;
    }
    let text = reply.lines.join(" ").to_ascii_lowercase();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| WORDS.contains(&word)) || PHRASES.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: bool) {
        let reply = smtp::Reply {
            code: 550,
            enhanced: smtp::enhanced(text),
            lines: vec![text.to_owned()],
        };
        assert_eq!(is_of_us(&reply), expect, "{text}");
    }

    #[test]
    fn refusals_of_an_address_or_a_name_are_known() {
        check(
            "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
            true,
        );
        check(
            "5.7.1 Client host rejected: cannot find your reverse hostname",
            true,
        );
        check("5.7.25 Sender address not accepted", true);
        check(
            "5.5.2 <x>: Helo command rejected: need fully-qualified hostname",
            true,
        );
        check("Fix your PTR record", true);
        check("5.7.1 [192.0.2.1] is on our RBL", true);
        check("Bad IP reputation", true);
    }

    #[test]
    fn refusals_to_relay_are_none() {
        check("5.7.1 <u@canary.test>: Relay access denied", false);
        check("relay not permitted", false);
        check("5.1.1 no such mailbox at helios.example", false);
        check(
            "Sorry, that domain isn't in my list of allowed rcpthosts",
            false,
        );
    }
}
