//! Mail servers.

use std::{net::SocketAddr, time::Duration};

use ajar_model::Verdict;

use super::{Corpus, Truth};
use crate::{Access, DOMAINS, Exim, Front, OpenSmtpd, Postfix, Postgrey, Sendmail, Site};

const OPEN: &str = "mynetworks=0.0.0.0/0";

pub(super) fn add(corpus: &mut Corpus) {
    use Verdict::{Closed, Open, Protected, Unproven};
    corpus.postfix("Postfix, open", Open, "", &[OPEN]);
    corpus.postfix("Postfix, closed", Closed, "", &[]);
    corpus.postfix(
        "Postfix, open to who calls itself localhost",
        Open,
        "--helo localhost",
        &["smtpd_relay_restrictions=check_helo_access inline:{localhost=OK}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, open to who calls itself as it does",
        Open,
        "--helo mx.lab.test",
        &["smtpd_relay_restrictions=check_helo_access inline:{mx.lab.test=OK}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, open to senders of its own domain",
        Open,
        "--from who@lab.test",
        &["smtpd_relay_restrictions=check_sender_access regexp:{{/@lab.test$$/ OK}}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, open to senders of its own name",
        Open,
        "--from who@mx.lab.test",
        &["smtpd_relay_restrictions=check_sender_access inline:{mx.lab.test=OK}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, open to the null sender",
        Open,
        "--from <>",
        &["smtpd_relay_restrictions=check_sender_access inline:{<>=OK}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, open to senders at localhost",
        Open,
        "--from who@localhost",
        &["smtpd_relay_restrictions=check_sender_access inline:{localhost=OK}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, believes XCLIENT",
        Open,
        "--xclient-addr 127.0.0.1 --xclient-name localhost",
        &[
            "smtpd_relay_restrictions=check_client_access inline:{localhost=OK}, reject_unauth_destination",
            "smtpd_peername_lookup=no",
            "smtpd_authorized_xclient_hosts=127.0.0.0/8",
        ],
    );
    corpus.postfix(
        "Postfix, wants a login",
        Protected,
        "",
        &["smtpd_relay_restrictions=check_client_access static:{530 5.7.0 Authentication required}, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, refuses the message",
        Closed,
        "",
        &[OPEN, "smtpd_end_of_data_restrictions=reject"],
    );
    corpus.postfix(
        "Postfix, discards",
        Unproven,
        "",
        &[OPEN, "transport_maps=static:discard"],
    );
    corpus.postfix(
        "Postfix, unknown senders get a 450",
        Closed,
        "",
        &["smtpd_relay_restrictions=reject_unknown_sender_domain, reject_unauth_destination"],
    );
    corpus.postfix(
        "Postfix, takes any mailbox of its own",
        Closed,
        "",
        &[
            "mydestination=lab.test, mx.lab.test, localhost",
            "luser_relay=nobody",
            "mailbox_command=/bin/true",
        ],
    );
    corpus.postfix(
        "Postfix, puts off who may not relay",
        Closed,
        "",
        &["smtpd_relay_restrictions=permit_mynetworks, defer_unauth_destination"],
    );
    let alone = Truth::Mail("");
    corpus.add(
        "Postfix, backup MX of one domain",
        2525,
        Unproven,
        alone,
        |site, endpoint| {
            let postfix = postfix(site, Access::Closed, endpoint)?;
            postfix.take_charge_of(DOMAINS[0])?;
            Ok(postfix)
        },
    );
    let alone = Truth::Mail("");
    corpus.add(
        "Postfix, backup MX of one domain that takes its time",
        2525,
        Unproven,
        alone,
        |site, endpoint| {
            let postfix = postfix(site, Access::Closed, endpoint)?;
            postfix.take_charge_of(DOMAINS[0])?;
            postfix.configure(&["smtpd_end_of_data_restrictions=sleep 20, permit"])?;
            Ok(postfix)
        },
    );
    corpus.postfix(
        "Postfix, tarpit, open to senders at localhost",
        Open,
        "--from who@localhost",
        &[
            "smtpd_relay_restrictions=check_sender_access inline:{localhost=OK}, reject_unauth_destination",
            "smtpd_error_sleep_time=3s",
            "smtpd_soft_error_limit=1",
            "smtpd_hard_error_limit=1000",
        ],
    );
    corpus.postfix(
        "Postfix, open, one recipient a mail",
        Open,
        "",
        &[OPEN, "smtpd_recipient_limit=1"],
    );
    corpus.add(
        "Postfix, backup MX of both domains",
        2525,
        Unproven,
        Truth::Made,
        |site, endpoint| {
            let postfix = postfix(site, Access::Closed, endpoint)?;
            postfix.take_charge_of(&DOMAINS.join(", "))?;
            Ok(postfix)
        },
    );
    let patient = || Truth::MailInTime("");
    corpus.add(
        "Postfix, postgrey, open",
        2525,
        Open,
        patient(),
        |site, endpoint| {
            let postgrey = Postgrey::start(Duration::from_secs(4), "Greylisted for %s seconds")?;
            let postfix = postfix(site, Access::Open, endpoint)?;
            postfix.configure(&[postgrey.restriction()])?;
            Ok((postfix, postgrey))
        },
    );
    corpus.add(
        "Postfix, postscreen, open",
        2525,
        Open,
        patient(),
        |site, endpoint| {
            let postfix = postfix(site, Access::Open, endpoint)?;
            postfix.screen()?;
            Ok(postfix)
        },
    );
    corpus.exim("Exim, open", Open, "", "  accept");
    corpus.exim(
        "Exim, closed",
        Closed,
        "",
        "  require message = relay not permitted\n          domains = +local_domains\n  require verify = recipient\n  accept",
    );
    corpus.exim(
        "Exim, open to senders of its own domain",
        Open,
        "--from who@lab.test",
        "  accept senders = *@lab.test\n  require message = relay not permitted\n          domains = +local_domains\n  accept",
    );
    corpus.exim(
        "Exim, wants a login",
        Protected,
        "",
        "  deny message = 530 5.7.0 authentication required",
    );
    let told = "--proxy-version 1 --proxy-family TCP4 --proxy-source 127.0.0.1 --proxy-source-port 40000 \
                --proxy-dest 127.0.0.1 --proxy-dest-port 25";
    corpus.postfix(
        "Postfix, believes a PROXY header",
        Open,
        told,
        &[
            "mynetworks=127.0.0.0/8",
            "smtpd_upstream_proxy_protocol=haproxy",
        ],
    );
    corpus.opensmtpd(
        "OpenSMTPD, open",
        Open,
        "",
        "",
        "match from any for any action \"out\"",
    );
    let closed =
        "action \"local\" maildir\nmatch from any for domain \"lab.test\" action \"local\"";
    corpus.opensmtpd("OpenSMTPD, closed", Closed, "", "", closed);
    corpus.opensmtpd(
        "OpenSMTPD, takes any mailbox of its own",
        Closed,
        "",
        "",
        "table all { \"@\" = \"root\" }\naction \"local\" maildir virtual <all>\n\
         match from any for domain { \"lab.test\", \"mx.lab.test\" } action \"local\"",
    );
    corpus.opensmtpd(
        "OpenSMTPD, open to senders of its own domain",
        Open,
        "--from who@lab.test",
        "",
        "match from any mail-from \"@lab.test\" for any action \"out\"",
    );
    corpus.opensmtpd(
        "OpenSMTPD, believes a PROXY header",
        Open,
        "--proxy-version 2 --proxy-family AF_INET --proxy-protocol STREAM --proxy-command PROXY --proxy-source 127.0.0.1 --proxy-source-port 40000 \
         --proxy-dest 127.0.0.1 --proxy-dest-port 25",
        "proxy-v2",
        "match from local for any action \"out\"",
    );
    corpus.sendmail("Sendmail, open", Open, "", "FEATURE(`promiscuous_relay')");
    corpus.sendmail("Sendmail, closed", Closed, "", "");
    corpus.sendmail(
        "Sendmail, open to senders of its own domain",
        Open,
        "--from who@lab.test",
        "FEATURE(`relay_local_from')",
    );
    corpus.add(
        "Postfix, open inside TLS alone",
        2525,
        Open,
        Truth::Mail("--tls"),
        |site, endpoint| {
            let postfix = postfix(site, Access::Open, endpoint)?;
            postfix.require_tls()?;
            Ok(postfix)
        },
    );
    let behind_nginx = |auth: &'static str| {
        move |site: &Site, endpoint: SocketAddr| {
            let behind = SocketAddr::new(endpoint.ip(), 2526);
            let relay = postfix(site, Access::Open, behind)?;
            Ok((Front::nginx_mail(endpoint, behind, auth)?, relay))
        }
    };
    corpus.add(
        "nginx, passes all mail on",
        2525,
        Open,
        Truth::Mail(""),
        behind_nginx("none"),
    );
    corpus.add(
        "nginx, passes mail on after a login",
        2525,
        Protected,
        Truth::Mail(""),
        behind_nginx("login plain"),
    );
    let redirect = |site: &Site, endpoint| Front::haproxy(endpoint, site.canary_mail());
    corpus.add(
        "HAProxy, redirects to the canary's mail",
        2525,
        Closed,
        Truth::Made,
        redirect,
    );
}

impl Corpus {
    /// Postfix that relays for nobody, but for these settings.
    fn postfix(
        &mut self,
        name: &'static str,
        expect: Verdict,
        swaks: &'static str,
        settings: &'static [&'static str],
    ) {
        let truth = Truth::Mail(swaks);
        self.add(name, 2525, expect, truth, move |site, endpoint| {
            let postfix = postfix(site, Access::Closed, endpoint)?;
            if !settings.is_empty() {
                postfix.configure(settings)?;
            }
            Ok(postfix)
        });
    }

    fn opensmtpd(
        &mut self,
        name: &'static str,
        expect: Verdict,
        swaks: &'static str,
        listener: &'static str,
        rules: &'static str,
    ) {
        let truth = Truth::Mail(swaks);
        self.add(name, 2525, expect, truth, move |site, endpoint| {
            OpenSmtpd::start(endpoint, listener, rules, site.canary_mail())
        });
    }

    fn sendmail(
        &mut self,
        name: &'static str,
        expect: Verdict,
        swaks: &'static str,
        features: &'static str,
    ) {
        let truth = Truth::Mail(swaks);
        self.add(name, 2525, expect, truth, move |site, endpoint| {
            Sendmail::start(endpoint, features, site.canary_mail())
        });
    }

    fn exim(
        &mut self,
        name: &'static str,
        expect: Verdict,
        swaks: &'static str,
        acl: &'static str,
    ) {
        let truth = Truth::Mail(swaks);
        self.add(name, 2525, expect, truth, move |site, endpoint| {
            Exim::start(endpoint, acl, DOMAINS, site.canary_mail())
        });
    }
}

fn postfix(site: &Site, access: Access, endpoint: SocketAddr) -> anyhow::Result<Postfix> {
    Postfix::start(access, endpoint, DOMAINS, site.canary_mail())
}
