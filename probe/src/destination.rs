//! Where a proxy is asked to lead to, and in which order. Pure.

use std::{collections::VecDeque, net::SocketAddr};

use ajar_model::{Canary, Reply};

/// What the canary speaks on one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryPort {
    /// The echo page over plain HTTP.
    Http,
    /// The echo page over TLS.
    Https,
    /// The mail sink.
    Smtp,
    /// The raw greeting.
    Raw,
}

/// How the canary is named in a request: some proxies take only one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By its address.
    Literal,
    /// By its domain.
    Name,
}

/// Where a proxy is asked to lead to. There is no way to make one that is not the canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    canary_port: CanaryPort,
    form: Form,
    address: SocketAddr,
    domain: String,
}

impl Destination {
    /// One of the canary's ports.
    pub fn new(canary: &Canary, canary_port: CanaryPort, form: Form) -> Self {
        let port = match canary_port {
            CanaryPort::Http => canary.http,
            CanaryPort::Https => canary.https,
            CanaryPort::Smtp => canary.smtp,
            CanaryPort::Raw => canary.raw,
        };
        Self {
            canary_port,
            form,
            address: canary.at(port),
            domain: canary.domain.clone(),
        }
    }

    /// The canary's address with a port where nobody listens, and what is said to whoever answers for it all the same.
    pub fn unused(canary: &Canary, canary_port: CanaryPort, form: Form) -> Self {
        Self {
            address: canary.at(canary.unused_port()),
            ..Self::new(canary, canary_port, form)
        }
    }

    /// A name under the canary's domain that does not exist, which leads nowhere.
    pub fn missing(canary: &Canary) -> Self {
        Self {
            domain: format!("no-such-host.{}", canary.domain),
            ..Self::new(canary, CanaryPort::Http, Form::Name)
        }
    }

    /// The canary's page by its other domain, if it has one.
    pub fn by_other_domain(canary: &Canary) -> Option<Self> {
        Some(Self {
            domain: canary.other_domain.clone()?,
            ..Self::new(canary, CanaryPort::Http, Form::Name)
        })
    }

    pub fn canary_port(&self) -> CanaryPort {
        self.canary_port
    }

    /// How it is named.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its address and port, however it is named.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `host:port`, in its form.
    pub fn authority(&self) -> String {
        match self.form {
            Form::Literal => self.address.to_string(),
            Form::Name => format!("{}:{}", self.domain, self.address.port()),
        }
    }
}

/// The order in which destinations are tried. Every destination is tried; the second form of naming it only if the first
/// was not proven, and only until the proxy has answered two forms in a row alike.
#[derive(Debug)]
pub struct Plan {
    queue: VecDeque<Destination>,
    second: Option<Form>,
    last: Option<(CanaryPort, Reply)>,
    canary: Canary,
}

impl Plan {
    /// A plan over these destinations, with the forms that the protocol knows for this canary, best first.
    pub fn new(canary: &Canary, destinations: &[CanaryPort], forms: &[Form]) -> Self {
        let first = forms.first().copied();
        let destination =
            |form| move |&canary_port: &CanaryPort| Destination::new(canary, canary_port, form);
        Self {
            queue: first
                .into_iter()
                .flat_map(|form| destinations.iter().map(destination(form)))
                .collect(),
            second: forms.get(1).copied(),
            last: None,
            canary: canary.clone(),
        }
    }

    pub fn take_next(&mut self) -> Option<Destination> {
        self.queue.pop_front()
    }

    /// Tries no second form.
    pub fn keep_to_one_form(&mut self) {
        self.second = None;
    }

    /// Takes note of the answer.
    pub fn answered(&mut self, destination: &Destination, reply: Reply, proven: bool) {
        let repeats = self
            .last
            .is_some_and(|(port, last)| port == destination.canary_port && last == reply);
        self.last = Some((destination.canary_port, reply));
        match self.second {
            Some(second) if second != destination.form && !proven => {
                self.queue.push_front(Destination::new(
                    &self.canary,
                    destination.canary_port,
                    second,
                ));
            }
            Some(_) if repeats => self.second = None,
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const ALL: &[CanaryPort] = &[
        CanaryPort::Http,
        CanaryPort::Https,
        CanaryPort::Smtp,
        CanaryPort::Raw,
    ];
    const BOTH: &[Form] = &[Form::Literal, Form::Name];

    /// The canary of this crate's unit tests.
    pub(crate) fn canary() -> Canary {
        // The generator of Ed25519, which is a valid point.
        let key = "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY";
        Canary {
            domain: "canary.test".to_owned(),
            other_domain: None,
            address: "192.0.2.9".parse().unwrap(),
            smtp: 25,
            http: 80,
            https: 443,
            raw: 7401,
            key: key.parse().unwrap(),
        }
    }

    fn walk(forms: &[Form], answer: impl Fn(&Destination) -> (Reply, bool)) -> Vec<String> {
        let mut plan = Plan::new(&canary(), ALL, forms);
        let mut asked = Vec::new();
        while let Some(destination) = plan.take_next() {
            let (reply, proven) = answer(&destination);
            plan.answered(&destination, reply, proven);
            asked.push(destination.authority());
        }
        asked
    }

    #[test]
    fn a_proven_destination_is_not_asked_for_by_its_other_name() {
        let asked = walk(BOTH, |_| (Reply::Accepted { code: 200 }, true));
        assert_eq!(
            asked,
            [
                "192.0.2.9:80",
                "192.0.2.9:443",
                "192.0.2.9:25",
                "192.0.2.9:7401"
            ]
        );
    }

    #[test]
    fn one_answer_to_both_forms_ends_the_second_form_but_no_destination() {
        let asked = walk(BOTH, |_| (Reply::Refused { code: 403 }, false));
        assert_eq!(
            asked,
            [
                "192.0.2.9:80",
                "canary.test:80",
                "192.0.2.9:443",
                "192.0.2.9:25",
                "192.0.2.9:7401"
            ]
        );
    }

    #[test]
    fn a_proxy_that_takes_only_names_is_asked_by_name_everywhere() {
        let asked = walk(BOTH, |destination| match destination.form() {
            Form::Literal => (Reply::Refused { code: 400 }, false),
            Form::Name => (Reply::Accepted { code: 200 }, true),
        });
        assert_eq!(asked.len(), 8);
    }

    #[test]
    fn a_protocol_with_one_form_asks_once_for_each_destination() {
        let asked = walk(&[Form::Name], |_| (Reply::Refused { code: 91 }, false));
        assert_eq!(asked.len(), 4);
        assert!(
            asked
                .iter()
                .all(|authority| authority.starts_with("canary.test:"))
        );
    }
}
