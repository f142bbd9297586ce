//! What a test sees of the members: tips, pending payments, finality, and which member holds
//! something against which.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use pithead_consensus::{BlockHash, Txid};
use pithead_core::node::Node;
use pithead_core::sync::{Offence, Verdict};

use super::network::World;

impl World {
    pub fn node(&self, index: usize) -> &Node {
        self.members[index].node.as_ref().unwrap()
    }

    pub fn tip(&self, index: usize) -> BlockHash {
        self.node(index).chain().tip().hash()
    }

    pub fn height(&self, index: usize) -> u64 {
        self.node(index).chain().tip().height.0
    }

    /// The highest approved and the highest final height at a member.
    pub fn secured(&self, index: usize) -> (u64, u64) {
        let state = self.node(index).finality().read().unwrap();
        let status = state.status();
        (status.approved.height.0, status.last_final.height.0)
    }

    pub fn has_pending(&self, index: usize, txid: &Txid) -> bool {
        let mempool = self.node(index).mempool();
        let mempool = mempool.read().unwrap_or_else(PoisonError::into_inner);
        mempool.get(txid).is_some()
    }

    /// Whether two members are connected.
    pub fn are_connected(&self, a: usize, b: usize) -> bool {
        let mut links = self.members[a].links.values();
        links.any(|(other, _)| *other == b)
    }

    /// For each penalty that one of these members reported: that member, and the one it blames.
    pub fn blamed_by(&self, members: std::ops::Range<usize>) -> Vec<(usize, usize)> {
        let mut blamed = Vec::new();
        for by in members {
            let scored = self.members[by].scored.iter().map(|(who, _)| *who);
            blamed.extend(scored.map(|who| (by, who)));
        }
        blamed
    }

    /// All members that another one penalised or dropped.
    pub fn blamed(&self) -> BTreeSet<usize> {
        let scored = self.members.iter().flat_map(|member| &member.scored);
        let dropped = self.members.iter().flat_map(|member| &member.dropped);
        scored
            .map(|(who, _)| *who)
            .chain(dropped.map(|(who, ..)| *who))
            .collect()
    }

    /// Whether one member banned another, and why.
    pub fn ban(&self, by: usize, who: usize) -> Option<Offence> {
        let mut dropped = self.members[by].dropped.iter();
        dropped
            .find(|(other, _, ban)| *other == who && *ban)
            .map(|(_, reason, _)| *reason)
    }

    /// The verdicts that one member gave on what another gossiped.
    pub fn verdicts_on(&self, by: usize, who: usize) -> Vec<Verdict> {
        let verdicts = self.members[by].verdicts.iter();
        verdicts
            .filter(|(other, _)| *other == who)
            .map(|(_, verdict)| *verdict)
            .collect()
    }
}
