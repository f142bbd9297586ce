//! Addresses of peers: how they are written, and what a multiaddress leads to. What addresses
//! have in common is in `ip_prefix`, from where they make sense in `address_scope`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not the address of a peer: write it like /ip4/192.0.2.1/tcp/7311/p2p/12D3Koo…, or as HOST:PORT"
)]
pub struct PeerAddressError {
    text: String,
}

/// The address of a peer, with its identity if that is known: a multiaddress with or without
/// `/p2p/ID` at its end, or `HOST:PORT`, which means TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    /// The expected identity. A connection to any other peer fails.
    pub peer: Option<PeerId>,
    /// The multiaddress without `/p2p/ID`.
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

/// The IP address that a multiaddress leads to directly: none for host names and for the far side
/// of a relay. An IPv4-mapped IPv6 address counts as IPv4.
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

/// Whether a multiaddress leads to this machine itself.
#[must_use]
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// The identity of the relay that a multiaddress goes through, if the multiaddress shows it.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
    fn a_relay_hides_the_address() {
        let relay = PeerId::random();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit")
            .parse()
            .unwrap();
        assert_eq!(ip_of(&address), None);
        assert!(is_relayed(&address));
    }
}
