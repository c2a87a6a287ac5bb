//! Whole runs, of the real program among real servers. One binary, so that tests which wait do it side by side.

mod accuracy;
mod audit;
mod authorization;
mod cluster;
mod confirmation;
mod demo;
mod disclosed;
mod families;
mod formats;
mod liveness;
mod metrics;
mod mute;
mod outage;
mod ownership;
mod real_servers;
mod receipts;
mod redis;
mod replay;
mod resume;
mod revisits;
mod roles;
mod schedules;
mod sni;
mod stop;
mod trace;
mod unvisited;
