//! Which second hops a proxy is asked for, and in which order. Pure.

use std::{collections::VecDeque, net::SocketAddr};

use ajar_model::{Canary, Reply};

/// What the canary speaks on one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// The judge over plain HTTP.
    Http,
    /// The judge over TLS.
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

/// A second hop. There is no way to make one that is not the canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    far: Far,
    form: Form,
    address: SocketAddr,
    domain: String,
}

impl Hop {
    /// The hop to one of the canary's ports.
    pub fn new(canary: &Canary, far: Far, form: Form) -> Self {
        let port = match far {
            Far::Http => canary.http,
            Far::Https => canary.https,
            Far::Smtp => canary.smtp,
            Far::Raw => canary.raw,
        };
        Self {
            far,
            form,
            address: canary.at(port),
            domain: canary.domain.clone(),
        }
    }

    /// What answers there.
    pub fn far(&self) -> Far {
        self.far
    }

    /// How it is named.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its address and port, however it is named.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The canary's domain.
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

/// The order in which hops are tried. Every destination is tried; the second form of naming it only where the first
/// was not proven, and only until the proxy has answered two forms in a row alike.
#[derive(Debug)]
pub struct Plan {
    queue: VecDeque<Hop>,
    second: Option<Form>,
    last: Option<(Far, Reply)>,
    canary: Canary,
}

impl Plan {
    /// A plan over these destinations, with the forms that the protocol knows for this canary, best first.
    pub fn new(canary: &Canary, destinations: &[Far], forms: &[Form]) -> Self {
        let first = forms.first().copied();
        let hop = |form| move |&far: &Far| Hop::new(canary, far, form);
        Self {
            queue: first
                .into_iter()
                .flat_map(|form| destinations.iter().map(hop(form)))
                .collect(),
            second: forms.get(1).copied(),
            last: None,
            canary: canary.clone(),
        }
    }

    /// The next hop.
    pub fn take_next(&mut self) -> Option<Hop> {
        self.queue.pop_front()
    }

    /// Takes note of the answer.
    pub fn answered(&mut self, hop: &Hop, reply: Reply, proven: bool) {
        let repeats = self
            .last
            .is_some_and(|(far, last)| far == hop.far && last == reply);
        self.last = Some((hop.far, reply));
        match self.second {
            Some(second) if second != hop.form && !proven => {
                self.queue
                    .push_front(Hop::new(&self.canary, hop.far, second));
            }
            Some(_) if repeats => self.second = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ajar_model::proof::CanaryKey;

    use super::*;

    const ALL: &[Far] = &[Far::Http, Far::Https, Far::Smtp, Far::Raw];
    const BOTH: &[Form] = &[Form::Literal, Form::Name];

    fn canary() -> Canary {
        Canary {
            domain: "canary.test".to_owned(),
            address: "192.0.2.9".parse().unwrap(),
            smtp: 25,
            http: 80,
            https: 443,
            raw: 7401,
            key: public_key(),
        }
    }

    /// The generator of Ed25519, which is a valid point.
    fn public_key() -> CanaryKey {
        "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"
            .parse()
            .unwrap()
    }

    fn walk(forms: &[Form], answer: impl Fn(&Hop) -> (Reply, bool)) -> Vec<String> {
        let mut plan = Plan::new(&canary(), ALL, forms);
        let mut asked = Vec::new();
        while let Some(hop) = plan.take_next() {
            let (reply, proven) = answer(&hop);
            plan.answered(&hop, reply, proven);
            asked.push(hop.authority());
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
        let asked = walk(BOTH, |hop| match hop.form() {
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
