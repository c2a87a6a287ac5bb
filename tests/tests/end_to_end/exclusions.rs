//! What an operator excludes gets nothing more, in campaigns that run: read from a capture on the
//! targets' side, and from a target that is in the middle of a conversation.

use std::net::SocketAddrV4;

use ajar_tests::{Ajar, Captured, captured, cluster};

/// A campaign of 16 networks that runs, and a script beside it.
fn running(options: &str, script: &str) -> Captured {
    let ajar = Ajar::authorized("10.99.0.0/20 --rate 400 --prefix-rate 20").unwrap();
    let script = format!(
        r#"
        {}
        $AJAR worker --allowed-signers signers 2>worker.log & worker=$!
        id=$(submit a.toml {options})
        shows() {{ $AJAR campaign show $id | grep -q "$1"; }}
        await shows 'leased to 1 workers'
        sleep 3
        now() {{ echo "$1" $(date +%s.%N); }}
        {script}
        "#,
        cluster("--allowed-signers signers")
    );
    let seen = captured(&ajar, &script).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    seen
}

/// The connections to 10.99.8.0/21 after a moment.
fn to_the_half(seen: &Captured, time: f64) -> usize {
    let of = |syn: &&(f64, SocketAddrV4)| syn.0 > time && syn.1.ip().octets()[2] >= 8;
    seen.syns.iter().filter(of).count()
}

#[test]
fn what_is_excluded_gets_nothing_after_two_seconds_and_the_rest_goes_on() {
    for sweep in ["connect", "syn"] {
        let seen = running(
            &format!("--sweep {sweep}"),
            "$AJAR exclude add 10.99.8.0/21 --reason 'ticket 4711'; now excluded
             sleep 6
             $AJAR exclude list
             now removed
             $AJAR exclude remove $($AJAR exclude list | cut -d ' ' -f 1)
             $AJAR exclude list | wc -l
             $AJAR audit show
             $AJAR campaign show $id",
        );
        let excluded = seen.time("excluded");
        assert!(to_the_half(&seen, 0.0) > 50, "{sweep}: {}", seen.stderr);
        let removed = to_the_half(&seen, seen.time("removed"));
        assert_eq!(to_the_half(&seen, excluded + 2.0) - removed, 0, "{sweep}");
        assert!(seen.after(excluded + 2.0) > 100, "{sweep}: it went on");
        for said in [
            "10.99.8.0/21  all tenants  in force",
            "ticket 4711",
            "exclusion.add",
            "exclusion.remove",
        ] {
            assert!(seen.stdout.contains(said), "{said}: {}", seen.stdout);
        }
        assert!(seen.stdout.contains("\n0\n"), "{}", seen.stdout);
    }
}

#[test]
fn a_conversation_with_what_is_excluded_is_cut_off() {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    let asked = "10.99.9.0/30 --canary 127.0.0.1 --ports 25 --tier handshake";
    ajar.authorize("a.toml", asked).unwrap();
    let script = format!(
        r#"
        {}
        # A tarpit: one byte of its greeting a second.
        python3 -c '
import asyncio, time
async def serve(reader, writer):
    print("met", time.time(), flush=True)
    async def greet():
        while True:
            writer.write(b"2")
            await asyncio.sleep(1)
    greeting = asyncio.create_task(greet())
    try:
        await reader.read()
    except OSError:
        pass
    print("cut", time.time(), flush=True)
    greeting.cancel()
async def main():
    server = await asyncio.start_server(serve, "10.99.9.1", 25)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
' >tarpit 2>&1 &
        await grep -q ready tarpit
        $AJAR worker --allowed-signers signers 2>worker.log &
        id=$(submit a.toml --sweep connect)
        await grep -q met tarpit
        sleep 1
        echo excluded $(date +%s.%N)
        $AJAR exclude add 10.99.9.1 --reason 'the owner called' >ids
        await grep -q cut tarpit
        grep cut tarpit
        timeout 60 $AJAR campaign watch $id
        "#,
        cluster("--allowed-signers signers")
    );
    let seen = captured(&ajar, &script).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    let took = seen.time("cut") - seen.time("excluded");
    assert!((0.0..2.0).contains(&took), "{took} seconds");
    assert!(seen.stdout.contains("1 denied"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("open_"), "{}", seen.stdout);
}
