//! HTTP/1 response heads and requests (RFC 9112).

use std::{net::SocketAddr, time::Duration};

use ajar_model::Untrusted;

use crate::codec::{Injection, Parsed, Unreadable};

/// Bytes of a head that are taken at most; security headers of honest servers alone may fill several kilobytes.
pub const MAX_HEAD: usize = 64 * 1024;

const MAX_HEADERS: usize = 128;

/// Bytes of a page that are looked at.
const PAGE_START: usize = 1024;

/// Words in a Server field that proxies call themselves by.
const PROXIES: [&str; 11] = [
    "squid",
    "tinyproxy",
    "privoxy",
    "3proxy",
    "polipo",
    "ccproxy",
    "wingate",
    "mikrotik httpproxy",
    "bluecoat",
    "mcafee web gateway",
    "zscaler",
];

/// Bytes of one header that are kept.
const MAX_VALUE: usize = 1024;

/// The head of a response. The bytes after it are not part of it: in a tunnel they are the far end's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code, 100 to 999.
    pub status: u16,
    /// HTTP/1.1, and not 1.0.
    pub is_1_1: bool,
    /// The header fields in their order, values bounded. A stranger's words.
    pub headers: Vec<(String, Untrusted)>,
}

impl Head {
    /// Reads a status line and headers; bare LF and HTTP/1.0 are taken, malformed header lines are skipped.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let window = &bytes[..bytes.len().min(MAX_HEAD)];
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match lenient().parse_response(&mut response, window) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Unreadable::TooLong);
            }
            Err(_) => return Err(Unreadable::Garbled),
        };
        let status = response.code.ok_or(Unreadable::Garbled)?;
        let headers = response.headers.iter().map(|header| {
            (
                header.name.to_owned(),
                Untrusted::from_bytes(header.value, MAX_VALUE),
            )
        });
        let head = Self {
            status,
            is_1_1: response.version == Some(1),
            headers: headers.collect(),
        };
        Ok(Some((head, length)))
    }

    /// Returns whether a proxy wrote it: it asks for a proxy's credentials, has a field that only
    /// proxies write, or names a product.
    pub fn shows_proxy(&self) -> bool {
        if self.status == 407 {
            return true;
        }
        self.headers.iter().any(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let is_a_proxys = name == "via"
                || name.starts_with("proxy-")
                || name.starts_with("x-squid")
                || name.starts_with("x-proxy");
            let value = value.raw().to_ascii_lowercase();
            let names_one = name == "server" && PROXIES.iter().any(|proxy| value.contains(proxy));
            is_a_proxys || names_one
        })
    }

    /// The values of a field.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter();
        let named = named.filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.raw())
    }

    /// Returns whether it asks for a proxy's credentials in some way.
    pub fn challenges(&self) -> bool {
        self.fields("proxy-authenticate").next().is_some()
    }

    /// Returns whether the connection may serve again after the body (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        let connection = self
            .fields("connection")
            .chain(self.fields("proxy-connection"));
        let words: Vec<String> = connection.map(str::to_ascii_lowercase).collect();
        let says = |word: &str| words.iter().any(|value| value.contains(word));
        !says("close") && (self.is_1_1 || says("keep-alive"))
    }

    /// After how long to ask again (RFC 9110 section 10.2.3). The form with a date is not read: it may be by any clock.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u32 = self.fields("retry-after").next()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// True if what follows is this protocol's.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        let named = |(name, value): &(String, Untrusted)| {
            name.eq_ignore_ascii_case("upgrade") && value.raw().eq_ignore_ascii_case(protocol)
        };
        self.status == 101 && self.headers.iter().any(named)
    }

    /// True for 1xx: another head follows (RFC 9110 section 15.2). 101 is final: the protocol changes.
    pub fn is_interim(&self) -> bool {
        self.status / 100 == 1 && self.status != 101
    }
}

/// True if an error page begins as those of proxies do that hide their names in every field.
pub(crate) fn is_a_proxys_page(status: u16, page: &[u8]) -> bool {
    const WORDS: [&str; 6] = [
        "i2p error",
        "i2p information",
        "i2p warning",
        "the squid software foundation",
        "generated by tinyproxy",
        "privoxy",
    ];
    let start = String::from_utf8_lossy(&page[..page.len().min(PAGE_START)]).to_ascii_lowercase();
    status >= 400 && WORDS.iter().any(|word| start.contains(word))
}

/// Returns whether a gateway says by this status that it could not reach its upstream (RFC 9110
/// sections 15.6.3 and 15.6.5). Web servers in front of a backend say so too.
pub(crate) fn is_a_gateways(code: u16) -> bool {
    matches!(code, 502 | 504)
}

fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// Asks for a tunnel to `authority`, which is `host:port` (RFC 9110 section 9.3.6).
pub fn connect(authority: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    request("CONNECT", authority, authority, agent, "")
}

/// Asks for datagrams to be relayed to an address (RFC 9298 section 3.2), by the template that every such proxy has.
pub fn connect_udp(to: SocketAddr, host: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    let ip = to.ip().to_string().replace(':', "%3A");
    let target = format!("/.well-known/masque/udp/{ip}/{}/", to.port());
    request(
        "GET",
        &target,
        host,
        agent,
        "Connection: Upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n",
    )
}

/// A datagram as a capsule (RFC 9297 section 3.2, RFC 9298 section 5), of at most 16,382 bytes.
pub fn datagram(payload: &[u8]) -> Vec<u8> {
    const DATAGRAM: u8 = 0;
    const CONTEXT: u8 = 0;
    // Two bytes of a variable-length integer (RFC 9000 section 16).
    let length = 0x4000 | (payload.len() as u16 + 1);
    let mut capsule = vec![DATAGRAM];
    capsule.extend(length.to_be_bytes());
    capsule.push(CONTEXT);
    capsule.extend(payload);
    capsule
}

/// Fetches `target`, which is a path, or a whole URI if a proxy is to fetch it. The connection
/// may serve again.
pub fn get(target: &str, host: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    request(
        "GET",
        target,
        host,
        agent,
        "Accept: */*\r\nAccept-Encoding: identity\r\n",
    )
}

/// Asks for `target` as a page's script does: some web proxies serve nobody else.
pub fn get_by_script(target: &str, host: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    request(
        "GET",
        target,
        host,
        agent,
        "Accept: */*\r\nAccept-Encoding: identity\r\nX-Requested-With: XMLHttpRequest\r\n",
    )
}

