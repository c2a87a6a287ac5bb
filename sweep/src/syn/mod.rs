//! Discovery by stateless SYNs: a SYN carries a cookie as its sequence number, a reply must repeat it, and nothing is kept of
//! a target in between.

pub mod cookie;
pub mod filter;
pub mod packet;
pub mod reply;
