# The two commands of the README, and what maintainers need besides.

.PHONY: demo test packages lint deny

demo:
	cargo run --release -- demo

# Everything that a change must pass. Installs what is missing (Debian), starts real servers on free ports, stops them.
test: packages lint
	cargo test --workspace --locked

packages:
	./tests/install-packages.sh

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Licences, sources and banned crates; needs `cargo install cargo-deny`.
deny:
	cargo deny check bans licenses sources
