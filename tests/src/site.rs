//! A site to audit: real servers, the ports of a canary, and a directory to run the program in.

use std::{any::Any, net::SocketAddr};

use crate::{
    Access, Ajar, ClusterBuilder, Dante, Finished, Postfix, Squid, TelnetGateway, free_port,
};

/// The mail domains of the canary.
pub const DOMAINS: [&str; 2] = ["canary.test", "canary.example"];

/// Servers that run until it is dropped. A server that does not start fails the test at once.
#[derive(Debug)]
pub struct Site {
    pub ajar: Ajar,
    canary: [u16; 4],
    servers: Vec<Box<dyn Any + Send + Sync>>,
}

impl Site {
    /// One without servers.
    #[expect(clippy::new_without_default, reason = "it takes ports and a directory")]
    pub fn new() -> Self {
        Self {
            ajar: Ajar::new().unwrap(),
            canary: std::array::from_fn(|_| free_port().unwrap()),
            servers: Vec::new(),
        }
    }

    pub fn postfix(self, endpoint: &str, access: Access) -> Self {
        let canary = self.canary_mail();
        self.with(Postfix::start(access, at(endpoint), DOMAINS, canary))
    }

    pub fn squid(self, endpoint: &str, access: Access) -> Self {
        self.with(Squid::start(access, at(endpoint)))
    }

    pub fn dante(self, endpoint: &str, access: Access) -> Self {
        self.with(Dante::start(access, at(endpoint)))
    }

    pub fn telnet_gateway(self, endpoint: &str, access: Access) -> Self {
        self.with(TelnetGateway::start(access, at(endpoint)))
    }

    fn with<S: Any + Send + Sync>(mut self, server: anyhow::Result<S>) -> Self {
        let server = server.unwrap_or_else(|error| panic!("{error:#}"));
        self.servers.push(Box::new(server));
        self
    }

    /// Where the canary takes mail.
    pub fn canary_mail(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.canary[0]))
    }

    /// Where the canary serves its page.
    pub fn canary_page(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.canary[1]))
    }

    /// Where it does so over TLS.
    pub fn canary_page_tls(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.canary[2]))
    }

    /// As `--canary-ports` takes them.
    pub fn canary_ports(&self) -> String {
        self.canary.map(|port| port.to_string()).join(",")
    }

    /// The command line of a scan with the canary and these options, whose results are JSONL.
    pub fn scan_line(&self, options: &str) -> String {
        let (ports, [domain, other]) = (self.canary_ports(), DOMAINS);
        format!(
            "scan {options} --format jsonl --canary-ports {ports} --canary-domain {domain} --canary-domain {other}"
        )
    }

    /// Runs such a scan to its end.
    pub fn scan(&self, options: &str) -> Finished {
        self.ajar.run(&self.scan_line(options)).unwrap()
    }

    /// A cluster with this canary, not yet started.
    pub fn cluster(&self) -> ClusterBuilder {
        ClusterBuilder::new(&self.ajar, &self.canary_ports())
    }
}

/// Reads an endpoint.
pub fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}
