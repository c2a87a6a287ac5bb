//! SMTP replies and commands (RFC 5321).

use crate::codec::{Injection, Parsed, Unreadable, line};

/// Lines of one reply that are taken at most.
const MAX_LINES: usize = 100;

/// Bytes of one command line, CRLF included (RFC 5321 section 4.5.3.1.4).
const MAX_COMMAND: usize = 512;

/// Bytes of one path (RFC 5321 section 4.5.3.1.3).
const MAX_PATH: usize = 256;

/// Claims that the connection comes from loopback (postfix.org/XCLIENT_README.html).
pub const XCLIENT: &[u8] = b"XCLIENT ADDR=127.0.0.1 NAME=localhost\r\n";
/// Asks for TLS (RFC 3207).
pub const STARTTLS: &[u8] = b"STARTTLS\r\n";
/// Asks to send the message (RFC 5321 section 4.1.1.4).
pub const DATA: &[u8] = b"DATA\r\n";
/// Drops sender and recipients (RFC 5321 section 4.1.1.5).
pub const RSET: &[u8] = b"RSET\r\n";
/// Takes leave (RFC 5321 section 4.1.1.10).
pub const QUIT: &[u8] = b"QUIT\r\n";

/// A whole reply (RFC 5321 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The code of the last line, 200 to 599.
    pub code: u16,
    /// The enhanced status code of the last line, if there is one (RFC 3463).
    pub enhanced: Option<[u16; 3]>,
    /// The text after the code of each line, undecodable bytes replaced. A stranger's words.
    pub lines: Vec<String>,
}

impl Reply {
    /// Reads one reply; a bare LF ends a line too. A line of more than `max_line` bytes is refused.
    pub fn parse(bytes: &[u8], max_line: usize) -> Parsed<Self> {
        let (mut at, mut lines) = (0, Vec::new());
        while lines.len() < MAX_LINES {
            let rest = &bytes[at..];
            plausible_start(rest)?;
            let Some((text, length)) = line(rest, max_line)? else {
                return Ok(None);
            };
            let (code, more, text) = split(text).ok_or(Unreadable::Garbled)?;
            at += length;
            lines.push(String::from_utf8_lossy(text).into_owned());
            if !more {
                let enhanced = enhanced(lines.last().map_or("", String::as_str));
                let reply = Self {
                    code,
                    enhanced,
                    lines,
                };
                return Ok(Some((reply, at)));
            }
        }
        Err(Unreadable::TooLong)
    }

    /// True for 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// The first word of its text: in a greeting and in the answer to EHLO, the name that the server calls itself.
    pub fn first_word(&self) -> &str {
        let first = self.lines.first().map_or("", String::as_str);
        first.split_ascii_whitespace().next().unwrap_or("")
    }

    /// True if any line holds the word, in ASCII letters of either case.
    pub fn mentions(&self, word: &str) -> bool {
        self.lines.iter().any(|line| {
            let line = line.to_ascii_lowercase();
            line.contains(&word.to_ascii_lowercase())
        })
    }

    /// True if the answer to EHLO lists the extension (RFC 5321 section 4.1.1.1).
    pub fn offers(&self, extension: &str) -> bool {
        self.lines.iter().skip(1).any(|line| {
            let keyword = line
                .split(|c: char| c.is_ascii_whitespace() || c == '=')
                .next();
            keyword.is_some_and(|keyword| keyword.eq_ignore_ascii_case(extension))
        })
    }
}

/// Bytes that cannot begin a reply are known as such before their line ends.
fn plausible_start(bytes: &[u8]) -> Result<(), Unreadable> {
    let plausible = bytes.iter().take(4).enumerate().all(|(i, byte)| match i {
        0 => (b'2'..=b'5').contains(byte),
        1 | 2 => byte.is_ascii_digit(),
        _ => matches!(byte, b' ' | b'-' | b'\r' | b'\n'),
    });
    plausible.then_some(()).ok_or(Unreadable::Garbled)
}

fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    match rest {
        [] => Some((code, false, rest)),
        [b' ', text @ ..] => Some((code, false, text)),
        [b'-', text @ ..] => Some((code, true, text)),
        _ => None,
    }
}

