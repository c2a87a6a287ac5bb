# The two commands of the README, and what maintainers need besides.

.PHONY: demo test packages lint bench accuracy fuzz deny new-protocol

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

# Writes docs/benchmarks.md: discovery beside masscan and ZMap, verification beside nmap's scripts, in network namespaces. Then a
# store with a million findings. Needs root, masscan, zmap, nmap and nftables.
bench: packages
	cargo build --release --locked -p ajar-cli -p ajar-benches
	unshare --net --pid --mount-proc --fork --kill-child \
		"$${CARGO_TARGET_DIR:-target}/release/scan-benchmark" -o docs/benchmarks.md
	cargo bench --locked -p ajar-store --bench findings

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
