//! Proxies, and web servers that are none.

use std::net::SocketAddr;

use ajar_model::Verdict;

use super::{Corpus, Truth};
use crate::{Access, DOMAINS, Dante, Front, Site, Squid, TelnetGateway};

pub(super) fn add(corpus: &mut Corpus) {
    use Verdict::{Closed, NotAService, Open, Protected, Unproven};
    corpus.squid("Squid, open", Open, "http_access allow all");
    corpus.squid("Squid, closed", Closed, "");
    corpus.squid(
        "Squid in hiding, closed",
        Closed,
        "via off\nreply_header_access Server deny all\nreply_header_access X-Squid-Error deny all",
    );
    corpus.squid(
        "Squid, wants a login",
        Protected,
        "auth_param basic program /usr/lib/squid/basic_ncsa_auth /dev/null\n\
         acl known proxy_auth REQUIRED\n\
         http_access allow known",
    );
    let other = Truth::Curl("-x http://PROXY --proxytunnel http://OTHER/");
    corpus.add(
        "Squid, CONNECT to one port only",
        3128,
        Open,
        other,
        |site, endpoint| {
            let port = site.canary_page_tls().port();
            let rules = format!(
                "acl tunnel method CONNECT\nacl there port {port}\nhttp_access allow tunnel there"
            );
            Squid::ruled(endpoint, &rules)
        },
    );
    let told = Truth::Curl("--haproxy-protocol -x http://PROXY http://PAGE/");
    corpus.add(
        "Squid, believes a PROXY header",
        3128,
        Open,
        told,
        |_, endpoint| {
            let rules = format!(
                "http_port {endpoint} require-proxy-header\n\
                 proxy_protocol_access allow all\nhttp_access allow localhost"
            );
            Squid::ruled(SocketAddr::new(endpoint.ip(), 3129), &rules)
        },
    );
    let tls = Truth::Curl("-x https://PROXY --proxy-insecure http://PAGE/");
    corpus.add("Squid, inside TLS", 8443, Open, tls, |_, endpoint| {
        let behind = SocketAddr::new(endpoint.ip(), 3129);
        let squid = Squid::start(Access::Open, behind)?;
        Ok((Front::stunnel(endpoint, behind)?, squid))
    });
    let old = "-x https://PROXY --proxy-insecure --proxy-tlsv1 --proxy-ciphers ALL:@SECLEVEL=0 http://PAGE/";
    corpus.add(
        "Squid, inside TLS 1.0 alone",
        8443,
        Open,
        Truth::Curl(old),
        |_, endpoint| {
            let behind = SocketAddr::new(endpoint.ip(), 3129);
            let squid = Squid::start(Access::Open, behind)?;
            Ok((Front::old_stunnel(endpoint, behind)?, squid))
        },
    );
    let fetched = Truth::Curl("-x http://PROXY http://PAGE/");
    corpus.add(
        "Twisted, fetches alone",
        8080,
        Open,
        fetched,
        |_, endpoint| Front::twisted(endpoint),
    );
    corpus.add(
        "nghttpx, HTTP/2 alone",
        8443,
        Open,
        Truth::Made,
        |_, endpoint| {
            let behind = SocketAddr::new(endpoint.ip(), 3129);
            let squid = Squid::start(Access::Open, behind)?;
            Ok((Front::nghttpx(endpoint, behind)?, squid))
        },
    );
    let forwards = || Truth::Curl("-x http://PROXY http://PAGE/");
    corpus.add("tinyproxy, open", 8888, Open, forwards(), |_, endpoint| {
        Front::tinyproxy(endpoint, "")
    });
    corpus.add(
        "tinyproxy, closed",
        8888,
        Closed,
        forwards(),
        |_, endpoint| Front::tinyproxy(endpoint, "Allow 192.0.2.1"),
    );
    corpus.add("Privoxy, open", 8118, Open, forwards(), |_, endpoint| {
        Front::privoxy(endpoint, "")
    });
    corpus.apache(
        "Apache, forward proxy",
        Open,
        "ProxyRequests On\nAllowCONNECT 1-65535\n<Proxy *>\nRequire all granted\n</Proxy>",
    );
    corpus.apache(
        "Apache, forward proxy, closed",
        Closed,
        "ProxyRequests On\n<Proxy *>\nRequire all denied\n</Proxy>",
    );
    corpus.apache("Apache, web server", NotAService, "ProxyRequests Off");
    corpus.nginx(
        "nginx, web server",
        NotAService,
        "-x http://PROXY http://PAGE/",
        "location / { return 200 own; }",
    );
    corpus.nginx(
        "nginx, fetches what a query under a path names",
        Open,
        "http://PROXY/proxy?url=http://PAGE/",
        "location = /proxy { proxy_pass $arg_url; }",
    );
    corpus.nginx(
        "nginx, web server whose backend is down",
        NotAService,
        "-x http://PROXY http://PAGE/",
        "location / { proxy_pass http://127.0.0.1:1; }",
    );
    corpus.nginx(
        "nginx, forbids absolute URIs",
        NotAService,
        "-x http://PROXY http://PAGE/",
        "if ($request ~ \"^[A-Z]+ https?:\") { return 403; } location / { return 200 own; }",
    );
    corpus.nginx(
        "nginx, follows the Host field",
        Open,
        "-H Host:PAGE http://PROXY/",
        "location / { proxy_pass http://$http_host; }",
    );
    corpus.nginx(
        "nginx, forbids everything",
        NotAService,
        "-x http://PROXY http://PAGE/",
        "location / { deny all; }",
    );
    let in_its_table = |site: &Site, endpoint| {
        let page = site.canary_page();
        let rule = format!(
            "server_name lab.test; return 404; }} \
             server {{ listen {endpoint}; server_name {}; location / {{ proxy_pass http://{page}; }}",
            DOMAINS[0]
        );
        Front::nginx(endpoint, &rule)
    };
    corpus.add(
        "nginx, has the canary's name in its table",
        8080,
        Unproven,
        Truth::Made,
        in_its_table,
    );
    let told = Truth::Curl("-H Host:PAGE http://PROXY/");
    let to_its_port = |site: &Site, endpoint| {
        let port = site.canary_page().port();
        let rule = format!("location / {{ proxy_pass http://$host:{port}; }}");
        Front::nginx(endpoint, &rule)
    };
    corpus.add(
        "nginx, follows the Host field to a port of its own",
        8080,
        Open,
        told,
        to_its_port,
    );
    corpus.nginx(
        "nginx, fetches what the path names",
        Open,
        "http://PROXY/http://PAGE/",
        "location ~ ^/(https?):/+(.*)$ { proxy_pass $1://$2; }",
    );
    let redirect = |site: &Site, endpoint| Front::haproxy(endpoint, site.canary_page());
    corpus.add(
        "HAProxy, redirects to the canary's page",
        8080,
        NotAService,
        Truth::Made,
        redirect,
    );
    corpus.add(
        "HAProxy, leads to the canary's page once",
        8080,
        Unproven,
        Truth::Made,
        |site, endpoint| Front::haproxy_once(endpoint, site.canary_page()),
    );
    let socks = || Truth::Curl("-x socks5://PROXY http://PAGE/");
    corpus.add("Dante, open", 1080, Open, socks(), |_, endpoint| {
        Dante::start(Access::Open, endpoint)
    });
    corpus.add("ssh -D, open", 1080, Open, socks(), |_, endpoint| {
        Front::ssh(endpoint)
    });
    corpus.add("Dante, closed", 1080, Closed, socks(), |_, endpoint| {
        Dante::start(Access::Closed, endpoint)
    });
    corpus.add(
        "Dante, relays datagrams alone",
        1080,
        Open,
        Truth::Made,
        |_, endpoint| {
            let rules =
                "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpassociate udpreply }";
            Dante::ruled(endpoint, rules)
        },
    );
    corpus.add("microsocks, open", 1080, Open, socks(), |_, endpoint| {
        Front::microsocks(endpoint, &[])
    });
    corpus.add(
        "microsocks, wants a login",
        1080,
        Protected,
        socks(),
        |_, endpoint| Front::microsocks(endpoint, &["-u", "user", "-P", "secret"]),
    );
    corpus.add(
        "Dante, inside TLS",
        8443,
        Open,
        Truth::Made,
        |_, endpoint| {
            let behind = SocketAddr::new(endpoint.ip(), 1081);
            let dante = Dante::start(Access::Open, behind)?;
            Ok((Front::stunnel(endpoint, behind)?, dante))
        },
    );
    corpus.add(
        "sslh, closed Squid and open Dante",
        8080,
        Open,
        socks(),
        |_, endpoint| {
            let (http, socks) = (
                SocketAddr::new(endpoint.ip(), 3129),
                SocketAddr::new(endpoint.ip(), 1081),
            );
            let servers = (
                Squid::start(Access::Closed, http)?,
                Dante::start(Access::Open, socks)?,
            );
            Ok((Front::sslh(endpoint, http, socks)?, servers))
        },
    );
    const RELAYS_TO_LOOPBACK: &str = "--allow-loopback-peers";
    corpus.coturn("coturn, open", Open, &["--no-auth", RELAYS_TO_LOOPBACK]);
    corpus.coturn(
        "coturn, relays datagrams alone",
        Open,
        &["--no-auth", RELAYS_TO_LOOPBACK, "--no-tcp-relay"],
    );
    corpus.coturn("coturn, closed", Closed, &["--no-auth"]);
    corpus.coturn(
        "coturn, wants a login",
        Protected,
        &[
            "--lt-cred-mech",
            "--user=a:b",
            "--realm=lab.test",
            RELAYS_TO_LOOPBACK,
        ],
    );
    corpus.coturn("coturn, STUN alone", NotAService, &["--stun-only"]);
    let prompt = || Truth::Ncat("PAGE\\r\\nGET / HTTP/1.0\\r\\n\\r\\n");
    corpus.add(
        "telnet gateway, open",
        2323,
        Open,
        prompt(),
        |_, endpoint| TelnetGateway::start(Access::Open, endpoint),
    );
    corpus.add(
        "telnet gateway, closed",
        2323,
        Closed,
        prompt(),
        |_, endpoint| TelnetGateway::start(Access::Closed, endpoint),
    );
}

impl Corpus {
    fn coturn(&mut self, name: &'static str, expect: Verdict, arguments: &'static [&'static str]) {
        self.add(name, 3478, expect, Truth::Made, |_, endpoint| {
            Front::coturn(endpoint, arguments)
        });
    }

    fn squid(&mut self, name: &'static str, expect: Verdict, rules: &'static str) {
        let truth = Truth::Curl("-x http://PROXY http://PAGE/");
        self.add(name, 3128, expect, truth, move |_, endpoint| {
            Squid::ruled(endpoint, rules)
        });
    }

    fn nginx(
        &mut self,
        name: &'static str,
        expect: Verdict,
        curl: &'static str,
        locations: &'static str,
    ) {
        self.add(name, 8080, expect, Truth::Curl(curl), move |_, endpoint| {
            Front::nginx(endpoint, locations)
        });
    }

    fn apache(&mut self, name: &'static str, expect: Verdict, directives: &'static str) {
        let truth = Truth::Curl("-x http://PROXY http://PAGE/");
        self.add(name, 8080, expect, truth, move |_, endpoint| {
            Front::apache(endpoint, directives)
        });
    }
}
