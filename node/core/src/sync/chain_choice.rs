//! Which branch to follow: the best one that some peer has the blocks of, first by the
//! certificates and votes, then by work (protocol §8).

use pithead_consensus::{BlockHash, Work};

use super::SyncState;
use super::branch_finality::BranchRank;
use super::headers::HeaderNode;
use super::node_view::NodeView;
use super::peer_events::PeerKey;
use crate::store::StoreError;

/// How far headers run ahead of the stored chain. More are asked for once blocks have
/// followed.
pub(super) const HEADERS_AHEAD_MAX: u64 = 50_000;

impl SyncState {
    /// Drops headers of branches that no peer shows any more and that no search is for.
    pub(super) fn collect_headers(&mut self) {
        if self.headers.is_due_for_collection() {
            let claimed = self
                .peers
                .values()
                .filter_map(|state| state.chain.best_known());
            let searched = self.searches.hashes();
            self.headers.collect(claimed.chain(searched));
        }
    }

    /// Aims the download at the best branch that is better than our own chain, if there is
    /// one.
    pub(super) fn choose_target(&mut self, view: &NodeView<'_>) -> Result<(), StoreError> {
        loop {
            let target = self.best_branch(view)?;
            if self.download.aim(view, &self.headers, target)? {
                return Ok(());
            }
            // The node can't switch to that branch: look for another.
        }
    }

    /// The best branch that a peer shows, or that a search is for, and that beats our own
    /// chain.
    fn best_branch(&mut self, view: &NodeView<'_>) -> Result<Option<BlockHash>, StoreError> {
        let present = self.headers.branch_rank(view, &view.tip.hash())?;
        self.note_certified_chain(view, present);
        let mut best = None;
        let mut most = (present, view.tip.chain_work);
        let claims: Vec<(PeerKey, BlockHash, HeaderNode)> = self
            .peers
            .iter()
            .filter_map(|(peer, state)| {
                let hash = state.chain.best_known()?;
                // A peer that did not give the end of its branch must not keep the node from one
                // with as much work.
                if state.blocks.has_failed(&hash) {
                    return None;
                }
                Some((*peer, hash, *self.headers.get(&hash)?))
            })
            .collect();
        for (peer, hash, node) in claims {
            // A branch with too little work has to wait, but not for ever: once its headers
            // are as far ahead as they may be, no more are asked for before its blocks come.
            let ahead = node.height.0.saturating_sub(view.tip.height.0);
            let enough =
                node.chain_work >= self.settings.minimum_chain_work || ahead > HEADERS_AHEAD_MAX;
            let finality = self.claimed_branch_rank(view, peer, &hash)?;
            let rank = (finality, node.chain_work);
            let better =
                rank > most || (rank == most && best.is_some() && self.download.aims_at(&hash));
            if enough && better && !self.download.is_unreachable(&hash) {
                best = Some(hash);
                most = rank;
            }
        }
        self.best_searched(view, best, most)
    }

    /// Prefers a block that is searched for if it is better than `best`. A block that no peer
    /// shows to have comes last, since it must not displace an equal one that some peer has.
    fn best_searched(
        &self,
        view: &NodeView<'_>,
        mut best: Option<BlockHash>,
        mut most: (BranchRank, Work),
    ) -> Result<Option<BlockHash>, StoreError> {
        for hash in self.searches.hashes() {
            let Some(node) = self.headers.get(&hash).copied() else {
                continue;
            };
            let rank = (self.headers.branch_rank(view, &hash)?, node.chain_work);
            if rank > most && !self.download.is_unreachable(&hash) {
                best = Some(hash);
                most = rank;
            }
        }
        Ok(best)
    }

    /// Notices when our best chain lacks a final block, is not votable or loses to the chain of the
    /// approved checkpoint. The right chain may then be one that had too little work to be of
    /// interest, so all peers are asked for headers.
    fn note_certified_chain(&mut self, view: &NodeView<'_>, present: BranchRank) {
        let full = BranchRank {
            final_height: view.finality.status().last_final.height,
            votable: true,
            may_keep_ground: true,
        };
        let is_off = view.checkpoint.is_some() && present != full;
        let was_off = std::mem::replace(&mut self.off_certified_chain, is_off);
        if is_off && !was_off {
            for state in self.peers.values_mut() {
                state.headers.want();
            }
        }
    }

    fn claimed_branch_rank(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        hash: &BlockHash,
    ) -> Result<BranchRank, StoreError> {
        if view.checkpoint.is_none() {
            return Ok(BranchRank::default());
        }
        let basis = self.headers.finality_basis(view, hash)?;
        let state = self.peers.get(&peer);
        if let Some(found) = state.and_then(|state| state.branch_finality.get(&basis)) {
            return Ok(BranchRank::of(view, &found));
        }
        let found = self.headers.chain_finality(view, hash)?;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.branch_finality.put(basis, found);
        }
        Ok(BranchRank::of(view, &found))
    }
}
