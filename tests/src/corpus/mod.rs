//! Servers in many shapes, and liars; what is true of each is established by swaks, curl and ncat.

mod proxies;
mod relays;

use std::{
    any::Any,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use ajar_model::Verdict;

use crate::{FarEnd, Liar, Site, at, liar};

/// How long the tools may take to find a door open.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
pub type Server = Box<dyn Any + Send>;

type Start = Box<dyn FnOnce(&Site, SocketAddr) -> Server + Send>;

/// One server of the corpus.
struct Shape {
    name: &'static str,
    endpoint: SocketAddr,
    expect: Verdict,
    start: Start,
    truth: Truth,
}

/// How it is shown, without ajar, whether a server is open.
enum Truth {
    /// Mail by swaks, with these options.
    Mail(&'static str),
    /// The same, again and again: the server puts strangers off.
    MailInTime(&'static str),
    /// The far end's page by curl; PROXY stands for the server, PAGE for the page, OTHER for it on the other port.
    Curl(&'static str),
    /// The far end's page by ncat, which says this.
    Ncat(&'static str),
    /// No tool knows it: it follows from how the server is made.
    Made,
}

/// The corpus under construction. Each server has an address of its own.
struct Corpus(Vec<Shape>);

impl Corpus {
    fn add<S: Any + Send>(
        &mut self,
        name: &'static str,
        port: u16,
        expect: Verdict,
        truth: Truth,
        start: impl FnOnce(&Site, SocketAddr) -> anyhow::Result<S> + Send + 'static,
    ) {
        let host = self.0.len() + 1;
        self.0.push(Shape {
            name,
            endpoint: at(&format!("127.0.34.{host}:{port}")),
            expect,
            start: Box::new(move |site, endpoint| match start(site, endpoint) {
                Ok(server) => Box::new(server),
                Err(error) => panic!("{name}: {error:#}"),
            }),
            truth,
        });
    }

    fn liar(&mut self, name: &'static str, port: u16, expect: Verdict, serve: fn(&mut TcpStream)) {
        self.add(name, port, expect, Truth::Made, move |_, endpoint| {
            Liar::start(endpoint, serve)
        });
    }
}

fn liars(corpus: &mut Corpus) {
    use Verdict::{Inconclusive, NotAService, Unproven};
    corpus.liar(
        "takes every mail, keeps none",
        2525,
        Unproven,
        liar::catch_all,
    );
    corpus.liar("endless greeting", 2525, Inconclusive, liar::endless);
    corpus.liar(
        "its own page, whatever is asked",
        8080,
        Unproven,
        liar::portal,
    );
    corpus.liar("200 and nothing more", 8080, Unproven, liar::hollow_tunnel);
    corpus.liar("SOCKS to nowhere", 1080, Unproven, liar::hollow_socks);
    corpus.liar("accepts and closes", 8080, Inconclusive, liar::closer);
    corpus.liar("echo", 8080, NotAService, liar::echo);
    corpus.liar("garbage", 8080, NotAService, liar::garbage);
    corpus.liar("ssh", 2222, NotAService, liar::ssh);
}

/// A server that is up, and what is true of it.
pub struct Known {
    pub name: &'static str,
    pub endpoint: SocketAddr,
    /// What an audit must find.
    pub expect: Verdict,
    /// The tools found what its maker meant.
    pub agreed: bool,
}

/// Starts the corpus, and has the tools say what is open.
pub fn established(site: &Site) -> (Vec<Known>, Vec<Server>) {
    let mut corpus = Corpus(Vec::new());
    relays::add(&mut corpus);
    proxies::add(&mut corpus);
    liars(&mut corpus);
    let far_end = FarEnd::start(site).unwrap();
    let establish = |shape: Shape| {
        let server = (shape.start)(site, shape.endpoint);
        let ask = || is_open(&far_end, shape.endpoint, &shape.truth);
        let means_open = shape.expect == Verdict::Open;
        // All tools run at once, on a machine that may have other work: one that found an open door
        // shut was perhaps too slow.
        let until = Instant::now() + PATIENCE;
        let mut is_open = ask();
        while means_open && is_open == Some(false) && Instant::now() < until {
            is_open = ask();
        }
        let known = Known {
            name: shape.name,
            endpoint: shape.endpoint,
            expect: shape.expect,
            agreed: is_open.is_none_or(|is_open| is_open == means_open),
        };
        (known, server)
    };
    std::thread::scope(|scope| {
        let starting: Vec<_> = corpus
            .0
            .into_iter()
            .map(|shape| scope.spawn(|| establish(shape)))
            .collect();
        starting.into_iter().map(|one| one.join().unwrap()).unzip()
    })
}

/// None if no tool can tell.
fn is_open(far_end: &FarEnd, server: SocketAddr, truth: &Truth) -> Option<bool> {
    let filled = |text: &str| {
        text.replace("PROXY", &server.to_string())
            .replace("PAGE", &far_end.page())
            .replace("OTHER", &far_end.other_page())
    };
    match truth {
        Truth::Mail(options) => Some(far_end.gets_mail(server, options, false)),
        Truth::MailInTime(options) => Some(far_end.gets_mail(server, options, true)),
        Truth::Curl(options) => Some(far_end.is_fetched(&filled(options))),
        Truth::Ncat(words) => Some(far_end.is_told(server, &filled(words))),
        Truth::Made => None,
    }
}
