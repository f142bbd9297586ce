//! The digest of a run: a hash over everything that happened.
//!
//! Two runs with the same digest handled the same events in the same order with the same
//! effects. What the nodes do must never depend on it. Start reading at
//! [`RunDigest::event`].

use pithead_consensus::{Encode as _, SignedApproval};
use pithead_core::node::{Effect, Event};
use pithead_core::sync::{Gossip, PeerEffect, PeerEvent, Request, Response, Verdict};
use sha2::{Digest as _, Sha256};

/// The digest of the run so far.
///
/// Every entry begins with a number for its kind. The numbers have no other meaning and
/// must not change: a changed number changes the digests of all runs.
pub(crate) struct RunDigest {
    hasher: Sha256,
    /// How many events the cores have handled.
    pub(crate) events: u64,
}

impl RunDigest {
    pub(crate) fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            events: 0,
        }
    }

    fn entry(&mut self, kind: u8, a: u64, b: u64, content: &[u8]) {
        let mut bytes = [0; 17];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&a.to_le_bytes());
        bytes[9..].copy_from_slice(&b.to_le_bytes());
        self.hasher.update(bytes);
        self.hasher.update(content);
    }

    /// Adds an event that is handed to the core of a node.
    pub(crate) fn event(&mut self, now_us: u64, index: usize, event: &Event) {
        self.events += 1;
        self.entry(0, now_us, index as u64, &[]);
        match event {
            Event::Peer(event) => self.peer_event(event),
            Event::Tick => self.entry(1, 0, 0, &[]),
            Event::Continue => self.entry(2, 0, 0, &[]),
            Event::FreshTemplate => self.entry(3, 0, 0, &[]),
            Event::Block(block) => self.entry(4, 0, 0, &block.header.hash().0),
            Event::Transaction(transaction) => self.entry(5, 0, 0, &transaction.leaf_hash().0),
        }
    }

    fn peer_event(&mut self, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { peer, inbound } => {
                self.entry(6, peer.0, u64::from(*inbound), &[]);
            }
            PeerEvent::Disconnected { peer } => self.entry(7, peer.0, 0, &[]),
            PeerEvent::Status { peer, status } => {
                self.entry(34, peer.0, status.height.0, &status.best_hash.0);
            }
            PeerEvent::Offended { peer, offence } => {
                self.entry(35, peer.0, u64::from(offence.points()), &[]);
            }
            PeerEvent::Gossip { peer, id, gossip } => {
                self.entry(8, peer.0, id.0, &[]);
                self.gossip(gossip);
            }
            PeerEvent::Response { peer, id, response } => match response {
                Ok(response) => {
                    self.entry(9, peer.0, id.0, &[]);
                    self.response(response);
                }
                Err(failure) => self.entry(10, peer.0, id.0, &[*failure as u8]),
            },
        }
    }

    fn gossip(&mut self, gossip: &Gossip) {
        match gossip {
            Gossip::Block(header) => self.entry(11, 0, 0, &header.hash().0),
            Gossip::Transaction(transaction) => self.entry(12, 0, 0, &transaction.leaf_hash().0),
            Gossip::Approval(signed) => self.approval(signed),
        }
    }

    /// Includes the signature. It is the same in every run, since the salts of the
    /// simulation's signers follow from the message.
    fn approval(&mut self, signed: &SignedApproval) {
        self.entry(31, 0, 0, &signed.encode());
    }

    fn response(&mut self, response: &Response) {
        match response {
            Response::Status(status) => self.entry(13, status.height.0, 0, &status.best_hash.0),
            Response::Headers(headers) => {
                let last = headers.last().map_or([0; 32], |header| header.hash().0);
                self.entry(14, headers.len() as u64, 0, &last);
            }
            Response::Blocks(blocks) => {
                self.entry(15, blocks.len() as u64, 0, &[]);
                for block in blocks {
                    self.hasher.update(block.header.hash().0);
                    self.hasher.update(block.commitment.state_root.0);
                }
            }
            Response::Transactions(transactions) => {
                self.entry(16, transactions.len() as u64, 0, &[]);
                for transaction in transactions {
                    self.hasher.update(transaction.leaf_hash().0);
                }
            }
            Response::Mempool(txids) => {
                self.entry(17, txids.len() as u64, 0, &[]);
                for txid in txids {
                    self.hasher.update(txid.0);
                }
            }
            Response::Approvals(approvals) => {
                self.entry(18, approvals.len() as u64, 0, &[]);
                approvals.iter().for_each(|each| self.approval(each));
            }
            Response::Certificates(certificates) => {
                self.entry(19, certificates.len() as u64, 0, &[]);
                for certificate in certificates {
                    self.hasher.update(certificate.encode());
                }
            }
        }
    }

    /// Adds an effect of the core that handled the last event.
    pub(crate) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::TipChanged { tip, disconnected } => {
                self.entry(20, tip.height.0, *disconnected as u64, &tip.hash().0);
                self.hasher.update(tip.outcome.state_root.0);
            }
            Effect::NewTemplate(template) => self.entry(21, template.id, 0, &template.parent.0),
            Effect::Pending(_) => self.entry(22, 0, 0, &[]),
            Effect::Fatal(reason) => self.entry(23, 0, 0, reason.as_bytes()),
            Effect::Peer(PeerEffect::Request { peer, id, request }) => {
                self.entry(24, peer.0, id.0, &[]);
                self.request(request);
            }
            Effect::Peer(PeerEffect::Verdict { peer, id, verdict }) => {
                let kind = match verdict {
                    Verdict::Accept => 0,
                    Verdict::Ignore => 1,
                    Verdict::Reject => 2,
                };
                self.entry(25, peer.0, id.0, &[kind]);
            }
            Effect::Peer(PeerEffect::Publish(gossip)) => {
                self.entry(26, 0, 0, &[]);
                self.gossip(gossip);
            }
            Effect::Peer(PeerEffect::BlockValidated(block)) => {
                self.entry(27, 0, 0, &block.hash().0)
            }
            Effect::Peer(PeerEffect::Disconnect { peer, reason, ban }) => {
                self.entry(28, peer.0, u64::from(*ban), reason.to_string().as_bytes());
            }
            Effect::Peer(PeerEffect::Scored { peer, points }) => {
                self.entry(29, peer.0, u64::from(*points), &[])
            }
            Effect::SyncChanged(status) => {
                let height = status.best_header_height.0;
                self.entry(30, height, u64::from(status.syncing), &[]);
            }
            Effect::FinalityMoved(status) => {
                let (approved, last_final) = (status.approved, status.last_final);
                self.entry(32, approved.height.0, last_final.height.0, &approved.hash.0);
                self.hasher.update(last_final.hash.0);
            }
            Effect::ApprovalsChanged => self.entry(33, 0, 0, &[]),
        }
    }

    fn request(&mut self, request: &Request) {
        self.hasher.update(request.encode());
    }

    /// The digest in hexadecimal.
    pub(crate) fn text(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}
