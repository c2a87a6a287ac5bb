//! Real servers and the real program, for the end-to-end tests.
//!
//! Each server is started from Debian's package on a loopback address and port that is free, with a configuration, data and logs
//! in a temporary directory of its own, and stopped when it is dropped. Nothing else is ever stopped.

mod ajar;
mod authority;
mod cluster;
pub mod corpus;
mod exim;
mod front;
pub mod liar;
mod namespace;
mod opensmtpd;
mod postfix;
mod postgrey;
mod proxies;
mod sendmail;
mod server;
mod site;
mod stores;
mod truth;
mod wiretap;

pub use ajar::{Ajar, Finished, finished, target};
pub use cluster::{Cluster, ClusterBuilder};
pub use exim::Exim;
pub use front::Front;
pub use liar::Liar;
pub use namespace::{BEHIND_A_GATEWAY, Captured, captured, cluster, with_hosts};
pub use opensmtpd::OpenSmtpd;
pub use postfix::Postfix;
pub use postgrey::Postgrey;
pub use proxies::{Dante, Squid, TelnetGateway};
pub use sendmail::Sendmail;
pub use server::{Access, Signal, free_port, signal};
pub use site::{DOMAINS, Site, at};
pub use stores::{Postgres, Redis};
pub use truth::FarEnd;
pub use wiretap::{Counted, Wiretap};
