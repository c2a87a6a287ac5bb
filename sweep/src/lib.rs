//! Which (address, port) pairs answer.
//!
//! [`syn`] sends SYNs and hears what comes back, past the kernel's own TCP; it needs CAP_NET_RAW. [`connect`] reads the answer
//! from plain connections, which need no privilege.
//!
//! Architecture invariant: nothing here decides what is sent, or when. Only the worker's egress calls [`syn::Syn::send`], with
//! targets that lease, scope and pace let go, and it opens the connections whose outcome [`connect`] is given.

pub mod connect;
pub mod syn;
