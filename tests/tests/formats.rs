//! Results in other programs' formats, read by those programs.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Access, Ajar, DOMAIN, Dante, Squid, free_port};

/// An open HTTP proxy at 127.0.15.1 and an open SOCKS server at 127.0.15.2, audited; closed ones beside them.
fn audited() -> Ajar {
    let at =
        |host: u8, port: u16| -> SocketAddr { format!("127.0.15.{host}:{port}").parse().unwrap() };
    let _servers = (
        Squid::start(Access::Open, at(1, 3128)).unwrap(),
        Dante::start(Access::Open, at(2, 1080)).unwrap(),
        Squid::start(Access::Closed, at(3, 3128)).unwrap(),
    );
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let ports = canary.map(|port| port.to_string()).join(",");
    let arguments = format!(
        "scan 127.0.15.0/29 -p 1080,3128 --settle 0s --format jsonl -o /dev/null \
         --canary-domain {DOMAIN} --canary-ports {ports}"
    );
    let ajar = Ajar::new().unwrap();
    let scan = ajar.run(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!(scan.status, 0, "{}", scan.stderr);
    ajar
}

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_zone_is_served_by_rbldnsd() {
    let ajar = audited();
    let exported = ajar.run(&["findings", "export", "--format", "rbldnsd", "-o", "zone"]);
    let exported = exported.unwrap();
    assert_eq!(exported.status, 0, "{}", exported.stderr);

    fs::set_permissions(ajar.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // It refuses to run as root.
    let user = match rustix::process::getuid().is_root() {
        true => &["-u", "nobody"][..],
        false => &[],
    };
    let served = Command::new("/usr/sbin/rbldnsd")
        .args(user)
        .args(["-n", "-b", &format!("127.0.0.1/{port}"), "-w"])
        .arg(ajar.path())
        .arg("bl.test:combined:zone")
        .spawn()
        .unwrap();
    let _served = Running(served);
    let dig = |name: &str, kind: &str| {
        let server = ["@127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        let question = ["+short", "+tries=1", "+time=1", name, kind].map(str::to_owned);
        let asked = Command::new("dig")
            .args(server)
            .args(question)
            .output()
            .unwrap();
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    };
    let started = Instant::now();
    while dig("2.0.0.127.bl.test", "A") != "127.0.0.2" {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it serves nothing"
        );
        thread::sleep(Duration::from_millis(100));
    }
    let check = |name: &str, kind: &str, expect: &str| {
        assert_eq!(
            dig(&format!("{name}.bl.test"), kind),
            expect,
            "{name} {kind}"
        );
    };
    check("1.0.0.127", "A", "");
    check("1.15.0.127", "A", "127.0.0.9");
    check("2.15.0.127", "A", "127.0.0.8");
    check("3.15.0.127", "A", "");
    let six = format!("2.0.0.0.0.0.f.7.f.f.f.f{}", ".0".repeat(20));
    check(&six, "A", "127.0.0.2");
    let said = dig("1.15.0.127.bl.test", "TXT");
    assert!(
        said.contains("open_proxy on port 3128, proven at 20"),
        "{said}"
    );
}
