//! Results in other programs' formats, read by those programs.

use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Access, Ajar, Finished, Site, finished, target};

/// An open HTTP proxy, an open SOCKS server, a closed proxy and an open relay at 127.0.NET.1 to 4, audited.
fn audited(net: u8) -> Ajar {
    let site = Site::new()
        .squid(&format!("127.0.{net}.1:3128"), Access::Open)
        .dante(&format!("127.0.{net}.2:1080"), Access::Open)
        .squid(&format!("127.0.{net}.3:3128"), Access::Closed)
        .postfix(&format!("127.0.{net}.4:2525"), Access::Open);
    let scan = site.scan(&format!(
        "127.0.{net}.0/29 -p 1080,2525,3128 --settle 60s --confirm-after 1s"
    ));
    assert_eq!(scan.status, 0, "{}", scan.stderr);
    site.ajar.clone()
}

/// Runs one of the scripts in `python` with the packages that `make test` installs beside the build.
fn python(ajar: &Ajar, script: &str, argument: &str) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(script);
    let ran = Command::new(target().join("python/bin/python"))
        .arg(script)
        .arg(argument)
        .current_dir(ajar.path())
        .output()
        .expect("`make test` installs it");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let printed = String::from_utf8(ran.stdout).unwrap();
    printed.lines().map(str::to_owned).collect()
}

/// Exports the findings; a reporter's name may have spaces.
fn export(ajar: &Ajar, options: &str, reporter: Option<&str>) -> Finished {
    let mut command = ajar.command(&format!("findings export --inside-counts {options}"));
    command.args(reporter.map(|name| format!("--reporter={name}")));
    finished(&mut command).unwrap()
}

fn exported(ajar: &Ajar, options: &str, reporter: Option<&str>) {
    let exported = export(ajar, options, reporter);
    assert_eq!(exported.status, 0, "{}", exported.stderr);
}

#[test]
fn intelmq_reads_what_is_open_from_shadowservers_columns() {
    let ajar = audited(15);
    exported(&ajar, "--format shadowserver -o reports", None);
    let events = python(&ajar, "intelmq_events.py", "reports");
    let expected = [
        "127.0.15.1 3128 open-http-proxy tcp medium",
        "127.0.15.4 2525 open-smtp tcp high",
        "127.0.15.2 1080 open-socks tcp medium",
    ];
    assert_eq!(events, expected);
}

#[test]
fn the_xarf_package_takes_every_report() {
    let ajar = audited(16);
    let reporter = Some("Example Net <abuse@example.net>");
    exported(&ajar, "--format xarf -o reports", reporter);
    let reports = python(&ajar, "xarf_reports.py", "reports");
    let expected = [
        "127.0.16.1 3128 vulnerability open_service http-proxy",
        "127.0.16.2 1080 vulnerability open_service socks5",
        "127.0.16.4 2525 vulnerability open_service smtp",
    ];
    assert_eq!(reports, expected);

    for (options, reporter, said) in [
        ("--format xarf", None, "give --reporter"),
        ("--format xarf", Some("abuse"), "a name and a mail address"),
        ("--format shadowserver", None, "name a directory with -o"),
    ] {
        let refused = export(&ajar, options, reporter);
        assert_eq!(refused.status, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
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
    let ajar = audited(17);
    exported(&ajar, "--format rbldnsd -o zone", None);
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
    check("1.17.0.127", "A", "127.0.0.9");
    check("2.17.0.127", "A", "127.0.0.8");
    check("3.17.0.127", "A", "");
    check("4.17.0.127", "A", "127.0.0.5");
    let six = format!("2.0.0.0.0.0.f.7.f.f.f.f{}", ".0".repeat(20));
    check(&six, "A", "127.0.0.2");
    let said = dig("1.17.0.127.bl.test", "TXT");
    assert!(
        said.contains("open_proxy on port 3128, proven at 20"),
        "{said}"
    );
}