/// Sends a body to `target`, as [`get`] fetches it.
pub fn post(target: &str, host: &str, agent: &str, body: &[u8]) -> Result<Vec<u8>, Injection> {
    let fields = format!(
        "Accept: */*\r\nAccept-Encoding: identity\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n",
        body.len()
    );
    let mut bytes = request("POST", target, host, agent, &fields)?;
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Fetches `target` as [`get`] does, and claims that a proxy passes the request on for loopback.
pub fn get_forwarded(target: &str, host: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    request(
        "GET",
        target,
        host,
        agent,
        "Accept: */*\r\nAccept-Encoding: identity\r\nX-Forwarded-For: 127.0.0.1\r\n",
    )
}

/// Asks what the server itself can do (RFC 9110 section 9.3.7): a request that is forwarded to nobody.
pub fn options(host: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    request("OPTIONS", "*", host, agent, "Max-Forwards: 0\r\n")
}

fn request(
    method: &str,
    target: &str,
    host: &str,
    agent: &str,
    more: &str,
) -> Result<Vec<u8>, Injection> {
    for word in [target, host] {
        let graphic = word.bytes().all(|byte| byte.is_ascii_graphic());
        (graphic && !word.is_empty())
            .then_some(())
            .ok_or_else(|| Injection(word.to_owned()))?;
    }
    let text = agent
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    text.then_some(())
        .ok_or_else(|| Injection(agent.to_owned()))?;
    Ok(
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{more}\r\n")
            .into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<(u16, usize)>, Unreadable> {
        Ok(Head::parse(bytes)?.map(|(head, length)| (head.status, length)))
    }

    #[test]
    fn a_head_ends_where_the_tunnel_begins() {
        let check = |head: &str, status: u16| {
            let bytes = format!("{head}220 canary.test\r\n");
            assert_eq!(
                read(bytes.as_bytes()),
                Ok(Some((status, head.len()))),
                "{head:?}"
            );
        };
        check("HTTP/1.1 200 Connection established\r\n\r\n", 200);
        check("HTTP/1.0 200 OK\n\n", 200);
        check("HTTP/1.1 200\r\n\r\n", 200);
        check(
            "HTTP/1.1 407 Proxy Authentication Required\nProxy-Authenticate: Basic\n\n",
            407,
        );
        check(
            "HTTP/1.1 403 F\r\nbad header\r\nVia : 1.1 squid\r\n\r\n",
            403,
        );
    }

    #[test]
    fn a_head_that_has_not_ended_needs_more_at_every_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nVia: 1.1 squid\r\n\r\n";
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read(bytes), Ok(Some((200, bytes.len()))));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for bytes in [
            &b"220 mail"[..],
            b"\x05\xff",
            b"HTTP/x",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"SSH-2.0-a\r\n",
        ] {
            assert_eq!(read(bytes), Err(Unreadable::Garbled), "{bytes:?}");
        }
    }

    #[test]
    fn the_time_to_ask_again_is_read() {
        let check = |field: &str, expect: Option<u64>| {
            let text = format!("HTTP/1.1 503 Busy\r\n{field}\r\n\r\n");
            let (head, _) = Head::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(
                head.retry_after(),
                expect.map(Duration::from_secs),
                "{field}"
            );
        };
        check("Retry-After: 120", Some(120));
        check("retry-after:  7 ", Some(7));
        check("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", None);
        check("Retry-After: -1", None);
        check("X: y", None);
    }

    #[test]
    fn an_endless_head_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_HEAD));
        assert_eq!(read(long.as_bytes()), Err(Unreadable::TooLong));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(MAX_HEADERS + 2));
        assert_eq!(read(many.as_bytes()), Err(Unreadable::TooLong));
        assert_eq!(
            read("\r\n".repeat(MAX_HEAD).as_bytes()),
            Err(Unreadable::TooLong)
        );
    }

    #[test]
    fn header_values_are_bounded_and_kept_in_order() {
        let bytes = format!(
            "HTTP/1.1 200 OK\r\nServer: a\r\nX: {}\r\n\r\n",
            "b".repeat(5000)
        );
        let (head, _) = Head::parse(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(
            head.headers[0],
            ("Server".to_owned(), "a".to_owned().into())
        );
        assert_eq!(head.headers[1].1.raw().len(), MAX_VALUE);
    }

    #[test]
    fn requests_name_their_target_and_their_author() {
        assert_eq!(
            String::from_utf8(connect("[2001:db8::1]:25", "ajar (+http://c/)").unwrap()).unwrap(),
            "CONNECT [2001:db8::1]:25 HTTP/1.1\r\nHost: [2001:db8::1]:25\r\nUser-Agent: ajar (+http://c/)\r\n\r\n"
        );
        for hostile in ["a\r\nX: y", "a b", "", "a\n", "\u{e4}"] {
            assert!(connect(hostile, "ajar").is_err(), "{hostile:?}");
            assert!(get("/", hostile, "ajar").is_err(), "{hostile:?}");
        }
        assert!(options("host", "ajar\r\nX: y").is_err());
    }

    #[test]
    fn datagrams_travel_in_capsules() {
        let to = "[2001:db8::1]:7401".parse().unwrap();
        let request = connect_udp(to, "192.0.2.1:443", "ajar").unwrap();
        let request = String::from_utf8(request).unwrap();
        let line = "GET /.well-known/masque/udp/2001%3Adb8%3A%3A1/7401/ HTTP/1.1\r\nHost: 192.0.2.1:443\r\n";
        assert!(request.starts_with(line), "{request}");
        assert!(
            request.contains("\r\nUpgrade: connect-udp\r\n"),
            "{request}"
        );
        assert_eq!(datagram(b"ab"), [0, 0x40, 3, 0, b'a', b'b']);
        assert_eq!(datagram(&[7; 300])[..5], [0, 0x41, 45, 0, 7]);
        let upgraded = |text: &str| {
            let parsed = Head::parse(text.as_bytes()).unwrap().unwrap();
            parsed.0.upgrades_to("connect-udp")
        };
        assert!(upgraded("HTTP/1.1 101 ok\r\nUpgrade: Connect-UDP\r\n\r\n"));
        assert!(!upgraded("HTTP/1.1 101 ok\r\nUpgrade: websocket\r\n\r\n"));
        assert!(!upgraded("HTTP/1.1 200 ok\r\nUpgrade: connect-udp\r\n\r\n"));
    }

    #[test]
    fn a_proxy_that_hides_is_told_by_its_error_page() {
        let squid = b"<html><head>\n<meta type=\"copyright\" content=\"Copyright (C) 1996-2021 The Squid Software Foundation\">";
        assert!(is_a_proxys_page(403, squid));
        assert!(!is_a_proxys_page(200, squid));
        assert!(!is_a_proxys_page(403, b"<html>our menu: squid</html>"));
    }

    #[test]
    fn a_proxy_is_told_from_a_plain_web_server() {
        let check = |text: &str, expect: bool| {
            let (head, _) = Head::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(head.shows_proxy(), expect, "{text}");
        };
        check("HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\r\n\r\n", true);
        check("HTTP/1.1 403 Forbidden\r\nVia: 1.1 lab\r\n\r\n", true);
        check("HTTP/1.0 407 Who\r\n\r\n", true);
        check("HTTP/1.1 504 Gateway Timeout\r\n\r\n", false);
        check("HTTP/1.1 405 Not Allowed\r\nServer: nginx\r\n\r\n", false);
        check(
            "HTTP/1.1 400 Bad Request\r\nServer: Apache/2.4\r\n\r\n",
            false,
        );
        check("HTTP/1.1 200 OK\r\n\r\n", false);
    }
}
