//! Where Redis is: one server, the one that Sentinels name, or a Redis Cluster.

use std::{sync::Mutex, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisResult,
    ScriptInvocation, TlsMode,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

/// How long an answer is waited for.
const RESPONSE: Duration = Duration::from_secs(3);

/// What a URL names. Hosts are separated by commas; user, password and database are those of the data's servers.
#[derive(Debug)]
pub(crate) enum Address {
    /// `redis://USER:PASSWORD@HOST:PORT/DB`, `rediss://` for TLS.
    One(ConnectionInfo),
    /// `redis-sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB#MASTER`, `rediss-sentinel://` for TLS.
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        tls: bool,
    },
    /// `redis-cluster://USER:PASSWORD@HOST:PORT,HOST:PORT`, `rediss-cluster://` for TLS.
    Cluster(Vec<ConnectionInfo>),
}

impl Address {
    /// None if it is no such URL.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, kind) = match scheme.split_once('-') {
            Some((scheme, kind)) => (scheme, kind),
            None => (scheme, ""),
        };
        let (rest, master) = match rest.split_once('#') {
            Some((rest, master)) => (rest, Some(master)),
            None => (rest, None),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (format!("{user}@"), rest),
            None => (String::new(), rest),
        };
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let nodes = hosts.split(',').map(|host| {
            let node = format!("{scheme}://{user}{host}/{database}");
            node.into_connection_info().ok()
        });
        let nodes: Vec<ConnectionInfo> = nodes.collect::<Option<_>>()?;
        match (scheme, kind, master) {
            ("redis" | "rediss", "sentinel", Some(master)) if !master.is_empty() => {
                Some(Self::Sentinels {
                    sentinels: nodes,
                    master: master.to_owned(),
                    tls: scheme == "rediss",
                })
            }
            ("redis" | "rediss", "cluster", None) => Some(Self::Cluster(nodes)),
            (_, "", None) => Some(Self::One(url.into_connection_info().ok()?)),
            _ => None,
        }
    }
}

/// A way to run scripts there. What breaks is mended by the next call.
pub(crate) enum Server {
    One(ConnectionManager),
    Watched(Box<Watched>),
    Cluster(ClusterConnection),
}

/// The server that Sentinels call the master. They are asked at the start, and after each failure.
pub(crate) struct Watched {
    sentinels: tokio::sync::Mutex<SentinelClient>,
    master: Mutex<Option<MultiplexedConnection>>,
}

impl Server {
    pub(crate) async fn connect(address: &Address) -> RedisResult<Self> {
        match address {
            Address::One(info) => {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(1)
                    .set_connection_timeout(Some(RESPONSE))
                    .set_response_timeout(Some(RESPONSE));
                let client = Client::open(info.clone())?;
                let manager = ConnectionManager::new_with_config(client, config).await?;
                Ok(Self::One(manager))
            }
            Address::Sentinels {
                sentinels,
                master,
                tls,
            } => {
                let watched = Watched {
                    sentinels: tokio::sync::Mutex::new(watched(sentinels, master, *tls)?),
                    master: Mutex::default(),
                };
                watched.connection().await?;
                Ok(Self::Watched(Box::new(watched)))
            }
            Address::Cluster(nodes) => {
                let client = ClusterClient::builder(nodes.clone())
                    .retries(1)
                    .connection_timeout(RESPONSE)
                    .response_timeout(RESPONSE)
                    .build()?;
                Ok(Self::Cluster(client.get_async_connection().await?))
            }
        }
    }

    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match self {
            Self::One(connection) => script.invoke_async(&mut connection.clone()).await,
            Self::Cluster(connection) => script.invoke_async(&mut connection.clone()).await,
            Self::Watched(watched) => {
                let answer = script.invoke_async(&mut watched.connection().await?).await;
                if answer.is_err() {
                    // It may be the master no more: it went away, or takes no writes.
                    watched.forget();
                }
                answer
            }
        }
    }
}

impl Watched {
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let known = self.master.lock().expect("no holder panics").clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(RESPONSE))
            .set_response_timeout(Some(RESPONSE));
        let mut sentinels = self.sentinels.lock().await;
        let connection = sentinels.get_async_connection_with_config(&config).await?;
        *self.master.lock().expect("no holder panics") = Some(connection.clone());
        Ok(connection)
    }

    fn forget(&self) {
        *self.master.lock().expect("no holder panics") = None;
    }
}

fn watched(sentinels: &[ConnectionInfo], master: &str, tls: bool) -> RedisResult<SentinelClient> {
    let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    if tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    let Some(settings) = sentinels.first().map(ConnectionInfo::redis_settings) else {
        return builder.build();
    };
    builder = builder.set_client_to_redis_db(settings.db());
    if let Some(name) = settings.username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_one_server_sentinels_or_a_cluster() {
        let nodes = |url: &str| match Address::parse(url) {
            Some(Address::One(node)) => vec![node.addr().to_string()],
            Some(Address::Cluster(nodes)) => {
                nodes.iter().map(|node| node.addr().to_string()).collect()
            }
            Some(Address::Sentinels {
                sentinels, master, ..
            }) => {
                let nodes = sentinels.iter().map(|node| node.addr().to_string());
                nodes.chain([master]).collect()
            }
            None => Vec::new(),
        };
        let check = |url: &str, expect: &[&str]| assert_eq!(nodes(url), expect, "{url}");
        check("redis://a:1/2", &["a:1"]);
        check("rediss://u:p@a", &["a:6379"]);
        check(
            "redis-sentinel://u:p@a:26379,b:26379/1#m",
            &["a:26379", "b:26379", "m"],
        );
        check("rediss-cluster://a:1,b:2", &["a:1", "b:2"]);
        for wrong in [
            "redis-sentinel://a:26379",
            "redis-sentinel://a:26379#",
            "redis-cluster://a:1#m",
            "redis://a:1#m",
            "redis-other://a:1",
            "mysql://a:1",
            "mysql-cluster://a:1",
            "a:1",
        ] {
            check(wrong, &[]);
        }
    }

    #[test]
    fn the_datas_servers_get_the_password_and_the_database() {
        let Some(Address::Sentinels { sentinels, .. }) =
            Address::parse("redis-sentinel://u:p%40ss@a:26379/3#m")
        else {
            panic!("it was not parsed");
        };
        let settings = sentinels[0].redis_settings();
        assert_eq!(settings.username(), Some("u"));
        assert_eq!(settings.password(), Some("p@ss"));
        assert_eq!(settings.db(), 3);
    }
}
