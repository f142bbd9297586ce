//! Which addresses this node dials at all.
//!
//! The rule: the node dials public IP addresses only. Otherwise peers could have it connect to its
//! own machine's services, or to machines on its network. There are two exceptions:
//!
//! 1. A node that is *at home* on one machine or in one private network also dials addresses there.
//! 2. Every address that the node's own dialer chooses is dialled. The operator named it, or the
//!    address book holds it: the book takes no host names from peers, and a private address only
//!    from mDNS, from a peer on a private network or on this machine that claims it for itself, or
//!    if this node is at home there.
//!
//! To connect nodes on one machine, let them listen on loopback only, name only local peers, or use
//! `mdns`.
//!
//! | the node listens on | the operator names peers in | at home |
//! |---|---|---|
//! | any address | public addresses, or none | on the Internet |
//! | 10.0.0.2 | none | in the private network |
//! | any address | 192.168.1.5 only | in the private network |
//! | 127.0.0.1 | none | on this machine |
//!
//! [`ScopedTransport`] applies this to every dial of every protocol, before names are resolved.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};
use lru::LruCache;

use crate::policy::address::{PeerAddress, is_relayed};
use crate::policy::address_scope::AddressScope;

/// Permitted addresses that are remembered: more than are ever dialled at once. The oldest is
/// forgotten first.
const PERMITTED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not zero");

struct DialScopeState {
    /// The widest scope that the node listens in.
    listening: Option<AddressScope>,
    /// The widest scope that the operator has named a peer in.
    named: Option<AddressScope>,
    /// Addresses that the dialer has chosen, whatever their scope.
    permitted: LruCache<Multiaddr, ()>,
}

/// The scope that the node may dial in, shared by the shell and the transport.
#[derive(Clone)]
pub(crate) struct DialScope(Arc<Mutex<DialScopeState>>);

impl DialScope {
    /// The scope of a node that was told to listen on these addresses.
    #[must_use]
    pub(crate) fn new(listen: &[Multiaddr]) -> Self {
        // 0.0.0.0 and :: have no scope of their own: they listen on all interfaces.
        let widest = |address| AddressScope::of(address).unwrap_or(AddressScope::Public);
        Self(Arc::new(Mutex::new(DialScopeState {
            listening: listen.iter().map(widest).max(),
            named: None,
            permitted: LruCache::new(PERMITTED_MAX),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, DialScopeState> {
        // A panic while it was locked left no half-made change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the operator has named a peer.
    pub(crate) fn note_named(&self, address: &PeerAddress) {
        let scope = AddressScope::of(&address.address).unwrap_or(AddressScope::Public);
        let mut known = self.lock();
        known.named = known.named.max(Some(scope));
    }

    /// Where the node is at home. Addresses that are nearer than that are not dialled on a peer's
    /// word.
    #[must_use]
    pub(crate) fn home(&self) -> AddressScope {
        let known = self.lock();
        let scope = |scope: Option<AddressScope>| scope.unwrap_or(AddressScope::Public);
        scope(known.listening).min(scope(known.named))
    }

    /// Permits an address that the dialer has chosen, and the way to its relay.
    pub(crate) fn permit(&self, address: &Multiaddr) {
        let mut known = self.lock();
        known.permitted.put(bare(address), ());
        if is_relayed(address) {
            let relay = address.iter();
            let relay = relay.take_while(|part| !matches!(part, Protocol::P2p(_)));
            known.permitted.put(relay.collect(), ());
        }
    }

    fn allows(&self, address: &Multiaddr) -> bool {
        self.home().may_advertise(address) || self.lock().permitted.contains(&bare(address))
    }
}

fn bare(address: &Multiaddr) -> Multiaddr {
    PeerAddress::split(address.clone()).address
}

/// A transport that dials within a scope.
pub(crate) struct ScopedTransport<T> {
    pub(crate) inner: T,
    pub(crate) dial_scope: DialScope,
}

impl<T: Transport + Unpin> Transport for ScopedTransport<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<T::Dial, TransportError<T::Error>> {
        if !self.dial_scope.allows(&address) {
            tracing::debug!(%address, "not dialled: peers may not advertise this address");
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn dials(dial_scope: &DialScope, text: &str) -> bool {
        let inner = libp2p::core::transport::MemoryTransport::new();
        let dial_scope = dial_scope.clone();
        let mut transport = ScopedTransport { inner, dial_scope };
        let options = DialOpts {
            role: libp2p::core::Endpoint::Dialer,
            port_use: libp2p::core::transport::PortUse::Reuse,
        };
        let dialled = transport.dial_scope.allows(&address(text));
        // The memory transport itself refuses these addresses, whatever the scope.
        assert!(transport.dial(address(text), options).is_err());
        dialled
    }

    #[test]
    fn only_the_open_internet_unless_at_home_elsewhere() {
        let open = DialScope::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        assert!(dials(&open, "/ip4/203.0.113.1/tcp/1"));
        for near in [
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/192.168.1.1/tcp/80",
            "/dns/localhost/tcp/22",
            "/dns4/router.lan/tcp/80",
        ] {
            assert!(!dials(&open, near), "{near}");
        }
        let local = DialScope::new(&[
            address("/ip4/10.0.0.2/tcp/1"),
            address("/ip4/127.0.0.1/tcp/1"),
        ]);
        assert!(dials(&local, "/ip4/10.0.0.9/tcp/1"));
        assert!(!dials(&local, "/ip4/127.0.0.1/tcp/22"));
        let machine = DialScope::new(&[address("/ip4/127.0.0.1/tcp/0")]);
        assert!(dials(&machine, "/ip4/127.0.0.1/tcp/9"));
        assert!(!dials(&machine, "/dns/localhost/tcp/22"));
    }

    #[test]
    fn a_node_with_private_peers_only_is_at_home_there() {
        let dial_scope = DialScope::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        dial_scope.note_named(&"192.168.1.5:7311".parse().unwrap());
        assert!(dials(&dial_scope, "/ip4/192.168.1.6/tcp/1"));
        assert!(!dials(&dial_scope, "/ip4/127.0.0.1/tcp/22"));
        dial_scope.note_named(&"node.example.org:7311".parse().unwrap());
        assert!(!dials(&dial_scope, "/ip4/192.168.1.6/tcp/1"));
    }

    #[test]
    fn what_the_dialer_chose_is_dialled() {
        let dial_scope = DialScope::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        let peer = libp2p::PeerId::random();
        dial_scope.permit(&address("/dns/node.example.org/tcp/7311"));
        assert!(dials(
            &dial_scope,
            &format!("/dns/node.example.org/tcp/7311/p2p/{peer}")
        ));
        assert!(!dials(&dial_scope, "/dns/node.example.org/tcp/7312"));
        dial_scope.permit(&address(&format!(
            "/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit"
        )));
        assert!(dials(&dial_scope, "/ip4/10.0.0.1/tcp/1"));
    }
}
