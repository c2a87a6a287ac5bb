//! SOCKS proxies (RFC 1928; SOCKS 4 and 4a as Ying-Da Lee described them).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ajar_model::Canary;
use futures::future::{BoxFuture, FutureExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const NAME: usize = 255;

pub(super) fn open(client: TcpStream, canary: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    serve(client, canary, true).boxed()
}

pub(super) fn closed(client: TcpStream, canary: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    serve(client, canary, false).boxed()
}

/// Speaks SOCKS 5 only, and offers no method without a password.
pub(super) fn login(mut client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    async move {
        if client.read_u8().await? == 5 {
            skip_methods(&mut client).await?;
            client.write_all(&[5, 0xff]).await?;
        }
        Ok(())
    }
    .boxed()
}

async fn serve(mut client: TcpStream, canary: Arc<Canary>, is_open: bool) -> io::Result<()> {
    match client.read_u8().await? {
        4 => socks4(client, &canary, is_open).await,
        5 => socks5(client, &canary, is_open).await,
        _ => Ok(()),
    }
}

async fn socks4(mut client: TcpStream, canary: &Canary, is_open: bool) -> io::Result<()> {
    client.read_u8().await?;
    let port = client.read_u16().await?;
    let address = Ipv4Addr::from_bits(client.read_u32().await?);
    name(&mut client).await?;
    let host = match address.octets() {
        [0, 0, 0, last] if last != 0 => name(&mut client).await?,
        _ => address.to_string(),
    };
    let upstream = match is_open {
        true => super::reach(canary, &host, port).await,
        false => None,
    };
    let code = if upstream.is_some() { 90 } else { 91 };
    client.write_all(&[0, code, 0, 0, 0, 0, 0, 0]).await?;
    match upstream {
        Some(upstream) => super::tunnel(client, upstream).await,
        None => Ok(()),
    }
}

async fn socks5(mut client: TcpStream, canary: &Canary, is_open: bool) -> io::Result<()> {
    skip_methods(&mut client).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        4 => Ipv6Addr::from_bits(client.read_u128().await?).to_string(),
        _ => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            String::from_utf8_lossy(&name).into_owned()
        }
    };
    let port = client.read_u16().await?;
    let upstream = match is_open {
        true => super::reach(canary, &host, port).await,
        false => None,
    };
    // RFC 1928 section 6: 2 is "connection not allowed by ruleset".
    let code = if upstream.is_some() { 0 } else { 2 };
    client.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    match upstream {
        Some(upstream) => super::tunnel(client, upstream).await,
        None => Ok(()),
    }
}

async fn skip_methods(client: &mut TcpStream) -> io::Result<()> {
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await.map(|_| ())
}

/// A text that ends with a zero byte.
async fn name(client: &mut TcpStream) -> io::Result<String> {
    let mut name = Vec::new();
    while name.len() <= NAME {
        match client.read_u8().await? {
            0 => return Ok(String::from_utf8_lossy(&name).into_owned()),
            byte => name.push(byte),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
