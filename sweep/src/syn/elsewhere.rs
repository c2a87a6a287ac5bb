//! Systems other than Linux, where SYNs are neither sent nor heard: nothing of this can be opened.

use std::{io, net::SocketAddr};

use super::{cookie::Cookies, reply::Reply};

pub enum Receiver {}

impl Receiver {
    pub fn open(_: Cookies) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn receive(&self, _: impl FnMut(Reply)) -> io::Result<()> {
        match *self {}
    }
}

pub enum Transmitter {}

impl Transmitter {
    pub fn open(_: Cookies) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn send(
        &mut self,
        _: impl IntoIterator<Item = SocketAddr>,
        _: impl FnMut(SocketAddr, io::Error),
    ) {
        match *self {}
    }
}
