//! Whole examinations against scripted peers: honest ones, refusing ones and liars.

mod arbitrary;
mod canary;
mod direct;
mod exam;
mod http;
mod http2;
mod http_servers;
mod http_udp;
mod http_web;
mod peer;
mod recognise;
mod smtp;
mod smtp_checks;
mod smtp_limits;
mod smtp_lines;
mod sni;
mod socks;
mod telnet;
