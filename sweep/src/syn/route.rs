//! Which way packets go to an address: asked of the kernel, so that its routes, its rules and its choice of our address hold.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use ajar_model::space;
use foldhash::fast::RandomState;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// How long an answer of the kernel is believed.
const FRESH: Duration = Duration::from_secs(10);
/// How soon it is asked again for a neighbour that it does not know yet: the packets that it routes itself make it look.
const UNRESOLVED: Duration = Duration::from_millis(50);
/// Prefixes that are remembered at most.
const REMEMBERED: usize = 1 << 14;

/// The way to the addresses of a /24 or /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The address of ours that the kernel sends from.
    pub ours: IpAddr,
    /// The next hop; none if the kernel must find the way of each packet: a network without a gateway, a link without
    /// Ethernet addresses, this machine itself, or a gateway whose address is not known yet.
    pub hop: Option<Hop>,
}

/// One hop over Ethernet, to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The index of our interface.
    pub interface: u32,
    pub from: [u8; 6],
    pub to: [u8; 6],
}

/// The routes of this machine.
pub struct Routes {
    kernel: Socket,
    /// Hashed quickly: one is looked up for every SYN, and they are the operator's own choice.
    known: HashMap<IpNet, (Instant, Path), RandomState>,
}

impl Routes {
    pub fn open() -> io::Result<Self> {
        let mut kernel = Socket::new(NETLINK_ROUTE)?;
        kernel.bind_auto()?;
        kernel.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            kernel,
            known: HashMap::default(),
        })
    }

    /// The way to an address, and to all others of its /24 or /64. Fails as a connection would if there is none.
    pub fn path(&mut self, ip: IpAddr, now: Instant) -> io::Result<Path> {
        let prefix = space::prefix_of(ip);
        if let Some((until, path)) = self.known.get(&prefix)
            && now < *until
        {
            return Ok(*path);
        }
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, (until, _)| now < *until);
        }
        let (path, gateway) = self.ask(ip)?;
        let fresh = match gateway && path.hop.is_none() {
            true => UNRESOLVED,
            false => FRESH,
        };
        self.known.insert(prefix, (now + fresh, path));
        Ok(path)
    }

    /// The way to an address, and whether it leads over a gateway on Ethernet.
    fn ask(&self, ip: IpAddr) -> io::Result<(Path, bool)> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(ip);
        question.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        question.attributes = vec![RouteAttribute::Destination(ip.into())];
        let Message::NewRoute(route) = self.request(Message::GetRoute(question))? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (mut interface, mut gateway, mut ours) = (None, None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Gateway(address) => gateway = address_of(address),
                RouteAttribute::PrefSource(address) => ours = address_of(address),
                _ => {}
            }
        }
        let ours = ours.ok_or(io::ErrorKind::NetworkUnreachable)?;
        let unicast = route.header.kind == RouteType::Unicast;
        let (Some(interface), Some(gateway), true) = (interface, gateway, unicast) else {
            return Ok((Path { ours, hop: None }, false));
        };
        let Some(from) = self.ethernet(interface)? else {
            return Ok((Path { ours, hop: None }, false));
        };
        let to = self.neighbour(interface, gateway);
        let hop = to.map(|to| Hop {
            interface,
            from,
            to,
        });
        Ok((Path { ours, hop }, true))
    }

    /// The Ethernet address of an interface.
    fn ethernet(&self, interface: u32) -> io::Result<Option<[u8; 6]>> {
        let mut question = LinkMessage::default();
        question.header.index = interface;
        let Message::NewLink(link) = self.request(Message::GetLink(question))? else {
            return Ok(None);
        };
        if link.header.link_layer_type != LinkLayerType::Ether {
            return Ok(None);
        }
        let mut attributes = link.attributes.into_iter();
        Ok(attributes.find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => address.try_into().ok(),
            _ => None,
        }))
    }

    /// The Ethernet address of a neighbour, as far as the kernel knows it.
    fn neighbour(&self, interface: u32, ip: IpAddr) -> Option<[u8; 6]> {
        let mut question = NeighbourMessage::default();
        question.header.family = family(ip);
        question.header.ifindex = interface;
        let destination = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        question.attributes = vec![NeighbourAttribute::Destination(destination)];
        let answer = self.request(Message::GetNeighbour(question)).ok()?;
        let Message::NewNeighbour(neighbour) = answer else {
            return None;
        };
        let known = matches!(
            neighbour.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        let mut attributes = neighbour.attributes.into_iter().filter(|_| known);
        attributes.find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(address) => address.try_into().ok(),
            _ => None,
        })
    }

    fn request(&self, question: Message) -> io::Result<Message> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut question = NetlinkMessage::new(header, NetlinkPayload::from(question));
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        self.kernel.send(&bytes, 0)?;
        let (answer, _) = self.kernel.recv_from_full()?;
        let answer = NetlinkMessage::<Message>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(answer) => Ok(answer),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            other => Err(io::Error::other(format!("the kernel answered {other:?}"))),
        }
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
