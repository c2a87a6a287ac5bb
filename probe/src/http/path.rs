//! Web proxies that are told in the path or the query what to fetch: cors-anywhere and its kin, and rewrite rules gone wrong.

use ajar_model::{Evidence, ProbeId, Tier};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Http, codec,
    fetch::{self, Fetcher, Way},
};
use crate::{
    destination::Form,
    examination::Examination,
    protocol::{Probe, Protocol},
};

/// Does it fetch what its path names?
pub(crate) struct Path;

impl Probe for Path {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-path")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "web proxy that fetches what its path or query names"
    }

    fn adds_to_open(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        fetch::run(self, examination).boxed()
    }
}

/// The fields of a query that such proxies read, for a page.
macro_rules! query {
    ($path:literal) => {
        concat!(
            $path,
            "?url=http://PAGE&u=http://PAGE&uri=http://PAGE&q=http://PAGE&target=http://PAGE\
             &link=http://PAGE&src=http://PAGE"
        )
    };
}

/// A way by a path, asked of the target by its own name: it is given no name of ours.
macro_rules! by_path {
    ($label:literal, $path:expr) => {
        Way {
            label: $label,
            forms: &[Form::Literal],
            claims: false,
            request: |asked| {
                let target = $path.replace("PAGE", &asked.page());
                codec::get_by_script(&target, asked.host, asked.agent)
            },
        }
    };
}

impl Fetcher for Path {
    fn asks_in_origin_form(&self) -> bool {
        true
    }

    fn ways(&self) -> &'static [Way] {
        &[
            by_path!("path-url", "/http://PAGE"),
            by_path!("path-url-merged", "/http:/PAGE"),
            by_path!("path", "/PAGE"),
            by_path!("path-proxy", "/proxy/http://PAGE"),
            by_path!("path-proxy-host", "/proxy/PAGE"),
            by_path!("path-scheme", "/http/PAGE"),
            by_path!("query-url", query!("/")),
            by_path!("query-url-proxy", query!("/proxy")),
            by_path!("query-url-proxy-folder", query!("/proxy/")),
            by_path!("query-url-proxy-php", query!("/proxy.php")),
            by_path!("query-url-proxy-api", query!("/api/proxy")),
            by_path!("query-url-fetch", query!("/fetch")),
            by_path!("query-url-index", query!("/index.php")),
        ]
    }
}