pub(super) fn enhanced(text: &str) -> Option<[u16; 3]> {
    let mut numbers = text.split_ascii_whitespace().next()?.split('.');
    let mut next = || {
        let digits = numbers.next()?;
        let valid = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| digits.parse().ok())?
    };
    let code = [next()?, next()?, next()?];
    (numbers.next().is_none() && matches!(code[0], 2 | 4 | 5)).then_some(code)
}

pub fn ehlo(name: &str) -> Result<Vec<u8>, Injection> {
    command("EHLO ", name, "")
}

pub fn helo(name: &str) -> Result<Vec<u8>, Injection> {
    command("HELO ", name, "")
}

/// `MAIL FROM:<path>`; an empty path is the null sender.
pub fn mail_from(path: &str) -> Result<Vec<u8>, Injection> {
    command("MAIL FROM:<", path, ">")
}

/// `MAIL FROM:<path> SMTPUTF8`; the path may go beyond ASCII (RFC 6531 section 3.4).
pub fn mail_from_utf8(path: &str) -> Result<Vec<u8>, Injection> {
    let ascii: String = path.chars().filter(char::is_ascii).collect();
    mail_from(&ascii).map_err(|_| Injection(path.to_owned()))?;
    let closed = !path.chars().any(char::is_control);
    match closed && path.len() <= MAX_PATH {
        true => Ok(format!("MAIL FROM:<{path}> SMTPUTF8\r\n").into_bytes()),
        false => Err(Injection(path.to_owned())),
    }
}

pub fn rcpt_to(path: &str) -> Result<Vec<u8>, Injection> {
    command("RCPT TO:<", path, ">")
}

/// `RCPT TO:path`, which is no valid command.
pub fn rcpt_to_bare(path: &str) -> Result<Vec<u8>, Injection> {
    command("RCPT TO:", path, "")
}

/// `RCPT TO: <path>`, which is no valid command.
pub fn rcpt_to_spaced(path: &str) -> Result<Vec<u8>, Injection> {
    command("RCPT TO: <", path, ">")
}

fn command(verb: &str, argument: &str, end: &str) -> Result<Vec<u8>, Injection> {
    let line = format!("{verb}{argument}{end}\r\n");
    let printable = argument.bytes().all(|byte| byte.is_ascii_graphic());
    let closed = !argument.contains(['<', '>']);
    if printable && closed && line.len() <= MAX_COMMAND {
        Ok(line.into_bytes())
    } else {
        Err(Injection(argument.to_owned()))
    }
}

