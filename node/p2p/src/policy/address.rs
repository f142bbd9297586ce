//! Addresses of peers: how they are written, and what counts as the same host
//! or the same part of the Internet when limits are applied.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not the address of a peer: write such as /ip4/192.0.2.1/tcp/7311/p2p/12D3Koo…, or HOST:PORT"
)]
pub struct PeerAddressError {
    text: String,
}

/// Where a peer is, and who it is if that is known: a multiaddress with or
/// without `/p2p/ID` at its end, or `HOST:PORT`, which means TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    /// Who; the connection fails if it turns out to be someone else.
    pub peer: Option<PeerId>,
    /// Where, without `/p2p/ID`.
    pub address: Multiaddr,
}

impl PeerAddress {
    /// Splits `/p2p/ID` off the end of a multiaddress.
    #[must_use]
    pub fn split(mut address: Multiaddr) -> Self {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => {
                address.pop();
                Some(peer)
            }
            _ => None,
        };
        Self { peer, address }
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PeerAddressError {
            text: text.chars().take(200).collect(),
        };
        if text.starts_with('/') {
            let address: Multiaddr = text.parse().map_err(|_| bad())?;
            let split = Self::split(address);
            return if split.address.is_empty() {
                Err(bad())
            } else {
                Ok(split)
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match (bare.unwrap_or(host).parse::<IpAddr>(), bare) {
            (Ok(ip), _) => Protocol::from(ip),
            (Err(_), None) if is_host_name(host) => Protocol::Dns(host.into()),
            _ => return Err(bad()),
        };
        Ok(Self {
            peer: None,
            address: Multiaddr::empty().with(host).with(Protocol::Tcp(port)),
        })
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{}/p2p/{peer}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = PeerAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> Self {
        address.to_string()
    }
}

/// The IP address that a multiaddress leads to directly: none for names and for
/// the far side of a relay. IPv4 in IPv6's clothes is IPv4.
#[must_use]
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    if is_relayed(address) {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// Whether a multiaddress goes through a relay.
#[must_use]
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether an address stays on this machine.
#[must_use]
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// The relay that a multiaddress goes through.
#[must_use]
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut before = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => before = Some(peer),
            Protocol::P2pCircuit => return before,
            _ => {}
        }
    }
    None
}

/// From how far away an address makes sense, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// From this machine only.
    Machine,
    /// From the same private network.
    Local,
    /// From everywhere.
    Open,
}

impl Scope {
    /// Of an address; none for those that lead to no single host.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                // Link-local ones mean something else on each link, and hold the
                // doors to what clouds tell their machines.
                if first == 0 || first >= 224 || ip.is_link_local() {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Machine)
                } else if ip.is_private() || (first == 100 && (64..128).contains(&second)) {
                    Some(Self::Local)
                } else {
                    Some(Self::Open)
                }
            }
            IpAddr::V6(ip) => {
                if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Machine)
                } else if ip.is_unique_local() {
                    Some(Self::Local)
                } else {
                    Some(Self::Open)
                }
            }
        }
    }

    /// Of a multiaddress; of its relay, if it goes through one. None for names:
    /// they lead wherever their owner wants, past every limit that is counted by
    /// address, so only the operator may use them.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        match address.iter().next()? {
            Protocol::Ip4(ip) => Self::of_ip(IpAddr::V4(ip)),
            Protocol::Ip6(ip) => Self::of_ip(IpAddr::V6(ip)),
            _ => None,
        }
    }

    /// Whether one who is this near may tell of an address: nobody has us knock
    /// at doors nearer to us than itself.
    #[must_use]
    pub fn may_tell(self, address: &Multiaddr) -> bool {
        Self::of(address).is_some_and(|scope| scope >= self)
    }
}

/// The provider of an address, or of its relay: an IPv4 /16 or an IPv6 /32, all
/// private networks together; none for this machine.
#[must_use]
pub fn provider_of(address: &Multiaddr) -> Option<Network> {
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    match Scope::of_ip(ip) {
        Some(Scope::Machine) => None,
        Some(Scope::Open) => Some(Network::provider(ip)),
        Some(Scope::Local) | None => Some(Network::private()),
    }
}

