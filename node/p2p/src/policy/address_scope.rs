//! From where an address can be reached: from this machine, from a private network, or from the
//! Internet. This decides which addresses a peer may advertise, and which this node dials.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// From where an address can be reached, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressScope {
    /// From this machine only: 127.0.0.0/8, ::1.
    Loopback,
    /// From the same private network, such as 192.168.0.0/16 or fc00::/7.
    Private,
    /// From the whole Internet.
    Public,
}

impl AddressScope {
    /// The scope of an IP address. None for addresses that belong to no single host.
    #[must_use]
    pub(crate) fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                // A link-local address means another host on each link, and in clouds the
                // service that hands out a machine's credentials.
                if first == 0 || first >= 224 || ip.is_link_local() {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Loopback)
                } else if ip.is_private() || (first == 100 && (64..128).contains(&second)) {
                    Some(Self::Private)
                } else {
                    Some(Self::Public)
                }
            }
            IpAddr::V6(ip) => {
                if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() {
                    None
                } else if ip.is_loopback() {
                    Some(Self::Loopback)
                } else if ip.is_unique_local() {
                    Some(Self::Private)
                } else {
                    Some(Self::Public)
                }
            }
        }
    }

    /// The scope of a multiaddress, or of its relay if it goes through one. None for host names:
    /// a name leads wherever its owner wants, past every limit that is counted by address.
    /// Therefore only the operator may use names.
    #[must_use]
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        match address.iter().next()? {
            Protocol::Ip4(ip) => Self::of_ip(IpAddr::V4(ip)),
            Protocol::Ip6(ip) => Self::of_ip(IpAddr::V6(ip)),
            _ => None,
        }
    }

    /// Whether a peer of this scope may advertise an address. An address must not be nearer to us
    /// than the peer that names it. Otherwise a peer on the Internet could make this node connect
    /// to machines in the node's private network.
    ///
    /// | peer of scope | may advertise |
    /// |---|---|
    /// | loopback | every address |
    /// | private | private and public addresses |
    /// | public | public addresses |
    #[must_use]
    pub(crate) fn may_advertise(self, address: &Multiaddr) -> bool {
        Self::of(address).is_some_and(|scope| scope >= self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::policy::address::relay_of;

    #[test]
    fn peers_advertise_nothing_nearer_than_themselves() {
        let relay = PeerId::random();
        let scope = |text: &str| AddressScope::of(&text.parse().unwrap());
        for text in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"] {
            assert_eq!(scope(text), Some(AddressScope::Loopback), "{text}");
        }
        for text in [
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::ffff:10.1.2.3/tcp/1",
        ] {
            assert_eq!(scope(text), Some(AddressScope::Private), "{text}");
        }
        let relayed = format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit");
        for text in [
            "/ip4/203.0.113.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            relayed.as_str(),
        ] {
            assert_eq!(scope(text), Some(AddressScope::Public), "{text}");
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
        assert!(!AddressScope::Public.may_advertise(&near));
        assert!(
            AddressScope::Private.may_advertise(&near)
                && AddressScope::Loopback.may_advertise(&near)
        );
        assert_eq!(relay_of(&relayed.parse().unwrap()), Some(relay));
        assert_eq!(relay_of(&near), None);
    }
}
