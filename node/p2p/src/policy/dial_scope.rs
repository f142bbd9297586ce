//! Where this node dials at all: on the open Internet, and nearer only where the
//! operator lives. Strangers name addresses all day long, to Kademlia above all;
//! none of them should have this node knock at its own doors or its neighbours'.
//!
//! [`Within`] holds that against every dial of every protocol, below them all and
//! above the resolution of names.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};
use lru::LruCache;

use crate::policy::address::{PeerAddress, Scope};

/// Addresses outside the reach that the shell has chosen all the same; the oldest
/// goes first. More than are ever dialled at once.
const PERMITTED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not zero");

struct Known {
    listening: Option<Scope>,
    /// The widest scope that the operator has named a peer in.
    named: Option<Scope>,
    permitted: LruCache<Multiaddr, ()>,
}

/// What may be dialled, shared by the shell and the transport.
#[derive(Clone)]
pub(crate) struct Reach(Arc<Mutex<Known>>);

impl Reach {
    /// Of a node that was told to listen on these addresses.
    #[must_use]
    pub(crate) fn new(listen: &[Multiaddr]) -> Self {
        // "Any" address is open to all.
        let widest = |address| Scope::of(address).unwrap_or(Scope::Open);
        Self(Arc::new(Mutex::new(Known {
            listening: listen.iter().map(widest).max(),
            named: None,
            permitted: LruCache::new(PERMITTED_MAX),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // It holds no half-made changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator has named a peer.
    pub(crate) fn named(&self, address: &PeerAddress) {
        let scope = Scope::of(&address.address).unwrap_or(Scope::Open);
        let mut known = self.lock();
        known.named = known.named.max(Some(scope));
    }

    /// How near the addresses may be that anyone tells: a node that listens, or
    /// was given peers, on one machine or in one private network only, is at home
    /// there.
    #[must_use]
    pub(crate) fn home(&self) -> Scope {
        let known = self.lock();
        let scope = |scope: Option<Scope>| scope.unwrap_or(Scope::Open);
        scope(known.listening).min(scope(known.named))
    }

    /// Lets an address be dialled that the shell has good reason for.
    pub(crate) fn permit(&self, address: &Multiaddr) {
        let mut known = self.lock();
        known.permitted.put(bare(address), ());
        // The way to a relay is part of the way through it.
        if crate::policy::address::is_relayed(address) {
            let relay = address.iter();
            let relay = relay.take_while(|part| !matches!(part, Protocol::P2p(_)));
            known.permitted.put(relay.collect(), ());
        }
    }

    fn allows(&self, address: &Multiaddr) -> bool {
        self.home().may_tell(address) || self.lock().permitted.contains(&bare(address))
    }
}

fn bare(address: &Multiaddr) -> Multiaddr {
    PeerAddress::split(address.clone()).address
}

/// A transport that dials within reach.
pub(crate) struct Within<T> {
    pub(crate) inner: T,
    pub(crate) reach: Reach,
}

impl<T: Transport + Unpin> Transport for Within<T> {
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
        if !self.reach.allows(&address) {
            tracing::debug!(%address, "not dialled: strangers may not name it");
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

    fn dials(reach: &Reach, text: &str) -> bool {
        let inner = libp2p::core::transport::MemoryTransport::new();
        let reach = reach.clone();
        let mut transport = Within { inner, reach };
        let options = DialOpts {
            role: libp2p::core::Endpoint::Dialer,
            port_use: libp2p::core::transport::PortUse::Reuse,
        };
        let dialled = transport.reach.allows(&address(text));
        // The memory transport takes none of these, but that is its own answer.
        assert!(transport.dial(address(text), options).is_err());
        dialled
    }

    #[test]
    fn only_the_open_internet_unless_at_home_elsewhere() {
        let open = Reach::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        assert!(dials(&open, "/ip4/203.0.113.1/tcp/1"));
        for near in [
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/192.168.1.1/tcp/80",
            "/dns/localhost/tcp/22",
            "/dns4/router.lan/tcp/80",
        ] {
            assert!(!dials(&open, near), "{near}");
        }
        let local = Reach::new(&[
            address("/ip4/10.0.0.2/tcp/1"),
            address("/ip4/127.0.0.1/tcp/1"),
        ]);
        assert!(dials(&local, "/ip4/10.0.0.9/tcp/1"));
        assert!(!dials(&local, "/ip4/127.0.0.1/tcp/22"));
        let machine = Reach::new(&[address("/ip4/127.0.0.1/tcp/0")]);
        assert!(dials(&machine, "/ip4/127.0.0.1/tcp/9"));
        assert!(!dials(&machine, "/dns/localhost/tcp/22"));
    }

    #[test]
    fn who_has_private_peers_only_is_at_home_there() {
        let reach = Reach::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        reach.named(&"192.168.1.5:7311".parse().unwrap());
        assert!(dials(&reach, "/ip4/192.168.1.6/tcp/1"));
        assert!(!dials(&reach, "/ip4/127.0.0.1/tcp/22"));
        reach.named(&"node.example.org:7311".parse().unwrap());
        assert!(!dials(&reach, "/ip4/192.168.1.6/tcp/1"));
    }

    #[test]
    fn what_the_shell_chose_is_dialled() {
        let reach = Reach::new(&[address("/ip4/0.0.0.0/tcp/7311")]);
        let peer = libp2p::PeerId::random();
        reach.permit(&address("/dns/node.example.org/tcp/7311"));
        assert!(dials(
            &reach,
            &format!("/dns/node.example.org/tcp/7311/p2p/{peer}")
        ));
        assert!(!dials(&reach, "/dns/node.example.org/tcp/7312"));
        reach.permit(&address(&format!(
            "/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit"
        )));
        assert!(dials(&reach, "/ip4/10.0.0.1/tcp/1"));
    }
}
