//! Which addresses count as the same host, the same site or the same provider when limits are
//! applied.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::policy::address_scope::AddressScope;

/// The provider of an address, or of its relay: an IPv4 /16 or an IPv6 /32. All private networks
/// count as one provider; this machine has none.
#[must_use]
pub(crate) fn provider_of(address: &Multiaddr) -> Option<IpPrefix> {
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    match AddressScope::of_ip(ip) {
        Some(AddressScope::Loopback) => None,
        Some(AddressScope::Public) => Some(IpPrefix::provider(ip)),
        Some(AddressScope::Private) | None => Some(IpPrefix::private()),
    }
}

/// A prefix of IP addresses that are taken to belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    base: IpAddr,
    bits: u8,
}

impl IpPrefix {
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

    /// One host: an IPv4 address, or an IPv6 /64 (node policy).
    #[must_use]
    pub(crate) fn host(ip: IpAddr) -> Self {
        Self::of(ip, 32, 64)
    }

    /// One site: an IPv4 /24 (node policy), or the IPv6 /48 that sites get.
    #[must_use]
    pub(crate) fn site(ip: IpAddr) -> Self {
        Self::of(ip, 24, 48)
    }

    /// The prefix that stands for all private networks.
    fn private() -> Self {
        Self {
            base: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)),
            bits: 8,
        }
    }

    /// One provider: an IPv4 /16, or the IPv6 /32 that providers get.
    #[must_use]
    pub(crate) fn provider(ip: IpAddr) -> Self {
        Self::of(ip, 16, 32)
    }
}

impl fmt::Display for IpPrefix {
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
    use libp2p::PeerId;

    use super::*;

    fn host(text: &str) -> IpPrefix {
        IpPrefix::host(text.parse().unwrap())
    }

    #[test]
    fn hosts_are_folded() {
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:1"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(host("2001:db8::1").to_string(), "2001:db8::/64");
        let site = |text: &str| IpPrefix::site(text.parse().unwrap());
        assert_eq!(site("192.0.2.1"), site("192.0.2.254"));
        assert_ne!(site("192.0.2.1"), site("192.0.3.1"));
        let provider = |text: &str| IpPrefix::provider(text.parse().unwrap());
        assert_eq!(provider("10.1.2.3"), provider("10.1.9.9"));
        assert_ne!(provider("10.1.2.3"), provider("10.2.2.3"));
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
