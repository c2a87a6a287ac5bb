//! The queue in Redis: a sorted set for each line, and one of taken shards. Scores are milliseconds
//! of Redis' own clock, and scripts make each step atomic. Redis forgets a line an hour after its last
//! offer: its campaign is over or paused.

use std::{sync::Mutex, time::Duration};

use ajar_model::{CampaignId, ShardId};
use async_trait::async_trait;
use redis::{ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::{
    Depth, Error, Line, Priority, ShardQueue,
    server::{Address, Server},
};

/// Begins every script: the keys, the time in milliseconds, and the lines of an entry's campaign.
const PRELUDE: &str = r"
local taken, lines, epoch = KEYS[1], KEYS[2], KEYS[3]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function lines_of(campaign) return {'{ajar}:line:' .. campaign .. ':high', '{ajar}:line:' .. campaign .. ':normal'} end
local function both(shard) return lines_of(string.match(shard, '^[^/]*')) end
";

const OFFER: &str = r"
local at = now + tonumber(ARGV[1])
local line = ARGV[2]
for i = 3, #ARGV do
    local before = false
    for _, other in ipairs(both(ARGV[i])) do
        before = before or redis.call('ZSCORE', other, ARGV[i])
        if other ~= line then redis.call('ZREM', other, ARGV[i]) end
    end
    if redis.call('ZREM', taken, ARGV[i]) == 1 or not before or tonumber(before) > at then before = at end
    redis.call('ZADD', line, before, ARGV[i])
end
redis.call('SADD', lines, line)
redis.call('PEXPIRE', line, at - now + 3600000)
return true
";

const TAKE: &str = r"
local back = now + tonumber(ARGV[1])
for i = 2, #ARGV do
    local first = redis.call('ZRANGEBYSCORE', ARGV[i], '-inf', now, 'LIMIT', 0, 1)[1]
    if first then
        redis.call('ZADD', ARGV[i], back, first)
        redis.call('ZADD', taken, back, first)
        return first
    end
end
return false
";

const DONE: &str = r"
if redis.call('ZREM', taken, ARGV[1]) == 1 then
    for _, line in ipairs(both(ARGV[1])) do redis.call('ZREM', line, ARGV[1]) end
end
return true
";

/// Drops an entry that is no shard from every line that it may have been taken from.
const DROP: &str = r"
redis.call('ZREM', taken, ARGV[1])
for i = 2, #ARGV do redis.call('ZREM', ARGV[i], ARGV[1]) end
return true
";

const WITHDRAW: &str = r"
for _, line in ipairs(lines_of(ARGV[1])) do
    for _, shard in ipairs(redis.call('ZRANGE', line, 0, -1)) do redis.call('ZREM', taken, shard) end
    redis.call('DEL', line)
    redis.call('SREM', lines, line)
end
return true
";

/// Forgets empty lines, and shards that were taken long ago.
const DEPTH: &str = r"
redis.call('ZREMRANGEBYSCORE', taken, '-inf', now - 3600000)
local all = 0
for _, line in ipairs(redis.call('SMEMBERS', lines)) do
    local waiting = redis.call('ZCARD', line)
    if waiting == 0 then redis.call('SREM', lines, line) end
    all = all + waiting
end
local out = redis.call('ZCOUNT', taken, '(' .. now, '+inf')
return {all - out, out}
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

/// Forgets what versions before the lines offered. One that still runs offers it again.
const FORGET: &str = r"
redis.call('DEL', '{ajar}:due', '{ajar}:taken')
return true
";

/// Deletes every key, whatever it holds. Coordinators find the queue empty, and offer everything
/// again.
const CLEAR: &str = r"
local known = redis.pcall('SMEMBERS', lines)
if not known.err then
    for _, line in ipairs(known) do redis.call('DEL', line) end
end
for _, argument in ipairs(ARGV) do
    local campaign = string.match(argument, '^%w+') or ''
    if string.sub(argument, 1, 12) == '{ajar}:line:' then redis.call('DEL', argument) end
    for _, line in ipairs(lines_of(campaign)) do redis.call('DEL', line) end
end
redis.call('DEL', taken, lines, epoch)
return true
";

/// Braces keep all keys in one slot of a Redis Cluster.
const KEYS: [&str; 3] = ["{ajar}:out", "{ajar}:lines", "{ajar}:epoch"];

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
                Err(error) if is_refusal(&error) => {
                    return Err(Error::Refused {
                        url: shown,
                        cause: error.to_string(),
                    });
                }
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
        queue.check_memory().await?;
        queue.run::<bool>(FORGET, |_| {}).await?;
        Ok(queue)
    }

    async fn check_memory(&self) -> Result<(), Error> {
        let memory: String = self.run(MEMORY, |_| {}).await?;
        let bytes = |name| field(&memory, name).and_then(|bytes| bytes.parse::<u64>().ok());
        if let (Some(used), Some(most @ 1..)) = (bytes("used_memory"), bytes("maxmemory"))
            && used >= most
        {
            return Err(Error::Full {
                url: self.url.clone(),
                most,
            });
        }
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
        arguments: impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let mut answer = self.run_once(script, &arguments).await;
        if answer.as_ref().is_err_and(is_wrong_type) {
            tracing::warn!(
                url = self.url,
                "somebody else wrote into the queue's keys: they are deleted and filled again"
            );
            let cleared = self.run_once::<bool>(CLEAR, &arguments).await;
            cleared.map_err(|error| self.unavailable(&error))?;
            answer = self.run_once(script, &arguments).await;
        }
        answer.map_err(|error| self.unavailable(&error))
    }

    async fn run_once<T: FromRedisValue>(
        &self,
        script: &str,
        arguments: &impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<T, RedisError> {
        let script = Script::new(&format!("{PRELUDE}{script}"));
        let mut invocation = script.prepare_invoke();
        for key in KEYS {
            invocation.key(key);
        }
        arguments(&mut invocation);
        self.server.run(&invocation).await
    }

    fn unavailable(&self, error: &RedisError) -> Error {
        let (url, cause) = (self.url.clone(), error.to_string());
        match is_refusal(error) {
            true => Error::Refused { url, cause },
            false => Error::Unavailable { url, cause },
        }
    }
}

