//! What is done twice a second: dial, let go, look around, and now and then write
//! the files.

use super::book::provider_of;
use super::dialer::Present;
use super::swarm::Shell;

/// How often files are written, if there is anything new.
const SAVE_INTERVAL_MS: u64 = 30_000;
/// A peer has so long to show that it is on our network.
const ADMISSION_MS: u64 = 10_000;
/// Connections that a protocol opened on its own last so long, unless they are
/// adopted.
const UNWANTED_MS: u64 = 20_000;
/// Outbound peers that are dialled first after a restart.
const ANCHORS_MAX: usize = 4;

impl Shell {
    pub(super) fn tick(&mut self) {
        let now_ms = self.now_ms();
        let present = self.peers.present();
        for dial in self.dialer.due(now_ms, &present) {
            self.dial(dial);
        }
        self.look_around(now_ms, &present);
        self.let_go(now_ms, present);
        if now_ms.saturating_sub(self.saved_ms) >= SAVE_INTERVAL_MS {
            self.saved_ms = now_ms;
            tokio::spawn(self.save());
        }
    }

    /// Closes connections that nobody has use for: to peers that do not show that
    /// they are on our network, and those that a protocol opened on its own, unless
    /// the dialer would have chosen the same.
    fn let_go(&mut self, now_ms: u64, mut present: Present) {
        let mut adopted = Vec::new();
        let mut idle = Vec::new();
        for (id, peer) in self.peers.iter() {
            let age_ms = now_ms.saturating_sub(peer.since_ms);
            if peer.key.is_none() && age_ms >= ADMISSION_MS {
                idle.push(*id);
            } else if peer.is_unwanted() && age_ms >= UNWANTED_MS {
                let provider = peer.link().and_then(|link| provider_of(&link.address));
                let taken = provider.is_some_and(|one| !present.providers.insert(one));
                let full = present.outbound.len() >= self.dialer.outbound_target();
                if taken || full {
                    idle.push(*id);
                } else {
                    present.outbound.insert(*id);
                    adopted.push(*id);
                }
            }
        }
        for id in adopted {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.links.iter_mut().for_each(|link| link.wanted = true);
            }
        }
        for id in idle {
            self.disconnect(&id);
        }
    }

    /// What writes the files, where blocking is allowed.
    pub(super) fn save(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let mut outbound: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.key.is_some() && !peer.is_inbound())
            .map(|(id, peer)| (peer.since_ms, *id))
            .collect();
        outbound.sort_unstable();
        // With nobody there, those of the last time are still the best guess.
        if !outbound.is_empty() {
            let longest = outbound.iter().take(ANCHORS_MAX).map(|(_, id)| *id);
            self.dialer.book.set_anchors(&longest.collect::<Vec<_>>());
        }
        let book = self.dialer.book.unsaved();
        let bans = self.swarm.behaviour_mut().gate.bans().unsaved();
        async move {
            let write = tokio::task::spawn_blocking(move || {
                if let Some(book) = book {
                    book();
                }
                if let Some(bans) = bans {
                    bans();
                }
            });
            // Failures are logged where they happen.
            let _ = write.await;
        }
    }
}
