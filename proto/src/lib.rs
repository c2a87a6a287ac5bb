//! The wire: the services of `ajar.v1`, conversion between wire and model, trace context in the metadata, and
//! the ways to reach a coordinator.
//!
//! What comes in is converted fallibly ([`convert`]): a peer's message either becomes a value of the model or
//! is refused with the name of the field.

mod codec;
pub mod convert;
pub mod dial;
pub mod local;
mod remote;
pub mod trace;

/// Messages and services of the package `ajar.v1`, generated from the .proto files beside this crate's
/// manifest; their comments are the documentation.
#[allow(clippy::all)]
pub mod v1 {
    tonic::include_proto!("ajar.v1");
}

/// The file descriptor set of the package, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ajar.v1.bin"));

/// The largest message either side takes, in bytes. A batch of results stays below 1 MiB; a campaign may list
/// many addresses.
pub const MAX_MESSAGE: usize = 16 << 20;
