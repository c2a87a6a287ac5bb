//! Why what was received or accepted does not settle a verdict.

use serde::{Deserialize, Serialize};

/// Why the judge does not call an endpoint open although something reached the canary, or why an
/// open endpoint may be shut to strangers. Closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It leads to the canary whatever is asked of it: a fixed forward, and no relay or proxy.
    LeadsToCanary,
    /// A check on the receipt could not be made.
    Unchecked,
    /// Mail to one of the canary's domains arrived, and none to the other: the server may be in
    /// charge of the one.
    OneDomain,
    /// It passed on what it was given once, and not when it was asked again later.
    NotAgain,
    /// It took a recipient that may as well be a mailbox of its own, and it takes any.
    TakesAnyMailbox,
    /// It turned away our address or our name. It may relay for others.
    TurnedAway,
    /// It leads to the canary by one name, and not by another. It may know that one name alone.
    OneName,
    /// It is open to us, and it may trust our address. It may be shut to strangers.
    Inside,
    /// It relays to the canary's domains, and refused to relay to the canary's address. It may be
    /// in charge of those domains.
    OurDomains,
    /// It offered to relay, and the authorization did not let us try.
    NotAsked,
    /// It took a mail, and the canary does not listen on the port that relays deliver to.
    CanaryPort,
}

impl Doubt {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::LeadsToCanary => "leads_to_canary",
            Doubt::Unchecked => "unchecked",
            Doubt::OneDomain => "one_domain",
            Doubt::NotAgain => "not_again",
            Doubt::TakesAnyMailbox => "takes_any_mailbox",
            Doubt::TurnedAway => "turned_away",
            Doubt::OneName => "one_name",
            Doubt::Inside => "inside",
            Doubt::OurDomains => "our_domains",
            Doubt::NotAsked => "not_asked",
            Doubt::CanaryPort => "canary_port",
        }
    }

    /// What it means, in a clause.
    pub fn explained(self) -> &'static str {
        match self {
            Doubt::LeadsToCanary => {
                "it leads to the canary whatever is asked of it, and nowhere else"
            }
            Doubt::Unchecked => "the canary was reached, and the check on that could not be made",
            Doubt::OneDomain => {
                "mail to one of the canary's domains arrived, and none to the other: it may be in charge of that domain"
            }
            Doubt::NotAgain => {
                "the canary was reached once, and not when the same was asked for again later"
            }
            Doubt::TakesAnyMailbox => {
                "it takes mail for any mailbox of its own, and took ours for one; nothing was relayed"
            }
            Doubt::TurnedAway => {
                "it turned away our address or our name (a block list, a missing PTR record, our HELO, a ban after some refusals), \
                 and may relay for others"
            }
            Doubt::OneName => {
                "it leads to the canary by one of its names, and not by another: it may know that one alone"
            }
            Doubt::Inside => {
                "it is open to us, who asked from inside (its own machine or network, private space, or the audited networks); \
                 ask from outside whether it is open to strangers"
            }
            Doubt::OurDomains => {
                "it relays to the canary's domains, and refused to relay to the canary's address: it may be in charge of those domains"
            }
            Doubt::NotAsked => {
                "it offered to relay datagrams at a port that the authorization does not name, so nothing was sent; \
                 sign such ports with `ajar authorize --relay-ports`"
            }
            Doubt::CanaryPort => {
                "it took a mail, and the canary did not have port 25, which relays deliver to: give ajar the right to that port \
                 (root, or CAP_NET_BIND_SERVICE), and end what else has it, another scan for example"
            }
        }
    }
}
