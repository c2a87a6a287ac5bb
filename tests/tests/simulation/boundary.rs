//! Where the program meets the machine: its clocks, its chance, and the connections that it opens. While a simulation runs on a thread, the
//! C library's functions of these names answer for it, so that what is tested is the program as it is; on every
//! other thread they are the kernel's.
//!
//! The connections are the oracle: nothing of the program knows that they are noted.
#![expect(
    unsafe_code,
    reason = "it stands in for functions of the C library, whose signatures are unsafe"
)]

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use ajar_model::Timestamp;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::hosts::{COORDINATORS, WORKERS, number_of};

use libc::{c_int, c_uint, c_void, size_t, sockaddr, sockaddr_in, socklen_t, ssize_t, timespec};

/// The time at which every simulation begins.
const BEGINNING: Duration = Duration::from_secs(1_790_000_000);
/// The operator, whose clock is right, the workers and the coordinators.
const HOSTS: usize = 1 + WORKERS.len() + COORDINATORS.len();
/// What the other clocks show then.
const UP: Duration = Duration::from_secs(100_000);

/// A connection that a host opened, or tried to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Since the beginning.
    pub at: Duration,
    /// The host, by its number.
    pub host: usize,
    pub to: SocketAddrV4,
}

/// What becomes of a connection: it depends on the address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Open,
    Refused,
    Silent,
}

impl Fate {
    pub fn of(to: SocketAddrV4) -> Self {
        match (u32::from(*to.ip()).wrapping_mul(0x9e37_79b9) >> 16) % 10 {
            0 | 1 => Fate::Open,
            2..=4 => Fate::Silent,
            _ => Fate::Refused,
        }
    }
}

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static CHANCE: Cell<u64> = const { Cell::new(0) };
    static HOST: Cell<usize> = const { Cell::new(0) };
    /// Seconds by which each host's wall clock is wrong.
    static WRONG: Cell<[i64; HOSTS]> = const { Cell::new([0; HOSTS]) };
    static CONNECTIONS: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
}

/// Makes this thread's machine a simulated one until it is dropped.
pub struct Simulated(());

impl Simulated {
    pub fn begin(seed: u64) -> Self {
        doors();
        CHANCE.set(seed.wrapping_mul(2).wrapping_add(1));
        ELAPSED.set(Duration::ZERO);
        WRONG.set([0; HOSTS]);
        CONNECTIONS.take();
        SIMULATED.set(true);
        Self(())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        SIMULATED.set(false);
    }
}

/// Does something on the machine as it is.
pub fn outside<T>(act: impl FnOnce() -> T) -> T {
    let simulated = SIMULATED.replace(false);
    let done = act();
    SIMULATED.set(simulated);
    done
}

/// Moves the clocks.
pub fn set_elapsed(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

pub fn elapsed() -> Duration {
    ELAPSED.get()
}

/// Sets a host's wall clock wrong by so many seconds. Its other clocks go on.
pub fn set_wall_wrong(host: usize, seconds: i64) {
    let mut wrong = WRONG.get();
    wrong[host] = seconds;
    WRONG.set(wrong);
}

/// The wall clock at some time since the beginning.
pub fn wall(elapsed: Duration) -> Timestamp {
    let time = UNIX_EPOCH + BEGINNING + elapsed;
    Timestamp::try_from(time).expect("in this century")
}

/// The wall clock of a machine that is never wrong.
pub fn right_time() -> Timestamp {
    wall(elapsed())
}

/// The connections so far, which are forgotten.
pub fn take_connections() -> Vec<Connection> {
    CONNECTIONS.take()
}

/// Where open and silent addresses lead to: a listener that takes everybody, and one whose queue is full.
fn doors() -> (u16, u16) {
    static DOORS: OnceLock<(u16, u16)> = OnceLock::new();
    *DOORS.get_or_init(|| {
        let open = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .and_then(|socket| {
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
                socket.listen(0)?;
                Ok(TcpListener::from(socket))
            })
            .expect("a free port");
        let ports = (port(&open), port(&full));
        thread::spawn(move || {
            // Nobody hears of a close while it is looked at.
            let mut kept = VecDeque::new();
            for taken in open.incoming() {
                kept.push_back(taken);
                if kept.len() > 500 {
                    kept.pop_front();
                }
            }
        });
        thread::spawn(move || {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.1));
            let fill = || TcpStream::connect_timeout(&to, Duration::from_millis(200)).ok();
            let kept: Vec<_> = std::iter::from_fn(fill).collect();
            // For as long as the process lives.
            thread::park();
            drop((kept, full));
        });
        while TcpStream::connect_timeout(
            &SocketAddr::from((Ipv4Addr::LOCALHOST, ports.1)),
            Duration::from_millis(200),
        )
        .is_ok()
        {}
        ports
    })
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}

/// clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut timespec) -> c_int {
    if !SIMULATED.get() {
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let shown = ELAPSED.get()
        + match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
                let wrong = WRONG.get()[HOST.get()];
                Duration::from_secs(BEGINNING.as_secs().saturating_add_signed(wrong))
            }
            _ => UP,
        };
    unsafe {
        (*time).tv_sec = shown.as_secs() as libc::time_t;
        (*time).tv_nsec = shown.subsec_nanos().into();
    }
    0
}

/// getrandom(2), by SplitMix64.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(into: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !SIMULATED.get() {
        return unsafe { libc::syscall(libc::SYS_getrandom, into, length, flags) } as ssize_t;
    }
    for at in 0..length {
        let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        CHANCE.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        unsafe { into.cast::<u8>().add(at).write((mixed >> 56) as u8) };
    }
    length as ssize_t
}

/// connect(2): notes what goes to a target, and gives it the target's fate.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(socket: c_int, to: *const sockaddr, length: socklen_t) -> c_int {
    let kernel = |to: *const sockaddr, length: socklen_t| unsafe {
        libc::syscall(libc::SYS_connect, socket, to, length) as c_int
    };
    if !SIMULATED.get() || unsafe { (*to).sa_family } != libc::AF_INET as libc::sa_family_t {
        return kernel(to, length);
    }
    let mut address: sockaddr_in = unsafe { to.cast::<sockaddr_in>().read() };
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    let target = SocketAddrV4::new(ip, u16::from_be(address.sin_port));
    let connection = Connection {
        at: ELAPSED.get(),
        host: HOST.get(),
        to: target,
    };
    CONNECTIONS.with_borrow_mut(|all| all.push(connection));
    let (open, full) = doors();
    let door = match Fate::of(target) {
        Fate::Open => open,
        Fate::Silent => full,
        Fate::Refused => {
            unsafe { *libc::__errno_location() = libc::ECONNREFUSED };
            return -1;
        }
    };
    // One address of loopback for each target: ports are not used up.
    let [_, rest @ ..] = ip.octets();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, rest[0], rest[1], rest[2].max(1)]);
    address.sin_port = door.to_be();
    let length = size_of::<sockaddr_in>() as socklen_t;
    if door == full {
        return kernel((&raw const address).cast(), length);
    }
    // It is open at once, and not whenever the kernel has time for it.
    let flags = unsafe { libc::fcntl(socket, libc::F_GETFL) };
    unsafe { libc::fcntl(socket, libc::F_SETFL, flags & !libc::O_NONBLOCK) };
    let connected = kernel((&raw const address).cast(), length);
    unsafe { libc::fcntl(socket, libc::F_SETFL, flags) };
    connected
}

/// Follows which host turmoil runs, by its spans.
#[derive(Debug, Default)]
pub struct HostNotes {
    hosts: Mutex<Vec<usize>>,
}

impl Subscriber for HostNotes {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.is_span() && of.name() == "node" && of.target().starts_with("turmoil")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut name = HostName::default();
        span.record(&mut name);
        let mut hosts = self.hosts.lock().expect("no holder panics");
        let HostName(number) = name;
        // One span for each host is enough.
        let known = hosts.iter().position(|known| *known == number);
        let index = known.unwrap_or_else(|| {
            hosts.push(number);
            hosts.len() - 1
        });
        span::Id::from_u64(index as u64 + 1)
    }

    fn enter(&self, span: &span::Id) {
        let hosts = self.hosts.lock().expect("no holder panics");
        HOST.set(hosts[span.into_u64() as usize - 1]);
    }

    fn exit(&self, _: &span::Id) {
        HOST.set(0);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}
}

/// The number of the host that a span names.
#[derive(Default)]
struct HostName(usize);

impl Visit for HostName {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.0 = number_of(value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
