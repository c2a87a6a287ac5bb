//! Which (address, port) pairs answer.
//!
//! [`connect`] reads the answer from plain connections, which need no privilege.
//!
//! Architecture invariant: nothing is sent from here. The connect half is given the outcome of connections that
//! the worker's egress opened.

pub mod connect;
pub mod syn;
