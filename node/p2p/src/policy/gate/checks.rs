//! The gate's decisions: whether a connection may be opened, and which inbound peer has to leave
//! for another.
//!
//! Inbound places are given out by these rules:
//!
//! 1. One in eight inbound places is kept for *guests*: peers that connect to look something up
//!    and leave again, and newcomers during their first 15 seconds. Guests may take any free place.
//! 2. If all inbound places are taken, a newcomer takes the place of a guest, whatever the guest's
//!    merits. Settled peers are not touched: a crowd of short visits can't drive them out. Without
//!    a guest, the newcomer is refused.
//! 3. A guest that stays for 15 seconds becomes settled.
//! 4. If more peers are settled than there are places for them, one of them has to leave. The
//!    rules in `eviction` choose which.
//! 5. A newcomer behind a relay takes no other peer's place, because its address, and so its
//!    provider, is unknown.
//!
//! Example with 64 inbound places: 56 peers can settle, and 8 places are kept for guests.

use std::collections::HashSet;
use std::hash::RandomState;
use std::net::IpAddr;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::connections::{ConnectionPurpose, InboundOrigin};
use super::{Gate, GateRefusal};
use crate::policy::address_scope::AddressScope;
use crate::policy::bans::Subject;
use crate::policy::eviction::{self, EvictionCandidate};
use crate::policy::ip_prefix::IpPrefix;

/// Connections to one peer. Besides the one in use there can be one that crosses or replaces it,
/// and one that probes whether the peer can be reached.
pub(super) const PER_PEER_MAX: usize = 3;
/// Inbound connections whose peer has not shown its identity yet, in all.
const PENDING_INBOUND_MAX: usize = 64;
/// Inbound connections whose peer has not shown its identity yet, from one host.
const PENDING_PER_HOST_MAX: usize = 4;
/// Inbound connections whose peer has not shown its identity yet, from one site.
pub(super) const PENDING_PER_SITE_MAX: usize = 16;
/// Dials under way.
const PENDING_OUTBOUND_MAX: usize = 64;
/// Connections that protocols may open by themselves to look up other peers.
pub(super) const LOOKUPS_MAX: usize = 16;
/// Connections that protocols may open by themselves to connected peers, to find out whether
/// these can be reached, or to replace a relayed connection.
pub(super) const PROBES_MAX: usize = 16;
/// Inbound peers through one relay: their own addresses are unknown.
pub(super) const PER_RELAY_MAX: usize = 2;
/// Inbound peers through all relays.
pub(super) const RELAYED_MAX: usize = 8;
/// One in this many inbound places is for guests (rule 1).
const PLACES_PER_GUEST: usize = 8;
/// A guest that has stayed for so long is settled (rule 3). Longer than a lookup lasts.
pub(super) const GUEST_SECS: u64 = 15;

impl Gate {
    /// Whether the peer, or the host at `ip`, is banned.
    pub(super) fn check_ban(
        &mut self,
        peer: Option<PeerId>,
        ip: Option<IpAddr>,
    ) -> Result<(), GateRefusal> {
        let now = (self.clock)();
        let subjects = [peer.map(Subject::Peer), ip.and_then(Subject::host)];
        let mut subjects = subjects.iter().flatten();
        if subjects.any(|subject| self.bans.is_banned(subject, now)) {
            return Err(GateRefusal::Banned);
        }
        Ok(())
    }

    fn check_peer(&self, peer: PeerId) -> Result<(), GateRefusal> {
        if self.table.count_of(peer) >= PER_PEER_MAX {
            return Err(GateRefusal::PeerFull);
        }
        Ok(())
    }

    /// The address, if the limits of hosts and sites hold for it.
    fn counted(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        let own = |ip: &IpAddr| AddressScope::of_ip(*ip) == Some(AddressScope::Loopback);
        ip.filter(|ip| self.limits.count_loopback || !own(ip))
    }

    /// Whether an inbound connection may begin its handshake.
    pub(super) fn check_inbound_pending(&mut self, ip: Option<IpAddr>) -> Result<(), GateRefusal> {
        self.check_ban(None, ip)?;
        if self.pending_inbound.len() >= PENDING_INBOUND_MAX {
            return Err(GateRefusal::InboundFull);
        }
        if let Some(ip) = self.counted(ip) {
            let pending = |of: fn(IpAddr) -> IpPrefix| {
                let others = self.pending_inbound.values().flatten();
                others.filter(|other| of(**other) == of(ip)).count()
            };
            if pending(IpPrefix::host) >= PENDING_PER_HOST_MAX {
                return Err(GateRefusal::HostFull);
            }
            if pending(IpPrefix::site) >= PENDING_PER_SITE_MAX {
                return Err(GateRefusal::SiteFull);
            }
        }
        Ok(())
    }

    /// Whether an inbound connection may stay, now that the peer has shown its identity.
    pub(super) fn check_inbound(
        &mut self,
        peer: PeerId,
        origin: InboundOrigin,
    ) -> Result<(), GateRefusal> {
        self.check_ban(Some(peer), origin.ip)?;
        self.check_peer(peer)?;
        // An evicted peer can't come back before its old connections have closed.
        if self.table.is_leaving(&peer) {
            return Err(GateRefusal::InboundFull);
        }
        let inbound = self.table.inbound();
        if inbound.contains(&peer) || self.table.chosen().contains(&peer) {
            return Ok(());
        }
        self.check_neighbours(peer, origin)?;
        if inbound.len() < self.inbound_places() {
            return Ok(());
        }
        // Rule 5.
        if origin.relay.is_some() || !self.make_room_for_newcomer(&inbound) {
            return Err(GateRefusal::InboundFull);
        }
        Ok(())
    }

