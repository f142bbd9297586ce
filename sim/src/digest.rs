//! One number for all that happened: two runs with the same digest handled the
//! same events in the same order with the same effects.

use pithead_consensus::{Encode as _, SignedApproval};
use pithead_core::node::{Effect, Event};
use pithead_core::sync::{Gossip, PeerEffect, PeerEvent, Request, Response, Verdict};
use sha2::{Digest as _, Sha256};

/// The digest so far.
pub(crate) struct Digest {
    hasher: Sha256,
    pub(crate) events: u64,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            events: 0,
        }
    }

    fn take(&mut self, kind: u8, a: u64, b: u64, content: &[u8]) {
        let mut bytes = [0; 17];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&a.to_le_bytes());
        bytes[9..].copy_from_slice(&b.to_le_bytes());
        self.hasher.update(bytes);
        self.hasher.update(content);
    }

    pub(crate) fn event(&mut self, now_us: u64, index: usize, event: &Event) {
        self.events += 1;
        self.take(0, now_us, index as u64, &[]);
        match event {
            Event::Tick => self.take(1, 0, 0, &[]),
            Event::Continue => self.take(2, 0, 0, &[]),
            Event::FreshTemplate => self.take(3, 0, 0, &[]),
            Event::Block(block) => self.take(4, 0, 0, &block.header.hash().0),
            Event::Transaction(transaction) => self.take(5, 0, 0, &transaction.leaf_hash().0),
            Event::Peer(PeerEvent::Connected { peer, inbound }) => {
                self.take(6, peer.0, u64::from(*inbound), &[]);
            }
            Event::Peer(PeerEvent::Disconnected { peer }) => self.take(7, peer.0, 0, &[]),
            Event::Peer(PeerEvent::Status { peer, status }) => {
                self.take(34, peer.0, status.height.0, &status.best_hash.0);
            }
            Event::Peer(PeerEvent::Offended { peer, offence }) => {
                self.take(35, peer.0, u64::from(offence.points()), &[]);
            }
            Event::Peer(PeerEvent::Gossip { peer, id, gossip }) => {
                self.take(8, peer.0, id.0, &[]);
                self.gossip(gossip);
            }
            Event::Peer(PeerEvent::Response { peer, id, response }) => match response {
                Ok(response) => {
                    self.take(9, peer.0, id.0, &[]);
                    self.response(response);
                }
                Err(failure) => self.take(10, peer.0, id.0, &[*failure as u8]),
            },
        }
    }

    fn gossip(&mut self, gossip: &Gossip) {
        match gossip {
            Gossip::Block(header) => self.take(11, 0, 0, &header.hash().0),
            Gossip::Transaction(transaction) => self.take(12, 0, 0, &transaction.leaf_hash().0),
            Gossip::Approval(signed) => self.approval(signed),
        }
    }

    /// With its signature: the simulation's pens draw their salts from the message.
    fn approval(&mut self, signed: &SignedApproval) {
        self.take(31, 0, 0, &signed.encode());
    }

    fn response(&mut self, response: &Response) {
        match response {
            Response::Status(status) => self.take(13, status.height.0, 0, &status.best_hash.0),
            Response::Headers(headers) => {
                let last = headers.last().map_or([0; 32], |header| header.hash().0);
                self.take(14, headers.len() as u64, 0, &last);
            }
            Response::Blocks(blocks) => {
                self.take(15, blocks.len() as u64, 0, &[]);
                for block in blocks {
                    self.hasher.update(block.header.hash().0);
                    self.hasher.update(block.commitment.state_root.0);
                }
            }
            Response::Transactions(transactions) => {
                self.take(16, transactions.len() as u64, 0, &[]);
                for transaction in transactions {
                    self.hasher.update(transaction.leaf_hash().0);
                }
            }
            Response::Mempool(txids) => {
                self.take(17, txids.len() as u64, 0, &[]);
                for txid in txids {
                    self.hasher.update(txid.0);
                }
            }
            Response::Approvals(approvals) => {
                self.take(18, approvals.len() as u64, 0, &[]);
                approvals.iter().for_each(|each| self.approval(each));
            }
            Response::Certificates(certificates) => {
                self.take(19, certificates.len() as u64, 0, &[]);
                for certificate in certificates {
                    self.hasher.update(certificate.encode());
                }
            }
        }
    }

    pub(crate) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::TipChanged { tip, disconnected } => {
                self.take(20, tip.height.0, *disconnected as u64, &tip.hash().0);
                self.hasher.update(tip.outcome.state_root.0);
            }
            Effect::NewTemplate(template) => self.take(21, template.id, 0, &template.parent.0),
            Effect::Pending(_) => self.take(22, 0, 0, &[]),
            Effect::Fatal(reason) => self.take(23, 0, 0, reason.as_bytes()),
            Effect::Peer(PeerEffect::Request { peer, id, request }) => {
                self.take(24, peer.0, id.0, &[]);
                self.request(request);
            }
            Effect::Peer(PeerEffect::Verdict { peer, id, verdict }) => {
                let kind = match verdict {
                    Verdict::Accept => 0,
                    Verdict::Ignore => 1,
                    Verdict::Reject => 2,
                };
                self.take(25, peer.0, id.0, &[kind]);
            }
            Effect::Peer(PeerEffect::Publish(gossip)) => {
                self.take(26, 0, 0, &[]);
                self.gossip(gossip);
            }
            Effect::Peer(PeerEffect::BlockValidated(block)) => self.take(27, 0, 0, &block.hash().0),
            Effect::Peer(PeerEffect::Disconnect { peer, reason, ban }) => {
                self.take(28, peer.0, u64::from(*ban), reason.to_string().as_bytes());
            }
            Effect::Peer(PeerEffect::Scored { peer, points }) => {
                self.take(29, peer.0, u64::from(*points), &[])
            }
            Effect::SyncChanged(status) => {
                let height = status.best_header_height.0;
                self.take(30, height, u64::from(status.syncing), &[]);
            }
            Effect::FinalityMoved(status) => {
                let (approved, last_final) = (status.approved, status.last_final);
                self.take(32, approved.height.0, last_final.height.0, &approved.hash.0);
                self.hasher.update(last_final.hash.0);
            }
            Effect::ApprovalsChanged => self.take(33, 0, 0, &[]),
        }
    }

    fn request(&mut self, request: &Request) {
        let bytes = request.encode();
        self.hasher.update(bytes);
    }

    /// The digest as text.
    pub(crate) fn text(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}
