//! Telnet prompts, what they are told, and what they say to it.

use std::net::IpAddr;

use crate::codec::{Injection, Parsed};

/// Interpret As Command (RFC 854).
const IAC: u8 = 0xff;
const SB: u8 = 0xfa;
const SE: u8 = 0xf0;
/// WILL, WONT, DO and DONT, which take an option.
const NEGOTIATIONS: std::ops::RangeInclusive<u8> = 0xfb..=0xfe;

/// Words by which gateways introduce themselves.
const GATEWAYS: &[&str] = &["wingate", "proxy", "gateway"];
/// What a prompt asks for that wants credentials.
const CREDENTIALS: &[&str] = &["login", "user", "passw", "account"];
/// What a gateway says that will not connect.
const REFUSALS: &[&str] = &[
    "fail",
    "refus",
    "denied",
    "unable",
    "cannot",
    "can't",
    "could not",
    "not allowed",
    "forbidden",
    "unreachable",
    "timed out",
    "timeout",
    "unknown",
    "invalid",
    "error",
    "not found",
    "closed",
];
/// What one says that has.
const CONNECTED: &str = "connected";

/// A prompt, and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompt {
    /// It asks where to connect to, or its server says that it is a gateway.
    pub is_of_a_gateway: bool,
    /// It asks for credentials.
    pub wants_credentials: bool,
}

/// True if these bytes may be, or become, a server's prompt: printable text, with or without Telnet commands. A first
/// line that introduces no gateway will not.
pub fn may_prompt(bytes: &[u8]) -> bool {
    let said = text(bytes);
    let printable = said
        .bytes()
        .all(|byte| matches!(byte, b'\r' | b'\n' | b'\t' | 7 | 8 | 27 | 32..));
    let first = said.trim_start().lines().next().unwrap_or_default().len();
    let is_line = said.trim_start().len() > first;
    let introduced = bytes.first() == Some(&IAC) || mentions(&said, GATEWAYS);
    printable && (introduced || !is_line)
}

/// The prompt at the end of these bytes; none if they do not end in one.
pub fn prompt(bytes: &[u8]) -> Option<Prompt> {
    let said = text(bytes);
    let asked = said.rsplit('\n').next().unwrap_or_default().trim();
    asked
        .ends_with(['>', ':', '?', '#', '$', '%'])
        .then(|| Prompt {
            is_of_a_gateway: mentions(&said, GATEWAYS) || mentions(asked, &["host"]),
            wants_credentials: mentions(asked, CREDENTIALS),
        })
}

/// What a gateway says to a request, as far as it says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It has connected: what follows comes through it.
    Connected,
    Refused,
}

impl Said {
    /// Reads up to the word that decides.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let lower = bytes.to_ascii_lowercase();
        let end = |word: &str| {
            let mut windows = lower.windows(word.len());
            windows
                .position(|window| window == word.as_bytes())
                .map(|at| at + word.len())
        };
        let refused = REFUSALS.iter().filter_map(|word| end(word)).min();
        let connected = end(CONNECTED);
        Ok(match (refused, connected) {
            (Some(refused), connected) if connected.is_none_or(|at| refused <= at) => {
                Some((Said::Refused, refused))
            }
            (_, Some(connected)) => Some((Said::Connected, connected)),
            _ => None,
        })
    }
}

/// The rest of a line that said all that matters.
pub fn rest_of_line(bytes: &[u8]) -> Parsed<()> {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    Ok(end.map(|at| ((), at + 1)))
}

/// The ways to tell a prompt where to connect to, most usual first.
pub fn requests(host: &str, port: u16) -> Result<[Vec<u8>; 2], Injection> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if host.parse::<IpAddr>().is_err() && !host.bytes().all(is_name) {
        return Err(Injection(host.to_owned()));
    }
    let bracketed = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    Ok([
        format!("{bracketed}:{port}\r\n").into_bytes(),
        format!("{host} {port}\r\n").into_bytes(),
    ])
}

/// What is said without Telnet's own commands.
fn text(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = match (*byte, tail) {
            (IAC, [SB, option @ ..]) => {
                let end = option.windows(2).position(|pair| pair == [IAC, SE]);
                end.map_or(&[][..], |at| &option[at + 2..])
            }
            (IAC, [command, option @ ..]) if NEGOTIATIONS.contains(command) => {
                option.get(1..).unwrap_or_default()
            }
            (IAC, [_, tail @ ..]) => tail,
            (IAC, []) => &[],
            (byte, tail) => {
                text.push(byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn mentions(text: &str, words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    words.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_prompt_is_told_from_a_login_and_from_other_greetings() {
        let check = |said: &[u8], expect: Option<(bool, bool)>| {
            let found = may_prompt(said).then(|| prompt(said)).flatten();
            let found = found.map(|prompt| (prompt.is_of_a_gateway, prompt.wants_credentials));
            assert_eq!(found, expect, "{:?}", String::from_utf8_lossy(said));
        };
        check(b"WinGate>", Some((true, false)));
        check(b"\xff\xfb\x01\xff\xfb\x03WinGate>", Some((true, false)));
        check(
            b"CCProxy Telnet Service Ready.\r\nCCProxy Telnet>",
            Some((true, false)),
        );
        check(b"host:port> ", Some((true, false)));
        check(b"Proxy server\r\nUsername: ", Some((true, true)));
        check(
            b"\xff\xfd\x18\r\nDebian GNU/Linux 12\r\nlogin: ",
            Some((false, true)),
        );
        check(b"Router>", Some((false, false)));
        check(b"SSH-2.0-OpenSSH_9.2\r\n", None);
        check(b"220 mail.example ESMTP\r\n", None);
        check(b"Welcome to the proxy", None);
        check(b"\x00\x01>", None);
        check(b"", None);
    }

    #[test]
    fn the_first_word_that_decides_ends_the_answer() {
        let check = |said: &str, expect: Option<(Said, usize)>| {
            assert_eq!(Said::parse(said.as_bytes()), Ok(expect), "{said:?}");
        };
        check(
            "Connecting to host 192.0.2.9...Connected\r\n220 x",
            Some((Said::Connected, 40)),
        );
        check("Connection refused\r\nWinGate>", Some((Said::Refused, 16)));
        check("Not allowed", Some((Said::Refused, 11)));
        check("Could not be connected", Some((Said::Refused, 9)));
        check("Connecting to host 192.0.2.9...", None);
    }

    #[test]
    fn a_request_is_one_line_and_names_nothing_but_a_host() {
        let requests =
            |host| requests(host, 25).map(|all| all.map(|one| String::from_utf8(one).unwrap()));
        assert_eq!(
            requests("192.0.2.9").unwrap(),
            ["192.0.2.9:25\r\n", "192.0.2.9 25\r\n"]
        );
        assert_eq!(
            requests("2001:db8::9").unwrap(),
            ["[2001:db8::9]:25\r\n", "2001:db8::9 25\r\n"]
        );
        assert!(requests("a\r\nb").is_err() && requests("a b").is_err());
    }
}
