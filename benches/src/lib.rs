//! Benchmarks over whole processes; see the folder's own commands.
