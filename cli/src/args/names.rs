//! Names that options take.

use std::net::IpAddr;

use ajar_model::{authorization, target};

/// The longest name of a tenant: it is in certificates and in every index by tenant.
const LONGEST: usize = 64;

/// Reads a host name with a dot.
pub fn host_name(text: &str) -> Result<String, &'static str> {
    let is_one = target::is_host_name(text) && text.contains('.');
    is_one
        .then(|| text.to_owned())
        .ok_or("expected a host name with a dot, such as scanner.example.net")
}

/// Reads a mail domain of the canary.
pub fn domain(text: &str) -> Result<String, &'static str> {
    let is_one = target::is_host_name(text) || text.parse::<IpAddr>().is_ok();
    is_one
        .then(|| text.to_owned())
        .ok_or("expected a domain, such as canary.example.net")
}

/// Reads whom an owner can write to.
pub fn mail_address(text: &str) -> Result<String, &'static str> {
    authorization::is_mail_address(text)
        .then(|| text.to_owned())
        .ok_or("expected a mail address, such as abuse@example.net")
}

/// Reads the name of a tenant.
pub fn tenant(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_one = (1..=LONGEST).contains(&text.len()) && text.chars().all(is_plain);
    is_one
        .then(|| text.to_owned())
        .ok_or("expected up to 64 letters, digits, dots, hyphens and underscores, such as acme")
}
