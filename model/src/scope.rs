//! Whether one connection may be opened: asked by egress for every socket address, at the moment of dialling.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    Timestamp,
    addresses::AddressSet,
    authorization::Authorization,
    ports::Ports,
    space::TargetSpace,
    special::{self, is_metadata},
    target::Target,
};

/// What one campaign may connect to.
#[derive(Debug, Clone)]
pub struct Scope {
    targets: TargetSpace,
    exclude: AddressSet,
    control_plane: HashSet<(IpAddr, u16)>,
    signed: Option<Signed>,
}

/// What a signed authorization adds. Without one there is loopback, and nothing else.
#[derive(Debug, Clone)]
struct Signed {
    networks: AddressSet,
    named_special: AddressSet,
    ports: Ports,
    relay_ports: Option<Ports>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a connection may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The authorization's window is over, or has not begun.
    #[error("the authorization is not valid at this time")]
    Window,
    /// One of the cluster's own sockets, or the canary's.
    #[error("it is part of ajar itself")]
    ControlPlane,
    /// A cloud metadata service.
    #[error("it is a metadata service")]
    Metadata,
    /// Not one of the campaign's targets.
    #[error("it is not a target of the campaign")]
    NotATarget,
    /// Not loopback, and not authorized.
    #[error("only loopback may be audited without an authorization")]
    Unsigned,
    /// Outside the authorization's networks.
    #[error("it is outside the authorization")]
    Outside,
    /// Excluded by the authorization or by the campaign.
    #[error("it is excluded")]
    Excluded,
    /// A port that the authorization does not list.
    #[error("its port is outside the authorization")]
    Port,
    /// Special-purpose space that the authorization does not name.
    #[error("it is special-purpose space, which the authorization does not name")]
    Special,
    /// An IPv6 address that stands for an IPv4 address that is denied.
    #[error("it stands for an IPv4 address that is denied")]
    Embedded,
}

impl Scope {
    /// The scope of a campaign. `control_plane` is never connected to; an unspecified address among them, such as
    /// 0.0.0.0:7400, stands for that port of every address.
    pub fn new(
        authorization: Option<&Authorization>,
        targets: TargetSpace,
        exclude: &[Target],
        control_plane: &[SocketAddr],
    ) -> Self {
        let authorized_exclude =
            authorization.map_or(&[][..], |authorization| &authorization.exclude);
        Self {
            targets,
            exclude: AddressSet::new(exclude.iter().chain(authorized_exclude)),
            // Neither the mapped form nor a zone makes another socket of it.
            control_plane: control_plane
                .iter()
                .map(|own| (own.ip().to_canonical(), own.port()))
                .collect(),
            signed: authorization.map(|authorization| Signed {
                networks: AddressSet::new(&authorization.networks),
                named_special: authorization.named_special(),
                ports: authorization.ports.clone(),
                relay_ports: authorization.relay_ports.clone(),
                not_before: authorization.not_before,
                not_after: authorization.not_after,
            }),
        }
    }

    /// Whether a connection to this address may be opened at `now`.
    pub fn permits(&self, address: SocketAddr, now: Timestamp) -> Result<(), Denied> {
        self.permits_by(address, now, |signed, port| signed.ports.contains(port))
    }

    /// Whether datagrams may be sent at `now` to this address, whose port the target itself has
    /// named.
    pub fn permits_relay(&self, address: SocketAddr, now: Timestamp) -> Result<(), Denied> {
        self.permits_by(address, now, |signed, port| {
            let relays = signed.relay_ports.as_ref();
            signed.ports.contains(port) || relays.is_some_and(|ports| ports.contains(port))
        })
    }

