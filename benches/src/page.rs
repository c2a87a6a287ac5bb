//! A page at our end, for whoever comes through a proxy: what nmap's scripts fetch, and look at. And its name.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::rig::NEAR;

const TEXT: &str = "the page that was asked for";
/// What proxycheck says and waits for.
pub const CHAT: &str = "chat:GET:the page that";
/// The only one to which socks-open-proxy goes.
const PORT: u16 = 80;

/// The page, until it is dropped.
pub struct Page {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Script arguments that name it, by our address or by a name, which socks-open-proxy looks up itself.
pub fn arguments(host: &str) -> String {
    format!("proxy.url=http://{host}/,proxy.pattern={TEXT}")
}

impl Page {
    pub fn serve() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((NEAR, PORT))?;
        // Thousands of proxies come at once.
        rustix::net::listen(&listener, 65_535)?;
        let names = UdpSocket::bind((NEAR, 53))?;
        names.set_read_timeout(Some(Duration::from_millis(100)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let naming = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                let _ = name(&names);
            }
        });
        let flag = ended.clone();
        let serving = thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    answer(stream);
                }
            }
        });
        Ok(Self {
            ended,
            threads: vec![naming, serving],
        })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It waits for a connection.
        #[expect(clippy::disallowed_methods, reason = "it is our own end")]
        let _ = TcpStream::connect((NEAR, PORT));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers one question for an address: every name is ours (RFC 1035 section 4).
fn name(socket: &UdpSocket) -> io::Result<()> {
    let mut message = [0; 512];
    let (length, peer) = socket.recv_from(&mut message)?;
    let question = message.get(12..length).unwrap_or_default();
    let end = question
        .iter()
        .position(|&byte| byte == 0)
        .map(|end| end + 5);
    let Some(question) = end.and_then(|end| question.get(..end)) else {
        return Ok(());
    };
    let answer = [
        // The same id; a response with one question and one answer.
        &[message[0], message[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
        question,
        // The name in the question; A, IN, for a minute, four bytes.
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4],
        &NEAR.octets(),
    ]
    .concat();
    socket.send_to(&answer, peer).map(drop)
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read(&mut [0; 1024]);
    let length = TEXT.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{TEXT}"
    );
}
