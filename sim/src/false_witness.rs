//! Nodes that lie about finality, as no validator does: votes with broken
//! signatures or by nobody, certificates that do not hold, and checkpoints that
//! nobody has approved.

use std::sync::Arc;

use pithead_consensus::{
    Address, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Height, SignedApproval,
};
use pithead_core::sync::{Gossip, Response};

use crate::dice::Dice;
use crate::finality::state_of;
use crate::member::Message;
use crate::world::Simulation;

/// Approvals told in one go.
const FLOOD: usize = 32;
/// How far above its own a liar says that checkpoints are approved, blocks.
const BOAST_BLOCKS: u64 = 1_000;

/// What a liar makes of an answer about finality; `None`: of any other answer, it
/// leaves it as it is.
pub(crate) fn twist(dice: &mut Dice, honest: &Response) -> Option<Response> {
    match honest {
        Response::Status(status) => {
            let mut status = *status;
            // At its tip, just above what is approved, or high up with all the rest.
            let height = match dice.below(3) {
                0 => status.height.0,
                1 => status.height.0.min(status.approved.height.0 + 1),
                _ => status.height.0 + BOAST_BLOCKS,
            };
            status.height.0 = status.height.0.max(height);
            status.approved = Checkpoint {
                height: Height(height),
                hash: BlockHash([0xab; 32]),
            };
            Some(Response::Status(status))
        }
        Response::Approvals(approvals) if !approvals.is_empty() => {
            let spoilt = approvals.iter().map(|signed| spoil(dice, signed)).collect();
            Some(Response::Approvals(spoilt))
        }
        Response::Certificates(certificates) if !certificates.is_empty() => {
            let mut certificates = certificates.clone();
            match dice.below(5) {
                // The first is missing: nobody can tell what its follower builds on.
                0 => drop(certificates.remove(0)),
                1 => certificates.reverse(),
                2 => certificates.clear(),
                // One by one it would take for ever.
                3 => certificates.truncate(1),
                _ => {
                    let number = dice.below(certificates.len());
                    let forged = forge(&certificates[number])?;
                    certificates[number] = forged;
                }
            }
            Some(Response::Certificates(certificates))
        }
        _ => None,
    }
}

/// A vote that its validator never cast.
fn spoil(dice: &mut Dice, signed: &SignedApproval) -> SignedApproval {
    let mut signed = signed.clone();
    match dice.below(4) {
        0 => signed.approval.validator = Address([7; 32]),
        1 => signed.approval.link.target.height.0 += BOAST_BLOCKS,
        2 => signed.approval.link.target.hash = BlockHash([0xcd; 32]),
        _ => signed.signature.0[0] ^= 1,
    }
    signed
}

/// A certificate with one signature that does not hold.
fn forge(certificate: &Certificate) -> Option<Certificate> {
    let mut bytes = certificate.encode();
    *bytes.last_mut()? ^= 1;
    Certificate::decode(&bytes).ok()
}

impl Simulation {
    /// A liar tells its peers of votes that nobody cast, one after the other.
    pub(crate) fn flood_with_votes(&mut self, index: usize) {
        let Some(node) = &self.members[index].node else {
            return;
        };
        let at_hand = state_of(node).approvals_above(Height(0), FLOOD);
        for signed in &at_hand {
            let spoilt = spoil(&mut self.dice.liars, signed);
            let message = Arc::new(Message::new(Gossip::Approval(Box::new(spoilt))));
            self.spread(index, &message, None);
        }
    }
}