/// An address prefix that one operator is taken to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    fn of(ip: IpAddr, v4_bits: u8, v6_bits: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(v4_bits))
                    .unwrap_or_default();
                Self {
                    base: IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask)),
                    bits: v4_bits,
                }
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(v6_bits))
                    .unwrap_or_default();
                Self {
                    base: IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask)),
                    bits: v6_bits,
                }
            }
        }
    }

    /// One host: an IPv4 address, or an IPv6 /64 (protocol §12).
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        Self::of(ip, 32, 64)
    }

    /// One site: an IPv4 /24 (protocol §12), or the IPv6 /48 that sites get.
    #[must_use]
    pub fn site(ip: IpAddr) -> Self {
        Self::of(ip, 24, 48)
    }

    /// What stands for all private networks.
    fn private() -> Self {
        Self {
            base: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)),
            bits: 8,
        }
    }

    /// One provider: an IPv4 /16, or the IPv6 /32 that providers get.
    #[must_use]
    pub fn provider(ip: IpAddr) -> Self {
        Self::of(ip, 16, 32)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base, self.bits) {
            (IpAddr::V4(_), 32) => self.base.fmt(f),
            (base, bits) => write!(f, "{base}/{bits}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn host(text: &str) -> Network {
        Network::host(text.parse().unwrap())
    }

    #[test]
    fn peers_are_named_by_multiaddress_or_host_and_port() {
        let peer = PeerId::random();
        for (text, address, id) in [
            (
                format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"),
                "/ip4/192.0.2.1/tcp/1",
                Some(peer),
            ),
            (
                "/ip6/::1/udp/9/quic-v1".to_owned(),
                "/ip6/::1/udp/9/quic-v1",
                None,
            ),
            ("192.0.2.1:7".to_owned(), "/ip4/192.0.2.1/tcp/7", None),
            ("[2001:db8::1]:7".to_owned(), "/ip6/2001:db8::1/tcp/7", None),
            (
                "node.example.org:7".to_owned(),
                "/dns/node.example.org/tcp/7",
                None,
            ),
        ] {
            let parsed: PeerAddress = text.parse().unwrap();
            assert_eq!(parsed.address.to_string(), address, "{text}");
            assert_eq!(parsed.peer, id, "{text}");
            assert_eq!(
                parsed.to_string().parse::<PeerAddress>().unwrap(),
                parsed,
                "{text}"
            );
        }
    }

    #[test]
    fn other_text_is_refused() {
        let long = "x".repeat(10_000);
        for text in [
            "",
            "/",
            "here",
            "host:99999",
            ":7311",
            "a b:1",
            "[host]:1",
            "/ip4/1.2.3/tcp/1",
            "/p2p/nonsense",
            long.as_str(),
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err();
            assert!(error.to_string().len() < 500);
        }
        let only_an_id = format!("/p2p/{}", PeerId::random());
        assert!(only_an_id.parse::<PeerAddress>().is_err());
    }

    #[test]
    fn hosts_are_folded() {
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:1"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(host("2001:db8::1").to_string(), "2001:db8::/64");
        let site = |text: &str| Network::site(text.parse().unwrap());
        assert_eq!(site("192.0.2.1"), site("192.0.2.254"));
        assert_ne!(site("192.0.2.1"), site("192.0.3.1"));
        let provider = |text: &str| Network::provider(text.parse().unwrap());
        assert_eq!(provider("10.1.2.3"), provider("10.1.9.9"));
        assert_ne!(provider("10.1.2.3"), provider("10.2.2.3"));
    }

    #[test]
    fn a_relay_hides_the_address() {
        let relay = PeerId::random();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit")
            .parse()
            .unwrap();
        assert_eq!(ip_of(&address), None);
        assert!(is_relayed(&address));
    }

    #[test]
    fn nobody_tells_of_what_is_nearer_than_himself() {
        let relay = PeerId::random();
        let scope = |text: &str| Scope::of(&text.parse().unwrap());
        for text in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"] {
            assert_eq!(scope(text), Some(Scope::Machine), "{text}");
        }
        for text in [
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::ffff:10.1.2.3/tcp/1",
        ] {
            assert_eq!(scope(text), Some(Scope::Local), "{text}");
        }
        let relayed = format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit");
        for text in [
            "/ip4/203.0.113.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            relayed.as_str(),
        ] {
            assert_eq!(scope(text), Some(Scope::Open), "{text}");
        }
        for text in [
            "/dns/localhost/tcp/1",
            "/dns4/example.org/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/255.255.255.255/tcp/1",
            "/ip4/224.0.0.1/tcp/1",
            "/ip6/::/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/ff02::1/tcp/1",
        ] {
            assert_eq!(scope(text), None, "{text}");
        }
        let near: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        assert!(!Scope::Open.may_tell(&near));
        assert!(Scope::Local.may_tell(&near) && Scope::Machine.may_tell(&near));
        assert_eq!(relay_of(&relayed.parse().unwrap()), Some(relay));
        assert_eq!(relay_of(&near), None);
    }

    #[test]
    fn private_networks_are_one_provider_together() {
        let provider = |text: &str| provider_of(&text.parse().unwrap());
        assert_eq!(
            provider("/ip4/10.1.2.3/tcp/1"),
            provider("/ip4/192.168.0.1/tcp/1")
        );
        assert_eq!(provider("/ip4/127.0.0.1/tcp/1"), None);
        let relay = PeerId::random();
        assert_eq!(
            provider(&format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit")),
            provider("/ip4/203.0.9.9/tcp/1")
        );
    }
}
