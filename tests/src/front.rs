//! What stands in front of other servers: redirected ports, TLS ends, shared ports, and web servers that fetch from others.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    namespace::as_root,
    server::{Process, await_listener},
};

/// One that runs until it is dropped.
#[derive(Debug)]
pub struct Front {
    _process: Process,
    _directory: TempDir,
}

impl Front {
    /// HAProxy that passes every connection on.
    pub fn haproxy(endpoint: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        Self::haproxy_as(endpoint, to, IpAddr::from([0, 0, 0, 0]))
    }

    /// The same from this address, as the port mapping of a container network does.
    pub fn haproxy_as(
        endpoint: SocketAddr,
        to: SocketAddr,
        source: IpAddr,
    ) -> anyhow::Result<Self> {
        let listen = format!("mode tcp\n bind {endpoint}\n server only {to} source {source}");
        Self::haproxy_listening(endpoint, &listen)
    }

    /// HAProxy in front of a web server. It passes one GET on, and answers 429 for the next ten
    /// minutes.
    pub fn haproxy_once(endpoint: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listen = format!(
            "mode http\n bind {endpoint}\n server only {to}\n\
             stick-table type ip size 10 expire 10m store http_req_cnt\n\
             http-request deny unless METH_GET\n\
             http-request track-sc0 src\n\
             http-request deny deny_status 429 if {{ sc_http_req_cnt(0) gt 1 }}"
        );
        Self::haproxy_listening(endpoint, &listen)
    }

    fn haproxy_listening(endpoint: SocketAddr, listen: &str) -> anyhow::Result<Self> {
        let configuration = format!(
            "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen front\n {listen}\n"
        );
        Self::start(
            endpoint,
            |_| configuration,
            |path| {
                let mut haproxy = Command::new("haproxy");
                haproxy.arg("-db").arg("-f").arg(path);
                haproxy
            },
        )
    }

    /// nginx with this in its configuration of the server.
    pub fn nginx(endpoint: SocketAddr, locations: &str) -> anyhow::Result<Self> {
        let server = format!("listen {endpoint}; {locations}");
        let configuration = |directory: &Path| nginx_serving(directory, &server);
        Self::start(endpoint, configuration, nginx)
    }

    /// nginx that passes mail on to another server, to whoever has shown who they are in one of these ways; `none` for everybody.
    pub fn nginx_mail(endpoint: SocketAddr, to: SocketAddr, auth: &str) -> anyhow::Result<Self> {
        // It asks an HTTP server whom to let in, and where to.
        let asked = SocketAddr::new(endpoint.ip(), 9099);
        let (ip, port) = (to.ip(), to.port());
        let server = format!(
            "listen {asked}; location / {{ add_header Auth-Status OK; add_header Auth-Server {ip}; \
             add_header Auth-Port {port}; return 204; }}"
        );
        let configuration = |directory: &Path| {
            let web = nginx_serving(directory, &server);
            format!(
                "load_module /usr/lib/nginx/modules/ngx_mail_module.so;\n{web}\
                 mail {{ server_name mx.lab.test; auth_http {asked}/; xclient off;\n\
                 server {{ listen {endpoint}; protocol smtp; smtp_auth {auth}; }} }}\n"
            )
        };
        Self::start(endpoint, configuration, nginx)
    }

    /// `ssh -D` for everybody, by way of a server at the same address.
    pub fn ssh(endpoint: SocketAddr) -> anyhow::Result<Self> {
        let ip = endpoint.ip();
        let configuration = |directory: &Path| {
            let directory = directory.display();
            format!(
                "ListenAddress {ip}\nPort 2200\nHostKey {directory}/host\nPidFile none\nUsePAM no\nStrictModes no\n\
                 AuthorizedKeysFile {directory}/client.pub\n"
            )
        };
        let script = format!(
            "cd $(dirname $0); for key in host client; do ssh-keygen -q -t ed25519 -N '' -f $key; done; \
             mount -t tmpfs none /run; mkdir -m 755 /run/sshd; /usr/sbin/sshd -D -f $0 & \
             while ! ssh -N -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o ExitOnForwardFailure=yes -i client -p 2200 -D {endpoint} {ip}; do sleep 0.2; done"
        );
        Self::start(endpoint, configuration, |path| {
            // The server ends with the client.
            let mut ssh = as_root("unshare");
            ssh.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"])
                .arg(script)
                .arg(path);
            ssh
        })
    }