#[async_trait]
impl ShardQueue for Redis {
    async fn offer(
        &self,
        shards: &[ShardId],
        priority: Priority,
        delay: Duration,
    ) -> Result<(), Error> {
        /// Lua takes a bounded number of arguments.
        const AT_ONCE: usize = 1000;
        for of_campaign in shards.chunk_by(|a, b| a.campaign == b.campaign) {
            for some in of_campaign.chunks(AT_ONCE) {
                let line = Line {
                    campaign: some[0].campaign,
                    priority,
                };
                self.run::<bool>(OFFER, |script| {
                    script.arg(millis(delay)).arg(key(&line));
                    for shard in some {
                        script.arg(shard.to_string());
                    }
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn take(&self, lines: &[Line], visibility: Duration) -> Result<Option<ShardId>, Error> {
        /// Whoever writes garbage into the queue costs this much work a call.
        const GARBAGE: usize = 1000;
        /// Lua takes a bounded number of arguments.
        const AT_ONCE: usize = 1000;
        let lines = &lines[..lines.len().min(AT_ONCE)];
        if lines.is_empty() {
            return Ok(None);
        }
        for _ in 0..GARBAGE {
            let first: Option<Vec<u8>> = self
                .run(TAKE, |script| {
                    script.arg(millis(visibility));
                    for line in lines {
                        script.arg(key(line));
                    }
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
            self.run::<bool>(DROP, |script| {
                script.arg(&entry);
                for line in lines {
                    script.arg(key(line));
                }
            })
            .await?;
        }
        Ok(None)
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
            script.arg(campaign.to_string());
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

/// The key of a line's sorted set, as the scripts make it too.
fn key(line: &Line) -> String {
    let priority = match line.priority {
        Priority::High => "high",
        Priority::Normal => "normal",
    };
    format!("{{ajar}}:line:{}:{priority}", line.campaign)
}

/// Returns whether a server refused us, so that only another configuration helps.
fn is_refusal(error: &RedisError) -> bool {
    let refusals = ["NOAUTH", "WRONGPASS", "NOPERM"];
    let is_coded = error.code().is_some_and(|code| refusals.contains(&code));
    let is_login = error.kind() == ErrorKind::AuthenticationFailed;
    is_coded || is_login || error.to_string().contains("invalid peer certificate")
}

/// Returns whether a key holds a value of another type. A script's error has the code in its text.
fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
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
