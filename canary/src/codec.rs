//! SMTP as a server reads it (RFC 5321): commands, paths, and the end of a message. Pure.

use ajar_model::Nonce;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO or HELO with its argument; true for EHLO.
    Hello(String, bool),
    /// MAIL FROM with its path.
    Mail(String),
    /// RCPT TO with its path.
    Rcpt(String),
    Data,
    Rset,
    Noop,
    Vrfy,
    StartTls,
    Quit,
    /// A verb that is known, with an argument that cannot be.
    BadArgument,
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

/// True if mail for this path is delivered to `domain`: the part after its last `@` says so.
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

/// What comes after DATA, up to the end of the message. Only CRLF "." CRLF ends it (RFC 5321 section 4.1.1.4); a bare LF
/// is data. The dot that a sender put before a line that begins with one is taken away (section 4.5.2).
#[derive(Debug)]
pub struct Message {
    start: Vec<u8>,
    keep: usize,
    size: usize,
    /// How many bytes of the end were just seen. The CRLF of the DATA command counts as the end's first line break.
    matched: usize,
    /// The bytes that came last.
    last: [u8; 4],
}

impl Message {
    const END: &[u8] = b"\r\n.\r\n";

    /// Keeps the first `keep` bytes, and counts the rest.
    pub fn new(keep: usize) -> Self {
        Self {
            start: Vec::new(),
            keep,
            size: 0,
            matched: 2,
            last: *b"  \r\n",
        }
    }

    /// Returns whether a sender that ends lines by bare line feeds may mean this as the end.
    pub fn may_have_ended(&self) -> bool {
        self.last.ends_with(b"\n.\n") || self.last == *b"\n.\r\n"
    }

    /// Takes what belongs to the message from the front of `bytes`: how many those are, and whether its end was one of them.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, &byte) in bytes.iter().enumerate() {
            self.last.rotate_left(1);
            self.last[3] = byte;
            let was = self.matched;
            self.matched = match byte {
                byte if byte == Self::END[was] => was + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == Self::END.len() {
                // The CR of the final line.
                let _ = (self.size <= self.keep).then(|| self.start.pop());
                self.size -= 1;
                return (at + 1, true);
            }
            if self.matched == 3 {
                continue;
            }
            self.size += 1;
            if self.start.len() < self.keep {
                self.start.push(byte);
            }
        }
        (bytes.len(), false)
    }

    /// Bytes received, those that were not kept included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The message's header: everything before its first empty line, as far as it was kept.
    pub fn header(&self) -> &[u8] {
        header(&self.start)
    }
}

/// A message's header: everything before its first empty line.
fn header(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") || message.starts_with(b"\n") {
        return &[];
    }
    let end = |line: &[u8]| {
        let empty = [line, line].concat();
        let mut windows = message.windows(empty.len());
        windows
            .position(|window| window == empty)
            .map(|at| at + line.len())
    };
    let end = [end(b"\r\n"), end(b"\n")].into_iter().flatten().min();
    &message[..end.unwrap_or(message.len())]
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

    /// The size of the message that ends in `bytes`, its header, and what is behind it; none if it does not end.
    fn read(bytes: &[u8], chunk: usize) -> Option<(usize, Vec<u8>, Vec<u8>)> {
        let mut message = Message::new(64);
        let mut read = 0;
        for part in bytes.chunks(chunk) {
            let (taken, ended) = message.take(part);
            read += taken;
            if ended {
                let header = message.header().to_vec();
                return Some((message.size(), header, bytes[read..].to_vec()));
            }
        }
        None
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message_however_it_is_cut() {
        let check = |bytes: &[u8], expect: Option<(usize, &[u8], &[u8])>| {
            for chunk in 1..=bytes.len() {
                let found = read(bytes, chunk);
                let found = found
                    .as_ref()
                    .map(|(size, header, behind)| (*size, &header[..], &behind[..]));
                assert_eq!(found, expect, "{bytes:?} by {chunk}");
            }
        };
        check(b"a\r\n.\r\nQUIT", Some((3, b"a\r\n", b"QUIT")));
        check(b".\r\n", Some((0, b"", b"")));
        check(b"\r\n.\r\n", Some((2, b"", b"")));
        check(b"A: b\r\n\r\nx\r\r\n.\r\n", Some((12, b"A: b\r\n", b"")));
        check(b"..a\r\n...\r\n.\r\n", Some((8, b".a\r\n..\r\n", b"")));
        for smuggled in [
            &b"a\n.\nMAIL"[..],
            b"a\n.\r\n",
            b"a\r\n.\n",
            b"a\r.\r",
            b"a\r\n.\r.\r\n",
        ] {
            check(smuggled, None);
        }
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let long = [&[b'a'; 1000][..], b"\r\n.\r\n"].concat();
        let (size, header, _) = read(&long, 7).unwrap();
        assert_eq!((size, header.len()), (1002, 64));
    }
}
