//! False claims of lying nodes about finality: votes with broken signatures or by no
//! validator, certificates that do not hold, and checkpoints that were never approved.
//!
//! No key of a validator is used here; a lying validator can do more (see `validators`).
//! Start reading at [`distort`].

use std::sync::Arc;

use pithead_consensus::{
    Address, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Height, SignedApproval,
};
use pithead_core::sync::{Gossip, Response, Status};

use crate::nodes::gossip::GossipMessage;
use crate::nodes::sim_node::finality_of;
use crate::rng::SimRng;
use crate::world::Simulation;

/// The most spoilt votes that a node sends at once.
const FLOOD_MAX: usize = 32;
/// How far above the real heights a false claim is, blocks.
const CLAIM_BLOCKS: u64 = 1_000;

/// What a lying node makes of a response about finality; `None` if it leaves the response
/// as it is, as it does with all other responses.
pub(crate) fn distort(rng: &mut SimRng, honest: &Response) -> Option<Response> {
    match honest {
        Response::Status(status) => Some(Response::Status(false_status(rng, *status))),
        Response::Approvals(approvals) if !approvals.is_empty() => {
            let spoilt = approvals.iter().map(|signed| spoil_vote(rng, signed));
            Some(Response::Approvals(spoilt.collect()))
        }
        Response::Certificates(certificates) if !certificates.is_empty() => {
            let mut certificates = certificates.clone();
            match rng.below(5) {
                // Without the first one, a peer can't tell what the second builds on.
                0 => drop(certificates.remove(0)),
                1 => certificates.reverse(),
                2 => certificates.clear(),
                // One at a time, a peer would need very long to catch up.
                3 => certificates.truncate(1),
                _ => {
                    let number = rng.below(certificates.len());
                    let spoilt = spoil_certificate(&certificates[number])?;
                    certificates[number] = spoilt;
                }
            }
            Some(Response::Certificates(certificates))
        }
        _ => None,
    }
}

/// A status that claims a checkpoint that was never approved: at the tip, just above the
/// approved one, or far above the tip.
fn false_status(rng: &mut SimRng, mut status: Status) -> Status {
    let height = match rng.below(3) {
        0 => status.height.0,
        1 => status.height.0.min(status.approved.height.0 + 1),
        _ => status.height.0 + CLAIM_BLOCKS,
    };
    status.height.0 = status.height.0.max(height);
    status.approved = Checkpoint {
        height: Height(height),
        hash: BlockHash([0xab; 32]),
    };
    status
}

/// A vote that its validator never cast.
fn spoil_vote(rng: &mut SimRng, signed: &SignedApproval) -> SignedApproval {
    let mut signed = signed.clone();
    match rng.below(4) {
        0 => signed.approval.validator = Address([7; 32]),
        1 => signed.approval.link.target.height.0 += CLAIM_BLOCKS,
        2 => signed.approval.link.target.hash = BlockHash([0xcd; 32]),
        _ => signed.signature.0[0] ^= 1,
    }
    signed
}

/// The certificate with its last signature broken.
fn spoil_certificate(certificate: &Certificate) -> Option<Certificate> {
    let mut bytes = certificate.encode();
    *bytes.last_mut()? ^= 1;
    Certificate::decode(&bytes).ok()
}

impl Simulation {
    /// Lets a lying node gossip many votes that were never cast.
    pub(crate) fn flood_with_votes(&mut self, index: usize) {
        let Some(core) = &self.nodes[index].core else {
            return;
        };
        let votes = finality_of(core).approvals_above(Height(0), FLOOD_MAX);
        for signed in &votes {
            let spoilt = spoil_vote(&mut self.rng.liars, signed);
            let message = Arc::new(GossipMessage::new(Gossip::Approval(Box::new(spoilt))));
            self.forward(index, &message, None);
        }
    }
}