    /// Twisted's proxy, which fetches and knows nothing else.
    pub fn twisted(endpoint: SocketAddr) -> anyhow::Result<Self> {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        let script = format!(
            "from twisted.internet import reactor\nfrom twisted.web import http, proxy\n\
             factory = http.HTTPFactory()\nfactory.protocol = proxy.Proxy\n\
             reactor.listenTCP({port}, factory, interface='{ip}')\nreactor.run()\n"
        );
        Self::start(
            endpoint,
            |_| script,
            |path| {
                let mut python = Command::new("/usr/bin/python3");
                python.arg(path);
                python
            },
        )
    }

    /// Apache with these directives, and its proxy modules.
    pub fn apache(endpoint: SocketAddr, directives: &str) -> anyhow::Result<Self> {
        let modules = [
            "mpm_event",
            "authz_core",
            "proxy",
            "proxy_http",
            "proxy_connect",
            "rewrite",
        ];
        let modules = modules.map(|name| {
            format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
        });
        let configuration = |directory: &Path| {
            let directory = directory.display();
            format!(
                "ServerRoot {directory}\nServerName front.lab.test\nPidFile {directory}/pid\nErrorLog {directory}/error.log\n\
                 Listen {endpoint}\n{}{directives}\n",
                modules.concat()
            )
        };
        Self::start(endpoint, configuration, |path| {
            let mut apache = Command::new("/usr/sbin/apache2");
            // One process: those of a killed parent would go on listening.
            apache.arg("-X").arg("-f").arg(path);
            apache
        })
    }

    /// stunnel, which ends TLS and passes on what was inside.
    pub fn stunnel(endpoint: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        Self::stunnel_with(endpoint, to, "")
    }

    /// A front for clients of TLS 1.0 alone.
    pub fn old_stunnel(endpoint: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let old = "ciphers = ALL:@SECLEVEL=0\nsslVersionMin = TLSv1\nsslVersionMax = TLSv1\n";
        Self::stunnel_with(endpoint, to, old)
    }

    fn stunnel_with(endpoint: SocketAddr, to: SocketAddr, more: &str) -> anyhow::Result<Self> {
        let configuration = |directory: &Path| {
            let directory = directory.display();
            format!(
                "foreground = yes\npid =\n[front]\naccept = {endpoint}\nconnect = {to}\n\
                 cert = {directory}/certificate\nkey = {directory}/key\n{more}"
            )
        };
        Self::start(endpoint, configuration, |path| {
            certified(path, "exec stunnel4 $0")
        })
    }

    /// nghttpx, which speaks HTTP/2 alone, inside TLS, and has an HTTP/1 proxy connect.
    pub fn nghttpx(endpoint: SocketAddr, proxy: SocketAddr) -> anyhow::Result<Self> {
        let (front, port) = (endpoint.ip(), endpoint.port());
        let (back, proxy) = (proxy.ip(), proxy.port());
        let configuration = format!(
            "frontend={front},{port}\nbackend={back},{proxy}\nhttp2-proxy=yes\nnpn-list=h2\nworkers=1\n\
             single-process=yes\nerrorlog-file=/dev/stderr\n"
        );
        let nghttpx = "exec nghttpx --conf=$0 key certificate";
        Self::start(endpoint, |_| configuration, |path| certified(path, nghttpx))
    }

