//! The queue in Redis: two sorted sets, `due` and `taken`, whose scores are milliseconds of Redis' own clock. Scripts make
//! each step atomic.

use std::{sync::Mutex, time::Duration};

use ajar_model::{CampaignId, ShardId};
use async_trait::async_trait;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::{
    Depth, Error, ShardQueue,
    server::{Address, Server},
};

/// Common to every script: the keys, and the time in milliseconds.
const PRELUDE: &str = r"
local due, taken, epoch = KEYS[1], KEYS[2], KEYS[3]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
";

const OFFER: &str = r"
local at = now + tonumber(ARGV[1])
for i = 2, #ARGV do
    redis.call('ZREM', taken, ARGV[i])
    local before = redis.call('ZSCORE', due, ARGV[i])
    if not before or tonumber(before) > at then redis.call('ZADD', due, at, ARGV[i]) end
end
return true
";

const TAKE: &str = r"
for _, shard in ipairs(redis.call('ZRANGEBYSCORE', taken, '-inf', now, 'LIMIT', 0, 100)) do
    local score = redis.call('ZSCORE', taken, shard)
    redis.call('ZREM', taken, shard)
    redis.call('ZADD', due, score, shard)
end
local first = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 1)[1]
if not first then return false end
redis.call('ZREM', due, first)
redis.call('ZADD', taken, now + tonumber(ARGV[1]), first)
return first
";

const HOLD: &str = r"
if redis.call('ZSCORE', taken, ARGV[2]) then redis.call('ZADD', taken, now + tonumber(ARGV[1]), ARGV[2]) end
return true
";

const DONE: &str = r"
redis.call('ZREM', taken, ARGV[1])
return true
";

const WITHDRAW: &str = r"
for _, set in ipairs({due, taken}) do
    for _, shard in ipairs(redis.call('ZRANGE', set, 0, -1)) do
        if string.sub(shard, 1, #ARGV[1]) == ARGV[1] then redis.call('ZREM', set, shard) end
    end
end
return true
";

const DEPTH: &str = r"
local out = redis.call('ZCOUNT', taken, '(' .. now, '+inf')
return {redis.call('ZCARD', due) + redis.call('ZCARD', taken) - out, out}
";

/// Sets the epoch if there is none; returns whether there was one, and who the server is.
const EPOCH: &str = r"
local was = redis.call('EXISTS', epoch)
if was == 0 then redis.call('SET', epoch, now) end
return {was, redis.call('INFO', 'server') .. redis.call('INFO', 'replication')}
";

/// What the server does when its memory is full. Asked by a script too, so that it is the server of the keys that answers.
const MEMORY: &str = r"
return redis.call('INFO', 'memory')
";

/// Braces keep all keys in one slot of a Redis Cluster.
const KEYS: [&str; 3] = ["{ajar}:due", "{ajar}:taken", "{ajar}:epoch"];

/// How long a server that is away is waited for at the start.
const WAIT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// A queue that every coordinator shares.
pub struct Redis {
    server: Server,
    url: String,
    /// The server's run id and replication id when the content was last known to be whole.
    known: Mutex<Option<String>>,
}

impl Redis {
    /// Connects, and refuses a server that would drop entries.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let shown = without_password(url);
        let wrong = || Error::Url { url: shown.clone() };
        let address = Address::parse(url).ok_or_else(wrong)?;
        let deadline = tokio::time::Instant::now() + WAIT;
        let server = loop {
            match Server::connect(&address).await {
                Ok(server) => break server,
                Err(error) if tokio::time::Instant::now() < deadline => {
                    tracing::warn!(url = shown, %error, "waiting for redis");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    return Err(Error::Unavailable {
                        url: shown,
                        cause: error.to_string(),
                    });
                }
            }
        };
        let queue = Self {
            server,
            url: shown,
            known: Mutex::new(None),
        };
        queue.refuse_eviction().await?;
        Ok(queue)
    }

    async fn refuse_eviction(&self) -> Result<(), Error> {
        let memory: String = self.run(MEMORY, |_| {}).await?;
        let policy = field(&memory, "maxmemory_policy").unwrap_or("unknown");
        match policy {
            "noeviction" => Ok(()),
            _ => Err(Error::Evicting {
                url: self.url.clone(),
                policy: policy.to_owned(),
            }),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &str,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let script = Script::new(&format!("{PRELUDE}{script}"));
        let mut invocation = script.prepare_invoke();
        for key in KEYS {
            invocation.key(key);
        }
        arguments(&mut invocation);
        let answer = self.server.run(&invocation).await;
        answer.map_err(|error| self.unavailable(&error))
    }

    fn unavailable(&self, error: &RedisError) -> Error {
        Error::Unavailable {
            url: self.url.clone(),
            cause: error.to_string(),
        }
    }
}

#[async_trait]
impl ShardQueue for Redis {
    async fn offer(&self, shards: &[ShardId], delay: Duration) -> Result<(), Error> {
        /// Lua takes a bounded number of arguments.
        const AT_ONCE: usize = 1000;
        for some in shards.chunks(AT_ONCE) {
            self.run::<bool>(OFFER, |script| {
                script.arg(millis(delay));
                for shard in some {
                    script.arg(shard.to_string());
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn take(&self, visibility: Duration) -> Result<Option<ShardId>, Error> {
        /// Whoever writes garbage into the queue costs this much work a call.
        const GARBAGE: usize = 1000;
        for _ in 0..GARBAGE {
            let first: Option<Vec<u8>> = self
                .run(TAKE, |script| {
                    script.arg(millis(visibility));
                })
                .await?;
            let Some(entry) = first else { return Ok(None) };
            let text = String::from_utf8_lossy(&entry);
            if let Some(shard) = text
                .parse::<ShardId>()
                .ok()
                .filter(|shard| shard.to_string() == *text)
            {
                return Ok(Some(shard));
            }
            tracing::warn!("the queue held an entry that is no shard; it was dropped");
            self.run::<bool>(DONE, |script| {
                script.arg(&entry);
            })
            .await?;
        }
        Ok(None)
    }

    async fn hold(&self, shard: ShardId, visibility: Duration) -> Result<(), Error> {
        self.run::<bool>(HOLD, |script| {
            script.arg(millis(visibility)).arg(shard.to_string());
        })
        .await
        .map(|_| ())
    }

    async fn done(&self, shard: ShardId) -> Result<(), Error> {
        self.run::<bool>(DONE, |script| {
            script.arg(shard.to_string());
        })
        .await
        .map(|_| ())
    }

    async fn withdraw(&self, campaign: CampaignId) -> Result<(), Error> {
        self.run::<bool>(WITHDRAW, |script| {
            script.arg(format!("{campaign}/"));
        })
        .await
        .map(|_| ())
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let (waiting, taken) = self.run(DEPTH, |_| {}).await?;
        Ok(Depth { waiting, taken })
    }

    async fn lost(&self) -> Result<bool, Error> {
        let (is_whole, info): (bool, String) = self.run(EPOCH, |_| {}).await?;
        let ids = ["run_id", "master_replid"].map(|name| field(&info, name).unwrap_or_default());
        let server = ids.join("/");
        let mut known = self.known.lock().expect("no holder panics");
        let is_same = known.replace(server.clone()) == Some(server);
        Ok(!is_whole || !is_same)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The value of a line `name:value` of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "…".to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => url.to_owned(),
    }
}
