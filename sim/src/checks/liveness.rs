//! Checks that finality moves on (protocol §9): where enough validators are honest, the
//! final blocks follow the tip.
//!
//! `run` calls these at the end, when all trouble is over. Start reading at
//! [`Simulation::first_lagging_node`].

use crate::model::vote_rules;
use crate::nodes::sim_node::finality_status;
use crate::nodes::vote_journal::SimVoteJournal;
use crate::world::Simulation;

/// How many checkpoints the approved and the final block may be behind the tip when there
/// is no trouble: each approved checkpoint makes the one before it final.
pub(crate) const LAG_CHECKPOINTS_MAX: u64 = 3;

impl Simulation {
    /// Whether enough validators vote for finality to move on, whatever the others do.
    pub(crate) fn must_finalise(&self) -> bool {
        let settings = &self.settings;
        settings.validators > 0
            && settings.validators - settings.without_own_votes() >= settings.quorum()
            && (settings.silent == 0 || settings.silence_secs.1 <= settings.secs)
    }

    /// The height of the highest vote of an honest validator. Below it, rule 1 may bind
    /// honest validators to different branches. Above it, all of them can vote for the
    /// same checkpoint.
    pub(crate) fn highest_vote(&self) -> u64 {
        let honest = self.nodes.iter().skip(self.settings.equivocators);
        let journals = honest.filter_map(|node| node.journal.as_ref());
        let targets = journals.map(SimVoteJournal::highest_target);
        targets.max().unwrap_or(0)
    }

    /// The first honest node whose approved or final block is more than `checkpoints`
    /// checkpoints behind its tip, with a text that says so. A node that has met a
    /// conflict of certificates does not count.
    pub(crate) fn first_lagging_node(&self, checkpoints: u64) -> Option<(usize, String)> {
        let most = checkpoints * u64::from(self.settings.checkpoint_interval);
        (0..self.nodes.len()).find_map(|index| {
            let node = &self.nodes[index];
            let core = node.core.as_ref().filter(|_| node.is_honest())?;
            let status = finality_status(core);
            let tip = core.chain().tip().height.0;
            let (approved, last_final) = (status.approved.height.0, status.last_final.height.0);
            let behind = tip.saturating_sub(approved.min(last_final));
            let what = format!(
                "at height {tip} only {approved} is approved and {last_final} final, more than {most} blocks behind"
            );
            (behind > most && !status.conflict).then_some((index, what))
        })
    }

    /// The state of each running node, one node a line, for the text of a violation.
    pub(crate) fn describe_nodes(&self) -> String {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter_map(|(index, node)| {
                let core = node.core.as_ref()?;
                let status = finality_status(core);
                let (tip, height) = node.tip()?;
                let votes = node.journal.as_ref().map(SimVoteJournal::read_back);
                let last = votes.and_then(|votes| votes.last().map(vote_rules::describe_vote));
                Some(format!(
                    "\n  node {index}: tip {height}/{}, approved {}/{}, final {}, last vote {}, votes: {}, catching up: {}",
                    hex::encode(&tip.0[..4]),
                    status.approved.height,
                    hex::encode(&status.approved.hash.0[..4]),
                    status.last_final.height,
                    last.unwrap_or_default(),
                    core.voter().is_some(),
                    node.syncing,
                ))
            })
            .collect()
    }
}
