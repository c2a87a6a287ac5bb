# A cluster of two coordinators, four workers, a canary, PostgreSQL, a Redis with a copy and a Sentinel; and what befalls them,
# by chance, for so many seconds. Then everything is healed, and the campaign must end. Runs in a namespace, see `captured`.
# Usage: bash chaos.sh SEED SECONDS PROGRAM CAMPAIGN-OPTIONS...

RANDOM=$1 seconds=$2 AJAR=$3
shift 3
store=postgres://ajar@127.0.0.1:5432/postgres
queue=redis-sentinel://127.0.0.1:26379/0#mymaster
declare -A pids

# Starts a process of this name, or starts it again. The rest is its command.
start() {
    local name=$1
    shift
    "$@" >>"$name.log" 2>&1 &
    pids[$name]=$!
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }

run() {
    case $1 in
        postgres)
            start postgres setpriv --reuid=postgres --regid=postgres --clear-groups -- \
                "$postgres/postgres" -D "$PWD/pg/data" -k "$PWD/pg" -h 127.0.0.1 -p 5432 ;;
        redis-1) start redis-1 redis-server --port 6379 --bind 127.0.0.1 --save '' --dir "$PWD" ;;
        redis-2) start redis-2 redis-server --port 6380 --bind 127.0.0.1 --save '' --dir "$PWD" --replicaof 127.0.0.1 6379 ;;
        sentinel) start sentinel redis-server sentinel.conf --sentinel --port 26379 --bind 127.0.0.1 ;;
        coordinator-1) start coordinator-1 "$AJAR" coordinator --listen 127.0.0.1:7400 --store $store --redis $queue --allowed-signers signers ;;
        coordinator-2) start coordinator-2 "$AJAR" coordinator --listen 127.0.0.1:7402 --store $store --redis $queue --allowed-signers signers ;;
        canary) start canary "$AJAR" canary --domain canary.test --canary-ports 2525,8080,8443,7401 ;;
        worker-1 | worker-2) start "$1" "$AJAR" worker --allowed-signers signers ;;
        worker-3 | worker-4) start "$1" "$AJAR" worker --allowed-signers signers --coordinator http://127.0.0.1:7402 ;;
    esac
}

# Waits until a command succeeds.
until_done() {
    for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
    echo "never done: $*" >&2
    exit 1
}

# Sends a signal to a process and its children.
send() { kill "-$1" "${pids[$2]}" $(pgrep -P "${pids[$2]}") 2>/dev/null; }

# Freezes a process for some seconds.
freeze() {
    send STOP "$1"
    (sleep "$2"; send CONT "$1") &
}

# Cuts a coordinator off for some seconds: what is sent to its port is lost.
cut() {
    nft add rule inet chaos cuts tcp dport "$1" drop
    (sleep "$2"; nft flush chain inet chaos cuts) &
}

on_queue() {
    for port in 6379 6380; do timeout 2 redis-cli -p $port "$@" >/dev/null 2>&1; done
}

befall() {
    local worker=worker-$((RANDOM % 4 + 1)) number=$((RANDOM % 2 + 1)) long=$((RANDOM % 20 + 1)) short=$((RANDOM % 5 + 1))
    local what=$((RANDOM % 11))
    case $what in
        0 | 1) echo "$worker is killed"; send KILL $worker; sleep 1; run $worker ;;
        2) echo "$worker is frozen for $long s"; freeze $worker $long ;;
        3) echo "coordinator-$number is killed"; send KILL coordinator-$number; sleep 1; run coordinator-$number ;;
        4) echo "coordinator-$number is frozen for $short s"; freeze coordinator-$number $short ;;
        5) echo "coordinator-$number is cut off for $long s"; cut $((7398 + 2 * number)) $long ;;
        6) echo "the queue is flushed"; on_queue FLUSHALL ;;
        7) echo "redis-$number is killed"; send KILL redis-$number; sleep 3; run redis-$number ;;
        8) echo "postgres is frozen for $short s"; freeze postgres $short ;;
        9) echo "the canary is killed"; send KILL canary; sleep 1; run canary ;;
        10)
            echo "the queue is rewritten"
            line="{ajar}:line:$id:normal"
            on_queue DEL "$line"
            on_queue ZADD "$line" 0 "$id/$((RANDOM % 64))" 0 "$id/99999" 0 ../../etc 0 "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P/0"
            on_queue ZADD '{ajar}:out' 9e15 "$id/$((RANDOM % 64))" ;;
    esac
}

postgres=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
chmod 755 "$PWD"
mkdir pg
chown postgres pg
as_postgres "$postgres/initdb" --auth=trust --username=ajar --encoding=UTF8 --no-sync --pgdata "$PWD/pg/data" >initdb.log
nft 'add table inet chaos; add chain inet chaos cuts { type filter hook input priority 0; }'
cat >sentinel.conf <<END
sentinel monitor mymaster 127.0.0.1 6379 1
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 3000
END
for name in postgres redis-1 redis-2 sentinel; do run $name; done
until_done psql $store -c 'SELECT 1'
until_done redis-cli -p 26379 SENTINEL MASTER mymaster
for name in coordinator-1 coordinator-2 canary worker-1 worker-2 worker-3 worker-4; do run $name; done
until_done grep -q 'a canary is ready' coordinator-1.log
id=$("$AJAR" campaign submit --allowed-signers signers --authorization a.toml "$@")

end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    befall
    sleep $((RANDOM % 3 + 1))
done
echo healed
nft flush chain inet chaos cuts
for name in "${!pids[@]}"; do
    send CONT "$name"
    kill -0 "${pids[$name]}" 2>/dev/null || run "$name"
done
timeout 240 "$AJAR" campaign watch "$id" >watched 2>&1
echo "watched $?"
cat watched
"$AJAR" audit verify --allowed-signers signers --coordinator http://127.0.0.1:7402
echo "outcomes $(psql $store -Atc "SELECT sum(answered + refused + silent + unreachable), sum(denied + failed), bool_and(closed AND NOT quarantined) FROM ajar.shards WHERE campaign = '$id'")"
