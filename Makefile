# The two commands of the README, and what maintainers need besides.

.PHONY: demo test packages lint bench chaos simulation safeguards compatibility parts flame accuracy fuzz deny new-protocol

demo:
	cargo run --release -- demo

# Everything that a change must pass. Installs what is missing (Debian), starts real servers on free ports, stops them. Most
# of the tests wait for others, so more of them run than there are cores.
test: packages lint
	RUST_TEST_THREADS=4 cargo test --workspace --locked

packages:
	./tests/install-packages.sh

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Writes docs/benchmarks.md: ajar beside masscan, ZMap and nmap in network namespaces, a cluster beside one process, a store
# with a million findings, and one with ten million. Takes an hour and a half, and 20 GB in /tmp; ROUNDS of everything (5), or of the BENCHMARKS that are named. Needs root,
# masscan, zmap, nmap and nftables.
ROUNDS ?= 5
BENCH = unshare --net --pid --mount-proc --fork --kill-child
bench: packages
	cargo build --release --locked -p ajar-cli -p ajar-benches
	cargo bench --locked -p ajar-store --bench findings --bench years --no-run
	$(BENCH) "$${CARGO_TARGET_DIR:-target}/release/scan-benchmark" --rounds $(ROUNDS) -o docs/benchmarks.md $(BENCHMARKS)
	cargo bench --locked -p ajar-store --bench findings >>docs/benchmarks.md
	cargo bench --locked -p ajar-store --bench years >>docs/benchmarks.md

# What a cluster bears: its parts are killed, frozen, cut off and robbed for CHAOS_SECONDS (600), with the seed CHAOS_SEED (by chance).
chaos: packages
	cargo test --locked -p ajar-cli -p ajar-tests --no-run
	cargo test --locked -p ajar-tests --test chaos -- --ignored --nocapture

# A cluster on a simulated network and clock, with other accidents each time, from SIMULATION_SEED on (by chance) until somebody stops
# it or a promise is broken; `make test` has 300 seeds.
simulation: export SIMULATION_SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
simulation: export SIMULATION_SEEDS ?= 1000000000
simulation:
	cargo test --locked -p ajar-tests --test simulation accidents -- --nocapture

# Would a test notice? Takes each safeguard out, of which there are two dozen, and sees its test fail; SAFEGUARD names one by a part of
# its description. The list is in tests/tests/safeguards.
safeguards: packages
	cargo test --locked -p ajar-tests --test safeguards -- --ignored --nocapture

# Builds the version that RELEASE names and runs this one beside it: workers and coordinators of
# both, and a store that is upgraded while the older one runs. Takes as long as a cold build.
RELEASE ?= b5d6f77
OTHER = $${CARGO_TARGET_DIR:-$(CURDIR)/target}/compatibility
compatibility: packages
	rm -rf "$(OTHER)/source" && mkdir -p "$(OTHER)/source"
	git archive "$(RELEASE)" | tar -x -C "$(OTHER)/source"
	cd "$(OTHER)/source" && CARGO_TARGET_DIR="$(OTHER)" cargo build --locked -p ajar-cli
	cargo test --locked -p ajar-cli -p ajar-tests --no-run
	AJAR_OTHER="$(OTHER)/debug/ajar" cargo test --locked -p ajar-tests --test mixed_versions -- --ignored --test-threads 1

# The small parts that every probe goes through, each by itself.
parts:
	cargo bench --locked -p ajar-benches --bench parts

# Writes flame.svg: where one round of BENCHMARKS spends its time, a tower for each name of a thread. Needs perf, and
# `cargo install inferno`.
flame: export CARGO_TARGET_DIR = target/flame
flame: export RUSTFLAGS = -C force-frame-pointers=yes
flame: export CARGO_PROFILE_RELEASE_DEBUG = line-tables-only
flame: packages
	cargo build --release --locked -p ajar-cli -p ajar-benches
	$(BENCH) perf record -q -g -F 999 -o target/flame/perf.data \
		target/flame/release/scan-benchmark --rounds 1 $(BENCHMARKS)
	perf script -i target/flame/perf.data | inferno-collapse-perf | inferno-flamegraph >flame.svg

# Writes docs/accuracy.md: what ajar, nmap and proxycheck say of the servers that the tests know. Needs root, nmap and proxycheck; runs
# where there is nothing but loopback, since those tools ask for more than they are told to.
accuracy: packages
	cargo test --locked -p ajar-cli -p ajar-tests --no-run
	unshare --net sh -c 'ip link set lo up && cargo test --offline --locked -p ajar-cli -p ajar-tests --test end_to_end -- --ignored accuracy::'

# Each fuzz target for FUZZ_SECONDS (60); needs `cargo install cargo-fuzz` and a nightly toolchain.
FUZZ_SECONDS ?= 60
fuzz:
	for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# The skeleton of a protocol, as docs/adding-a-probe.md describes it.
new-protocol:
	./probe/new-protocol.sh "$(NAME)"

# Licences, sources and banned crates; needs `cargo install cargo-deny`.
deny:
	cargo deny check bans licenses sources
