//! Services that lie, each a small one of ours: no package does that on purpose.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a conversation lasts at most.
const LONGEST: Duration = Duration::from_secs(120);

/// A service that does the same to everybody, until it is dropped.
#[derive(Debug)]
pub struct Liar {
    stopped: Arc<AtomicBool>,
    endpoint: SocketAddr,
}

impl Liar {
    pub fn start(endpoint: SocketAddr, serve: fn(&mut TcpStream)) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(endpoint)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stopped);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(LONGEST));
                let _ = stream.set_write_timeout(Some(LONGEST));
                thread::spawn(move || serve(&mut stream));
            }
        });
        Ok(Self { stopped, endpoint })
    }
}

impl Drop for Liar {
    #[expect(
        clippy::disallowed_methods,
        reason = "its own listener is woken, to end"
    )]
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.endpoint);
    }
}

/// Says yes to every mail, and keeps none.
pub fn catch_all(stream: &mut TcpStream) {
    let mut data = false;
    answer(stream, "220 mx.lab.test ESMTP\r\n", |line| {
        let reply = match (data, line) {
            (true, ".") => "250 queued\r\n",
            (true, _) => "",
            (false, "DATA") => "354 go on\r\n",
            (false, "QUIT") => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        data = reply.starts_with("354") || (data && reply.is_empty());
        reply
    });
}

/// Answers whatever is asked by a page of its own, and closes where it is asked to.
pub fn portal(stream: &mut TcpStream) {
    const PAGE: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<p>log in</p>";
    let Ok(reading) = stream.try_clone() else {
        return;
    };
    let mut closes = false;
    for line in BufReader::new(reading.take(1 << 20)).lines() {
        let Ok(line) = line else { return };
        closes |= line.eq_ignore_ascii_case("connection: close");
        if line.is_empty() && (stream.write_all(PAGE).is_err() || closes) {
            return;
        }
    }
}

/// Says that a tunnel is open, and nothing more.
pub fn hollow_tunnel(stream: &mut TcpStream) {
    answer(stream, "", |line| match line {
        "" => "HTTP/1.1 200 Connection established\r\n\r\n",
        _ => "",
    });
}

/// Grants every request by SOCKS 5, and leads nowhere.
pub fn hollow_socks(stream: &mut TcpStream) {
    let mut greeting = [0; 3];
    let is_socks = stream.read_exact(&mut greeting).is_ok() && greeting == [5, 1, 0];
    if is_socks && stream.write_all(&[5, 0]).is_ok() {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let _ = stream.read(&mut request);
    }
}

/// Accepts, and closes, as what answers for every port of a network does.
pub fn closer(_: &mut TcpStream) {}

/// Repeats what it hears.
pub fn echo(stream: &mut TcpStream) {
    let mut heard = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut heard) {
        if stream.write_all(&heard[..length]).is_err() {
            return;
        }
    }
}

/// Never ends its greeting.
pub fn endless(stream: &mut TcpStream) {
    while stream.write_all(b"220-still greeting\r\n").is_ok() {}
}

/// Says what no protocol says.
pub fn garbage(stream: &mut TcpStream) {
    let _ = stream.write_all(b"\x93\xffjunk\x00\x01\x02\xfe\r\n\r\n");
    let _ = stream.read(&mut [0; 1024]);
}

/// Greets as another protocol.
pub fn ssh(stream: &mut TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    let _ = stream.read(&mut [0; 1024]);
}

fn answer(stream: &mut TcpStream, greeting: &str, mut reply: impl FnMut(&str) -> &'static str) {
    let Ok(reading) = stream.try_clone() else {
        return;
    };
    if stream.write_all(greeting.as_bytes()).is_err() {
        return;
    }
    for line in BufReader::new(reading.take(1 << 20)).lines() {
        let Ok(line) = line else { return };
        let said = reply(line.trim_end());
        if stream.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}
