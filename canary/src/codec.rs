//! SMTP as a server reads it (RFC 5321): commands, paths, and the end of a message. Pure.

use ajar_model::Nonce;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO or HELO with its argument; true for EHLO.
    Hello(String, bool),
    /// MAIL FROM with its path.
    Mail(String),
    /// RCPT TO with its path.
    Rcpt(String),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// STARTTLS.
    StartTls,
    /// QUIT.
    Quit,
    /// A verb that is known, with an argument that cannot be.
    BadArgument,
    /// Anything else.
    Unknown,
}

/// Reads one line, without its line ending.
pub fn command(line: &[u8]) -> Command {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Command::Hello(argument.trim().to_owned(), true),
        "HELO" => Command::Hello(argument.trim().to_owned(), false),
        "MAIL" => path(argument, "FROM:").map_or(Command::BadArgument, Command::Mail),
        "RCPT" => path(argument, "TO:").map_or(Command::BadArgument, Command::Rcpt),
        "DATA" => Command::Data,
        "RSET" => Command::Rset,
        "NOOP" => Command::Noop,
        "VRFY" => Command::Vrfy,
        "STARTTLS" => Command::StartTls,
        "QUIT" => Command::Quit,
        _ => Command::Unknown,
    }
}

/// The path after FROM: or TO:, without its angle brackets and parameters.
fn path(argument: &str, keyword: &str) -> Option<String> {
    let head = argument.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = argument[keyword.len()..].trim_start();
    match rest.strip_prefix('<') {
        Some(inside) => inside.rsplit_once('>').map(|(path, _)| path.to_owned()),
        None => rest.split(' ').next().map(str::to_owned),
    }
}

/// True where mail for this path is delivered to `domain`: the part after its last `@` says so.
pub fn is_for(path: &str, domain: &str) -> bool {
    path.rsplit_once('@')
        .is_some_and(|(_, host)| host.trim_end_matches('.').eq_ignore_ascii_case(domain))
}

/// The mailbox before the last `@`.
pub fn local_part(path: &str) -> &str {
    path.rsplit_once('@').map_or(path, |(local, _)| local)
}

/// The first nonce in a text: 32 hex digits that stand alone. Relays may have quoted, rewritten or extended the
/// address around it.
pub fn nonce_in(text: &str) -> Option<Nonce> {
    text.split(|c: char| !c.is_ascii_hexdigit())
        .find(|run| run.len() == 32)
        .and_then(|run| run.parse().ok())
}

/// The end of a message in what was received after DATA: the number of bytes before its final line, and behind it. Only
/// CRLF "." CRLF ends a message (RFC 5321 section 4.1.1.4); a bare LF is data.
pub fn end_of_data(bytes: &[u8]) -> Option<(usize, usize)> {
    const END: &[u8] = b"\r\n.\r\n";
    if bytes.starts_with(&END[2..]) {
        return Some((0, END.len() - 2));
    }
    bytes
        .windows(END.len())
        .position(|window| window == END)
        .map(|at| (at + 2, at + END.len()))
}

/// A message's header: everything before its first empty line.
pub fn header(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n");
    &message[..end.map_or(message.len(), |at| at + 2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn commands_are_read_in_any_case_and_with_parameters() {
        let check =
            |line: &str, expect: Command| assert_eq!(command(line.as_bytes()), expect, "{line}");
        check(
            "ehlo mail.example",
            Command::Hello("mail.example".into(), true),
        );
        check("HELO", Command::Hello(String::new(), false));
        check("MAIL FROM:<> SIZE=10", Command::Mail(String::new()));
        check("mail from: <a@b>", Command::Mail("a@b".into()));
        check(
            "RCPT TO:<\"a>b\"@c> NOTIFY=NEVER",
            Command::Rcpt("\"a>b\"@c".into()),
        );
        check("RCPT TO:a@b", Command::Rcpt("a@b".into()));
        check("RCPT <a@b>", Command::BadArgument);
        check("MAIL FROM:<a@b", Command::BadArgument);
        check("GET / HTTP/1.1", Command::Unknown);
    }

    #[test]
    fn a_nonce_is_found_in_what_relays_make_of_an_address() {
        let nonce: Nonce = NONCE.parse().unwrap();
        for local in [
            NONCE.to_owned(),
            NONCE.to_uppercase(),
            format!("\"{NONCE}\""),
            format!("{NONCE}%canary.test"),
            format!("SRS0=x=y=z={NONCE}"),
        ] {
            assert_eq!(nonce_in(&local), Some(nonce), "{local}");
        }
        assert_eq!(nonce_in(&format!("0{NONCE}")), None);
        assert_eq!(nonce_in(&NONCE[1..]), None);
    }

    #[test]
    fn only_the_canary_s_own_domain_is_accepted() {
        assert!(is_for("x@Canary.Test", "canary.test"));
        assert!(is_for("\"x@canary.test\"@canary.test", "canary.test"));
        assert!(!is_for("x@canary.test@elsewhere.test", "canary.test"));
        assert!(!is_for("x@sub.canary.test", "canary.test"));
        assert!(!is_for("canary.test", "canary.test"));
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        assert_eq!(end_of_data(b"a\r\n.\r\nQUIT"), Some((3, 6)));
        assert_eq!(end_of_data(b".\r\n"), Some((0, 3)));
        for smuggled in [&b"a\n.\nMAIL"[..], b"a\n.\r\n", b"a\r\n.\n", b"a\r.\r"] {
            assert_eq!(end_of_data(smuggled), None, "{smuggled:?}");
        }
    }
}