/// A message as it goes over the wire: every line ended by CRLF, a leading dot doubled, and the final dot
/// (RFC 5321 section 4.5.2).
pub fn dot_stuffed(message: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.lines() {
        // A lone CR would be a line end to some servers.
        let mut text = line.bytes().filter(|&byte| byte != b'\r').peekable();
        if text.peek() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend(text);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<(u16, Vec<String>, usize)>, Unreadable> {
        let parsed = Reply::parse(bytes, 100)?;
        Ok(parsed.map(|(reply, length)| (reply.code, reply.lines, length)))
    }

    #[test]
    fn a_reply_is_read_to_its_last_line_and_no_further() {
        let check = |input: &str, code: u16, lines: &[&str], rest: &str| {
            let lines = lines.iter().map(|line| line.to_string()).collect();
            let expect = (code, lines, input.len() - rest.len());
            assert_eq!(read(input.as_bytes()), Ok(Some(expect)), "{input:?}");
        };
        check("250 ok\r\n", 250, &["ok"], "");
        check("250 ok\n", 250, &["ok"], "");
        check("250\r\n", 250, &[""], "");
        check("250-\r\n250 \r\n", 250, &["", ""], "");
        check(
            "250-a\r\n250-b\n250 c\r\n354 go\r\n",
            250,
            &["a", "b", "c"],
            "354 go\r\n",
        );
        check("220-wait\r\n554 no\r\n", 554, &["wait", "no"], "");
    }

    #[test]
    fn a_reply_that_has_not_ended_needs_more() {
        for input in [
            "",
            "2",
            "25",
            "250",
            "250 ok",
            "250-a\r\n",
            "250-a\r\n25",
            "250-a\r\n250 b\r",
        ] {
            assert_eq!(read(input.as_bytes()), Ok(None), "{input:?}");
        }
    }

    #[test]
    fn other_protocols_are_refused_before_their_line_ends() {
        for input in [
            "SSH-2.0",
            "+OK",
            "* OK",
            "2x",
            "250x",
            "150 a\r\n",
            "650 a\r\n",
            "250-a\r\nx",
            "\r\n",
            "25 ok\r\n",
        ] {
            assert_eq!(
                read(input.as_bytes()),
                Err(Unreadable::Garbled),
                "{input:?}"
            );
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_reply_are_refused() {
        let long = format!("250 {}", "a".repeat(100));
        assert_eq!(read(long.as_bytes()), Err(Unreadable::TooLong));
        assert_eq!(
            read(format!("{long}\r\n").as_bytes()),
            Err(Unreadable::TooLong)
        );
        let many = "250-a\r\n".repeat(MAX_LINES);
        assert_eq!(read(many.as_bytes()), Err(Unreadable::TooLong));
    }

    #[test]
    fn how_the_bytes_were_split_makes_no_difference() {
        let input = b"250-mail.example\r\n250-STARTTLS\n250 2.0.0 ok\r\n";
        for cut in 0..input.len() {
            assert_eq!(read(&input[..cut]), Ok(None), "{cut}");
        }
        assert!(read(input).unwrap().is_some());
    }

    #[test]
    fn enhanced_codes_are_read_from_the_last_line() {
        let check =
            |text: &str, expect: Option<[u16; 3]>| assert_eq!(enhanced(text), expect, "{text}");
        check("5.7.1 relaying denied", Some([5, 7, 1]));
        check("4.7.650", Some([4, 7, 650]));
        check("5.7.57;", None);
        check("3.7.1", None);
        check("5.7", None);
        check("5.7.1.2", None);
        check("5..1", None);
        check("", None);
    }

    #[test]
    fn extensions_are_words_of_the_lines_after_the_first() {
        let text =
            b"250-STARTTLS.example hi\r\n250-starttls\r\n250-SIZE 1000\r\n250 AUTH=PLAIN\r\n";
        let (reply, _) = Reply::parse(text, 100).unwrap().unwrap();
        assert!(reply.offers("STARTTLS") && reply.offers("size") && reply.offers("AUTH"));
        assert!(!reply.offers("SIZ") && !reply.offers("STARTTLS.example"));
        assert_eq!(reply.first_word(), "STARTTLS.example");
    }

    #[test]
    fn commands_take_nothing_that_ends_their_line_or_path() {
        assert_eq!(mail_from("").unwrap(), b"MAIL FROM:<>\r\n");
        assert!(mail_from_utf8("\u{85}@d").is_err());
        assert_eq!(
            rcpt_to("\"u@d\"@[192.0.2.1]").unwrap(),
            b"RCPT TO:<\"u@d\"@[192.0.2.1]>\r\n"
        );
        assert_eq!(
            ehlo("[IPv6:2001:db8::1]").unwrap(),
            b"EHLO [IPv6:2001:db8::1]\r\n"
        );
        for hostile in [
            "a\r\nDATA",
            "a\nb",
            "a\rb",
            "a\0",
            "a b",
            "a> NOTIFY=x",
            "<a",
            "\u{fc}",
            &"a".repeat(512),
        ] {
            for write in [ehlo, helo, mail_from, rcpt_to, rcpt_to_bare, rcpt_to_spaced] {
                assert_eq!(write(hostile), Err(Injection(hostile.to_owned())));
            }
            if hostile != "\u{fc}" {
                assert!(mail_from_utf8(hostile).is_err(), "{hostile:?}");
            }
        }
    }

    #[test]
    fn a_message_cannot_end_before_its_final_dot() {
        let check = |message: &str, expect: &str| {
            assert_eq!(
                String::from_utf8(dot_stuffed(message)).unwrap(),
                expect,
                "{message:?}"
            );
        };
        check("", ".\r\n");
        check("a\nb", "a\r\nb\r\n.\r\n");
        check(".\n..\r\n.a", "..\r\n...\r\n..a\r\n.\r\n");
        check("a\r.\rb\n", "a.b\r\n.\r\n");
        check("a\n\r.\r\nb", "a\r\n..\r\nb\r\n.\r\n");
    }
}