    /// The limits for each relay, host and site.
    fn check_neighbours(&self, peer: PeerId, origin: InboundOrigin) -> Result<(), GateRefusal> {
        let table = &self.table;
        if let Some(relay) = origin.relay
            && (table.neighbours(peer, |other| other.relay == Some(relay)) >= PER_RELAY_MAX
                || table.neighbours(peer, |other| other.relay.is_some()) >= RELAYED_MAX)
        {
            return Err(GateRefusal::RelayFull);
        }
        if let Some(ip) = self.counted(origin.ip) {
            let neighbours = |of: fn(IpAddr) -> IpPrefix| {
                let same =
                    |other: &InboundOrigin| other.ip.is_some_and(|other| of(other) == of(ip));
                table.neighbours(peer, same)
            };
            if neighbours(IpPrefix::host) >= self.limits.per_host_max {
                return Err(GateRefusal::HostFull);
            }
            if neighbours(IpPrefix::site) >= self.limits.per_site_max {
                return Err(GateRefusal::SiteFull);
            }
        }
        Ok(())
    }

    /// Inbound places at present: outbound peers may take some of the total.
    fn inbound_places(&self) -> usize {
        let rest = self.limits.peers_max;
        let rest = rest.saturating_sub(self.table.chosen().len());
        self.limits.inbound_max.min(rest)
    }

    /// Places for guests (rule 1).
    pub(super) fn guests_max(&self) -> usize {
        self.limits.inbound_max / PLACES_PER_GUEST
    }

    /// Inbound peers that are guests no longer (rule 3).
    fn settled(&self) -> HashSet<PeerId> {
        match (self.clock)().checked_sub(GUEST_SECS) {
            Some(until) => self.table.inbound_since(until),
            None => HashSet::new(),
        }
    }

    /// Evicts a guest for a newcomer (rule 2). A node that is too small for guests evicts one of
    /// all inbound peers instead.
    fn make_room_for_newcomer(&mut self, inbound: &HashSet<PeerId>) -> bool {
        if self.guests_max() == 0 {
            return self.evict_one_of(inbound, eviction::choose);
        }
        let settled = self.settled();
        let guests = inbound.difference(&settled).copied().collect();
        self.evict_one_of(&guests, |guests, _| eviction::newest_of_crowd(&guests))
    }

    /// Evicts settled peers while there are more than places for them (rule 4).
    pub(crate) fn settle_guests(&mut self) {
        let most = self.inbound_places().saturating_sub(self.guests_max());
        loop {
            let settled = self.settled();
            if settled.len() <= most || !self.evict_one_of(&settled, eviction::choose) {
                return;
            }
        }
    }

    /// Evicts the one of these inbound peers that `choose` chooses. Returns false if it chooses
    /// none.
    fn evict_one_of(
        &mut self,
        inbound: &HashSet<PeerId>,
        choose: impl Fn(Vec<EvictionCandidate>, &RandomState) -> Option<PeerId>,
    ) -> bool {
        let Some(peer) = choose(self.table.candidates(inbound), &self.secret) else {
            return false;
        };
        self.table.set_leaving(peer);
        self.evicted.push_back(peer);
        true
    }

    /// Whether one more peer is allowed besides those connected. Inbound peers make room for a
    /// peer that the dialer chose.
    pub(super) fn check_total(&mut self, peer: PeerId) -> Result<(), GateRefusal> {
        let (inbound, chosen) = (self.table.inbound(), self.table.chosen());
        if chosen.contains(&peer) || inbound.contains(&peer) {
            return Ok(());
        }
        if chosen.len() >= self.limits.peers_max
            || (chosen.len() + inbound.len() >= self.limits.peers_max
                && !self.evict_one_of(&inbound, eviction::choose))
        {
            return Err(GateRefusal::OutboundFull);
        }
        Ok(())
    }

    /// Whether a dial may begin, and what it is for.
    pub(super) fn check_outbound_pending(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
    ) -> Result<ConnectionPurpose, GateRefusal> {
        if self.pending_outbound.len() >= PENDING_OUTBOUND_MAX {
            return Err(GateRefusal::OutboundFull);
        }
        if self.expected_dials.remove(&connection) {
            return Ok(ConnectionPurpose::Chosen);
        }
        let connected = peer.is_some_and(|peer| self.table.is_connected(&peer));
        let (purpose, most) = if connected {
            (ConnectionPurpose::Probe, PROBES_MAX)
        } else {
            (ConnectionPurpose::Lookup, LOOKUPS_MAX)
        };
        let pending = self.pending_outbound.values().copied();
        let all = self.table.purposes().chain(pending);
        if all.filter(|other| *other == purpose).count() >= most {
            return Err(GateRefusal::LookupsFull);
        }
        Ok(purpose)
    }

    /// Whether a dialled connection may stay.
    pub(super) fn check_outbound(
        &mut self,
        peer: PeerId,
        ip: Option<IpAddr>,
        purpose: ConnectionPurpose,
    ) -> Result<(), GateRefusal> {
        self.check_ban(Some(peer), ip)?;
        self.check_peer(peer)?;
        if self.table.is_leaving(&peer) {
            return Err(GateRefusal::OutboundFull);
        }
        if purpose == ConnectionPurpose::Chosen {
            self.check_total(peer)?;
        }
        Ok(())
    }
}