    /// tinyproxy with these directives.
    pub fn tinyproxy(endpoint: SocketAddr, directives: &str) -> anyhow::Result<Self> {
        let configuration = format!(
            "Listen {}\nPort {}\nMaxClients 20\n{directives}\n",
            endpoint.ip(),
            endpoint.port()
        );
        Self::start(
            endpoint,
            |_| configuration,
            |path| {
                let mut tinyproxy = Command::new("tinyproxy");
                tinyproxy.arg("-d").arg("-c").arg(path);
                tinyproxy
            },
        )
    }

    /// Privoxy with these directives.
    pub fn privoxy(endpoint: SocketAddr, directives: &str) -> anyhow::Result<Self> {
        let configuration = format!("listen-address {endpoint}\n{directives}\n");
        Self::start(
            endpoint,
            |_| configuration,
            |path| {
                let mut privoxy = Command::new("/usr/sbin/privoxy");
                privoxy.arg("--no-daemon").arg(path);
                privoxy
            },
        )
    }

    /// microsocks with these arguments.
    pub fn microsocks(endpoint: SocketAddr, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start(
            endpoint,
            |_| String::new(),
            |_| {
                let mut microsocks = Command::new("microsocks");
                microsocks
                    .args(["-i", &endpoint.ip().to_string()])
                    .args(["-p", &endpoint.port().to_string()])
                    .args(arguments);
                microsocks
            },
        )
    }

    /// sslh, which tells HTTP from SOCKS by a client's first bytes.
    pub fn sslh(endpoint: SocketAddr, http: SocketAddr, socks: SocketAddr) -> anyhow::Result<Self> {
        Self::start(
            endpoint,
            |_| String::new(),
            |_| {
                let mut sslh = Command::new("/usr/sbin/sslh-select");
                sslh.args(["--foreground", "--numeric"])
                    .args(["--listen", &endpoint.to_string()])
                    .args(["--http", &http.to_string()])
                    .args(["--socks5", &socks.to_string()]);
                sslh
            },
        )
    }

    /// coturn with these arguments.
    pub fn coturn(endpoint: SocketAddr, arguments: &[&str]) -> anyhow::Result<Self> {
        let (ip, port) = (endpoint.ip().to_string(), endpoint.port().to_string());
        Self::start(
            endpoint,
            |_| String::new(),
            |path| {
                let beside = |name: &str| path.with_file_name(name);
                let mut coturn = Command::new("turnserver");
                coturn
                    .args([
                        "-n",
                        "--no-tls",
                        "--no-dtls",
                        "--no-cli",
                        "--log-file",
                        "stdout",
                    ])
                    .args(["-L", &ip, "-E", &ip, "-p", &port, "--pidfile"])
                    .arg(beside("pid"))
                    .arg("--db")
                    .arg(beside("db"))
                    .args(arguments);
                coturn
            },
        )
    }

    fn start(
        endpoint: SocketAddr,
        configuration: impl FnOnce(&Path) -> String,
        command: impl FnOnce(&Path) -> Command,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("configuration");
        fs::write(&path, configuration(directory.path()))?;
        let log = directory.path().join("log");
        let process = Process::start(&mut command(&path), &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

/// nginx's configuration with this in its only web server.
fn nginx_serving(directory: &Path, server: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let directory = directory.display();
    let paths = kinds.map(|kind| format!("{kind}_temp_path {directory}/{kind};"));
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log {directory}/error.log;\nevents {{}}\n\
         http {{\n    access_log off;\n    {}\n    server {{ {server} }}\n}}\n",
        paths.join(" ")
    )
}

fn nginx(configuration: &Path) -> Command {
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-c").arg(configuration);
    nginx
}

/// A program that runs where its configuration is, and a `key` and a `certificate` that are made first.
fn certified(configuration: &Path, program: &str) -> Command {
    let script = format!(
        "cd $(dirname $0); openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
         -subj /CN=front.lab.test -days 2 -keyout key -out certificate; {program}"
    );
    let mut command = Command::new("sh");
    command.arg("-ec").arg(script).arg(configuration);
    command
}
