//! The meaning of refusals. Pure.

use ajar_model::{Reply, evidence::Broken};

use super::{codec as smtp, turned_away};

/// Returns the meaning of a reply that is no success.
pub(super) fn refusal(reply: &smtp::Reply) -> Reply {
    let code = reply.code;
    match code {
        // RFC 3207 section 4: it wants TLS first, not credentials.
        530 if reply.mentions("STARTTLS") => Reply::Broken { how: Broken::Tls },
        530 | 534 | 535 | 538 => Reply::AuthRequired { code },
        400..=499 if is_about_names(reply) || is_about_relaying(reply) => Reply::Refused { code },
        400..=499 => Reply::Temporary { code },
        500..=599 => Reply::Refused { code },
        _ => Reply::Broken {
            how: Broken::Garbled,
        },
    }
}

/// Returns whether a server takes no more recipients in one mail (RFC 5321 section 4.5.3.1.10).
pub(super) fn is_full(reply: Reply) -> bool {
    matches!(reply, Reply::Temporary { code: 452 })
}

/// Returns whether a server refuses us, and not to relay.
pub(super) fn is_turned_away(reply: &smtp::Reply) -> bool {
    let is_refusal = matches!(
        refusal(reply),
        Reply::Refused { .. } | Reply::Temporary { .. }
    );
    is_refusal && !is_about_relaying(reply) && turned_away::is_of_us(reply)
}

/// Returns whether the server cannot find the domain of the sender or of the recipient, or
/// dislikes how the sender is written (RFC 3463 section 3.2: X.1.2, X.1.7, X.1.8). Servers call
/// that temporary, since it may be the DNS; the domain that does not exist today will not exist
/// later either.
fn is_about_names(reply: &smtp::Reply) -> bool {
    matches!(reply.enhanced, Some([4, 1, 2 | 7 | 8]))
}

/// Returns whether a server will not relay, and says so in a way that lets mail wait for its
/// operator to mend that: Postfix as it comes (defer_unauth_destination), or with soft_bounce,
/// Sendmail for clients whose names it cannot look up.
pub(super) fn is_about_relaying(reply: &smtp::Reply) -> bool {
    let mut refusals = ["denied", "not permitted", "not allowed", "prohibited"].iter();
    reply.mentions("relay") && refusals.any(|word| reply.mentions(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_weighed_by_its_code() {
        let check = |code: u16, text: &str, expect: Reply| {
            let reply = smtp::Reply {
                code,
                enhanced: smtp::enhanced(text),
                lines: vec![text.to_owned()],
            };
            assert_eq!(refusal(&reply), expect, "{code} {text}");
        };
        check(
            530,
            "5.7.0 Authentication required",
            Reply::AuthRequired { code: 530 },
        );
        check(535, "", Reply::AuthRequired { code: 535 });
        check(
            530,
            "5.7.0 Must issue a STARTTLS command first",
            Reply::Broken { how: Broken::Tls },
        );
        check(450, "greylisted", Reply::Temporary { code: 450 });
        check(421, "", Reply::Temporary { code: 421 });
        check(
            450,
            "4.1.8 sender's domain not found",
            Reply::Refused { code: 450 },
        );
        check(
            450,
            "4.1.1 verification in progress",
            Reply::Temporary { code: 450 },
        );
        check(
            454,
            "4.7.1 <u@canary.test>: Relay access denied",
            Reply::Refused { code: 454 },
        );
        check(
            450,
            "4.7.1 <u@canary.test>... Relaying temporarily denied. Cannot resolve PTR record",
            Reply::Refused { code: 450 },
        );
        check(
            454,
            "4.7.0 TLS not available",
            Reply::Temporary { code: 454 },
        );
        check(550, "5.7.1 relaying denied", Reply::Refused { code: 550 });
        check(
            250,
            "out of turn",
            Reply::Broken {
                how: Broken::Garbled,
            },
        );
        check(
            354,
            "out of turn",
            Reply::Broken {
                how: Broken::Garbled,
            },
        );
    }
}