    fn permits_by(
        &self,
        address: SocketAddr,
        now: Timestamp,
        lists: impl Fn(&Signed, u16) -> bool,
    ) -> Result<(), Denied> {
        let ip = address.ip().to_canonical();
        if self.is_control_plane(ip, address.port()) {
            return Err(Denied::ControlPlane);
        }
        if is_metadata(ip) {
            return Err(Denied::Metadata);
        }
        if !self.targets.contains(ip) {
            return Err(Denied::NotATarget);
        }
        if self.exclude.contains(ip) {
            return Err(Denied::Excluded);
        }
        let Some(signed) = &self.signed else {
            return if ip.is_loopback() {
                Ok(())
            } else {
                Err(Denied::Unsigned)
            };
        };
        if now < signed.not_before || now >= signed.not_after {
            return Err(Denied::Window);
        }
        if !signed.networks.contains(ip) {
            return Err(Denied::Outside);
        }
        if !lists(signed, address.port()) {
            return Err(Denied::Port);
        }
        if !signed.may_be_special(ip) {
            return Err(Denied::Special);
        }
        match ip {
            IpAddr::V6(ip)
                if !embedded(ip)
                    .into_iter()
                    .all(|ip| self.permits_embedded(signed, ip, address.port())) =>
            {
                Err(Denied::Embedded)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether an address is among the targets, or in the authorization's networks.
    pub fn covers(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let signed = self.signed.as_ref();
        self.targets.contains(ip) || signed.is_some_and(|signed| signed.networks.contains(ip))
    }

    /// A relay or translator may take an IPv6 address for the IPv4 address inside it.
    fn permits_embedded(&self, signed: &Signed, ip: Ipv4Addr, port: u16) -> bool {
        let ip = IpAddr::V4(ip);
        !self.is_control_plane(ip, port)
            && !is_metadata(ip)
            && !self.exclude.contains(ip)
            && signed.may_be_special(ip)
    }

    fn is_control_plane(&self, ip: IpAddr, port: u16) -> bool {
        let any_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        [ip, any_v4, any_v6]
            .into_iter()
            .any(|ip| self.control_plane.contains(&(ip, port)))
    }
}

/// Whether an address, or an IPv4 address that it may stand for, is in a set.
pub fn reaches(ip: IpAddr, set: &AddressSet) -> bool {
    if set.is_empty() {
        return false;
    }
    let ip = ip.to_canonical();
    let stands_for = match ip {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(ip) => embedded(ip),
    };
    set.contains(ip) || stands_for.into_iter().any(|ip| set.contains(ip.into()))
}

impl Signed {
    fn may_be_special(&self, ip: IpAddr) -> bool {
        special::denied(ip).is_none() || self.named_special.contains(ip)
    }
}

/// The IPv4 addresses that an IPv6 address may stand for. IPv4-mapped ones were taken as IPv4 before.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = ip.to_bits();
    let part = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    let [a, b, c, ..] = ip.segments();
    let last = part(0);
    let mut found = Vec::new();
    // IPv4-compatible: RFC 4291, section 2.5.5.1; IPv4-translated: RFC 2765, section 2.1.
    if bits >> 32 == 0 && bits > 1 || bits >> 32 == 0xffff_0000 {
        found.push(last);
    }
    // NAT64: RFC 6052, section 2.1.
    if bits >> 32 == 0x0064_ff9b << 64 {
        found.push(last);
    }
    if (a, b, c) == (0x64, 0xff9b, 1) {
        found.extend(local_nat64(bits));
    }
    // 6to4: RFC 3056, section 2.
    if a == 0x2002 {
        found.push(part(80));
    }
    // Teredo: RFC 4380, section 4; the client's address is stored inverted.
    if (a, b) == (0x2001, 0) {
        found.extend([part(64), Ipv4Addr::from_bits(!last.to_bits())]);
    }
    // ISATAP: RFC 5214, section 6.1.
    if matches!((bits >> 32) as u32, 0x0000_5efe | 0x0200_5efe) {
        found.push(last);
    }
    found
}

/// What an address in 64:ff9b:1::/48 (RFC 8215) may stand for: its operator chooses how long the prefix is, and RFC 6052,
/// section 2.2, says where the IPv4 address is then: around the zero byte 8, and followed by zeros.
fn local_nat64(bits: u128) -> impl Iterator<Item = Ipv4Addr> {
    let places = [48u32, 56, 64].map(|prefix| {
        let before = 64 - prefix; // bits of the IPv4 address before byte 8
        let high = (bits >> 64) & ((1 << before) - 1);
        let low = (bits << 72) >> (96 + before);
        let rest = bits & ((1 << (24 + before)) - 1);
        let u = (bits >> 56) & 0xff;
        let ip = (high << (32 - before) | low) as u32;
        (u == 0 && rest == 0 && ip != 0).then(|| Ipv4Addr::from_bits(ip))
    });
    let last = Ipv4Addr::from_bits(bits as u32);
    let only = places.iter().all(Option::is_none) || !last.is_unspecified();
    places.into_iter().flatten().chain(only.then_some(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{special::METADATA, tier::Tier};

    fn targets(texts: &[&str]) -> Vec<Target> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn authorization(networks: &[&str], exclude: &[&str]) -> Authorization {
        Authorization {
            version: 1,
            id: "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P".to_owned(),
            tenant: "example".to_owned(),
            contact: "ops@example.net".to_owned(),
            networks: targets(networks),
            exclude: targets(exclude),
            ports: "25,3128".parse().unwrap(),
            probes: vec!["*".to_owned().into()],
            tier: Tier::Deliver,
            claims: true,
            relay_ports: None,
            rate: 500,
            prefix_rate: 20,
            not_before: "2026-11-01T00:00:00Z".parse().unwrap(),
            not_after: "2026-12-01T00:00:00Z".parse().unwrap(),
            canary: vec!["192.0.2.1".parse().unwrap()],
            canary_domain: Vec::new(),
            hosts: Vec::new(),
        }
    }

    /// Asks for `ip`, port 25, as the only target of a campaign.
    fn asked(authorization: Option<&Authorization>, ip: &str) -> Result<(), Denied> {
        let targets = TargetSpace::new(&targets(&[ip]), &[]).unwrap();
        let scope = Scope::new(authorization, targets, &[], &[]);
        scope.permits(
            SocketAddr::new(ip.parse().unwrap(), 25),
            "2026-11-24T00:00:00Z".parse().unwrap(),
        )
    }

    #[test]
    fn without_an_authorization_there_is_loopback_only() {
        assert_eq!(asked(None, "127.0.0.1"), Ok(()));
        assert_eq!(asked(None, "::1"), Ok(()));
        assert_eq!(asked(None, "::ffff:127.9.9.9"), Ok(()));
        assert_eq!(asked(None, "8.8.8.8"), Err(Denied::Unsigned));
        assert_eq!(asked(None, "10.0.0.1"), Err(Denied::Unsigned));
    }

    #[test]
    fn the_edges_of_a_network_are_inside_and_their_neighbours_are_not() {
        let allowed = authorization(&["8.8.8.0/25", "8.8.8.128-8.8.8.200"], &["8.8.8.7"]);
        let check = |ip: &str, expect| assert_eq!(asked(Some(&allowed), ip), expect, "{ip}");
        check("8.8.7.255", Err(Denied::Outside));
        check("8.8.8.0", Ok(()));
        check("8.8.8.7", Err(Denied::Excluded));
        check("8.8.8.200", Ok(()));
        check("8.8.8.201", Err(Denied::Outside));
    }

    #[test]
    fn special_space_must_be_named() {
        let everything = authorization(&["0.0.0.0/0", "::/0"], &[]);
        let check = |ip: &str, expect| assert_eq!(asked(Some(&everything), ip), expect, "{ip}");
        check("8.8.8.8", Ok(()));
        check("10.1.2.3", Err(Denied::Special));
        check("127.0.0.1", Err(Denied::Special));
        check("224.0.0.1", Err(Denied::Special));
        check("169.254.169.254", Err(Denied::Metadata));
        let named = authorization(&["0.0.0.0/0", "10.1.0.0/16", "169.254.0.0/16"], &[]);
        assert_eq!(asked(Some(&named), "10.1.2.3"), Ok(()));
        assert_eq!(asked(Some(&named), "10.2.2.3"), Err(Denied::Special));
        assert_eq!(asked(Some(&named), "169.254.1.1"), Ok(()));
        assert_eq!(
            asked(Some(&named), "169.254.169.254"),
            Err(Denied::Metadata)
        );
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_address_is_checked_too() {
        let everything = authorization(
            &["::/0", "2001::/32", "2002::/16", "64:ff9b:1::/48"],
            &["8.8.8.8"],
        );
        let check = |ip: &str, expect| assert_eq!(asked(Some(&everything), ip), expect, "{ip}");
        check("64:ff9b::9.9.9.9", Ok(()));
        check("64:ff9b::10.0.0.1", Err(Denied::Embedded));
        check("64:ff9b::8.8.8.8", Err(Denied::Embedded));
        check("64:ff9b:1::169.254.169.254", Err(Denied::Embedded));
        check("64:ff9b:1::9.9.9.9", Ok(()));
        check("64:ff9b:1:909:9:900::", Ok(()));
        check("64:ff9b:1:00a9:fe:a9fe::", Err(Denied::Embedded));
        check("64:ff9b:1:0:a9:fea9:fe00:0", Err(Denied::Embedded));
        check("::ffff:0:10.0.0.1", Err(Denied::Embedded));
        check("64:ff9b:1:a00:0:100::", Err(Denied::Embedded));
        check("2002:0a00:0001::1", Err(Denied::Embedded));
        check("2002:0909:0909::1", Ok(()));
        check("2001:0:0909:0909::f5ff:fffe", Err(Denied::Embedded));
        check("2606:4700::5efe:10.0.0.1", Err(Denied::Embedded));
        check("2606:4700::200:5efe:127.0.0.1", Err(Denied::Embedded));
        check("::10.0.0.1", Err(Denied::Embedded));
        check("2606:4700::1", Ok(()));
    }

    #[test]
    fn port_window_control_plane_and_other_addresses_are_denied() {
        let allowed = authorization(&["8.8.8.0/24"], &[]);
        let own: SocketAddr = "8.8.8.9:25".parse().unwrap();
        let space = TargetSpace::new(&targets(&["8.8.8.0/25"]), &[]).unwrap();
        let scope = Scope::new(Some(&allowed), space, &targets(&["8.8.8.10"]), &[own]);
        let check = |address: &str, now: &str, expect| {
            assert_eq!(
                scope.permits(address.parse().unwrap(), now.parse().unwrap()),
                expect,
                "{address} {now}"
            );
        };
        let now = "2026-11-24T00:00:00Z";
        check("8.8.8.1:25", now, Ok(()));
        check("8.8.8.1:26", now, Err(Denied::Port));
        check("8.8.8.9:25", now, Err(Denied::ControlPlane));
        check("[::ffff:8.8.8.9]:25", now, Err(Denied::ControlPlane));
        check("8.8.8.10:25", now, Err(Denied::Excluded));
        check("8.8.8.200:25", now, Err(Denied::NotATarget));
        check("8.8.8.1:25", "2026-10-31T23:59:59Z", Err(Denied::Window));
        check("8.8.8.1:25", "2026-12-01T00:00:00Z", Err(Denied::Window));
    }

    #[test]
    fn datagrams_go_to_signed_relay_ports_too_and_connections_do_not() {
        let check = |relay_ports: Option<&str>, port: u16, expect: [bool; 2]| {
            let allowed = Authorization {
                relay_ports: relay_ports.map(|ports| ports.parse().unwrap()),
                ..authorization(&["8.8.8.0/24"], &["8.8.8.7"])
            };
            let space = TargetSpace::new(&targets(&["8.8.8.0/24"]), &[]).unwrap();
            let scope = Scope::new(Some(&allowed), space, &[], &[]);
            let now = "2026-11-24T00:00:00Z".parse().unwrap();
            let address = SocketAddr::new("8.8.8.8".parse().unwrap(), port);
            let relays = scope.permits_relay(address, now).is_ok();
            let connects = scope.permits(address, now).is_ok();
            assert_eq!([relays, connects], expect, "{relay_ports:?} {port}");
            let excluded = SocketAddr::new("8.8.8.7".parse().unwrap(), port);
            assert_eq!(scope.permits_relay(excluded, now), Err(Denied::Excluded));
        };
        check(None, 25, [true, true]);
        check(None, 40_000, [false, false]);
        check(Some("1024-65535"), 40_000, [true, false]);
        check(Some("1024-65535"), 25, [true, true]);
        check(Some("1024-65535"), 53, [false, false]);
    }

    #[test]
    fn no_spelling_of_its_own_sockets_is_permitted() {
        let check = |network: &str, address: &str, own: &str| {
            let allowed = authorization(&[network], &[]);
            let address: SocketAddr = address.parse().unwrap();
            let space = TargetSpace::new(&[address.ip().into()], &[]).unwrap();
            let scope = Scope::new(Some(&allowed), space, &[], &[own.parse().unwrap()]);
            let now = "2026-11-24T00:00:00Z".parse().unwrap();
            assert!(scope.permits(address, now).is_err(), "{address} is {own}");
        };
        check("8.8.8.0/24", "8.8.8.9:25", "[::ffff:8.8.8.9]:25");
        check("8.8.8.0/24", "8.8.8.9:25", "0.0.0.0:25");
        check("8.8.8.0/24", "8.8.8.9:25", "[::]:25");
        check("fe80::/64", "[fe80::9]:25", "[fe80::9%2]:25");
        check("64:ff9b::/96", "[64:ff9b::808:809]:25", "8.8.8.9:25");
    }

    #[test]
    fn no_metadata_service_is_permitted_even_where_it_is_named() {
        for ip in METADATA {
            let allowed = authorization(&[&ip.to_string()], &[]);
            assert_eq!(
                asked(Some(&allowed), &ip.to_string()),
                Err(Denied::Metadata)
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_the_networks_or_inside_the_exclusions_is_permitted(
            first in any::<u32>(), size in 0u32..5000, hole in 0u32..5000, ip in any::<u32>(), near in -3000i64..8000,
        ) {
            let address = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits));
            let network = Target::range(address(first), address(first.saturating_add(size))).unwrap();
            let excluded: Target = address(first.saturating_add(hole)).into();
            let mut allowed = authorization(&["8.8.8.8"], &[]);
            allowed.networks = vec![network];
            allowed.exclude = vec![excluded];
            let everything = targets(&["0.0.0.0/0"]);
            let scope = Scope::new(Some(&allowed), TargetSpace::new(&everything, &[]).unwrap(), &[], &[]);
            let close = (i64::from(first) + near).clamp(0, i64::from(u32::MAX)) as u32;
            for ip in [address(ip), address(close)] {
                let permitted = scope.permits(SocketAddr::new(ip, 25), "2026-11-24T00:00:00Z".parse().unwrap()).is_ok();
                prop_assert!(!permitted || (network.contains(ip) && !excluded.contains(ip)));
            }
        }
    }
}
