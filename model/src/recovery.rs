//! What honest validators and miners make of a state once messages arrive. Start reading at
//! [`Network::recovers`].

use crate::network::{GROUPS_MAX, Network, State};
use crate::votes::Record;

impl Network {
    /// Whether finality goes on from a state, whichever `silent` validators stay silent. All others
    /// vote honestly from now on, also those that were late or away, and each block is found on
    /// the followed chain.
    #[must_use]
    pub fn recovers(&self, state: &State, silent: usize) -> bool {
        let sizes: Vec<usize> = self.groups.iter().map(|group| group.size).collect();
        each_choice(&sizes, silent)
            .iter()
            .all(|silent| self.goes_on(state, silent))
    }

    /// How many validators can't vote on the followed chain because of their votes elsewhere.
    #[must_use]
    pub fn stranded(&self, state: &State) -> usize {
        let records = self.records(state);
        let standing = self.standing(&records);
        let approved = standing.approved_on(&self.tree, self.tip(state));
        standing.stranded(&self.tree, &records, self.tree.height(approved))
    }

    fn final_height(&self, records: &[(usize, Record)]) -> u8 {
        let standing = self.standing(records);
        standing.finals_height(&self.tree)
    }

    fn goes_on(&self, state: &State, silent: &[usize]) -> bool {
        let mut state = *state;
        let mut active = state.records;
        let sizes = || self.groups.iter().map(|group| group.size).zip(silent);
        let all = |state: &State, active: &[Record; GROUPS_MAX]| -> Vec<(usize, Record)> {
            let waiting = sizes()
                .zip(state.records)
                .map(|((_, silent), record)| (*silent, record));
            let voting = sizes()
                .zip(active)
                .map(|((size, silent), record)| (size - silent, *record));
            waiting.chain(voting).collect()
        };
        let before = self.final_height(&all(&state, &active));
        loop {
            let records = all(&state, &active);
            let standing = self.standing(&records);
            if standing.finals_height(&self.tree) > before {
                return true;
            }
            let know = self.knowledge(&standing, &records);
            let ends = self.ends(&state);
            let best = self.rule.choose(&know, &ends);
            if best != ends[0] {
                state.followed = u8::try_from(self.tree.branch_of(best)).unwrap_or(0);
            }
            let mut voted = false;
            let votes = State {
                records: active,
                ..state
            };
            for (group, record) in active.iter_mut().enumerate().take(self.groups.len()) {
                if let Some(link) = self.honest_vote(&votes, &know, group) {
                    *record = record.with(link);
                    voted = true;
                }
            }
            if voted {
                continue;
            }
            let followed = usize::from(state.followed);
            if state.tips[followed] == self.tree.top() {
                return false;
            }
            state.tips[followed] += 1;
        }
    }
}

/// Every way to take so many from groups of these sizes.
fn each_choice(sizes: &[usize], taken: usize) -> Vec<Vec<usize>> {
    let Some((first, rest)) = sizes.split_first() else {
        return if taken == 0 {
            vec![Vec::new()]
        } else {
            Vec::new()
        };
    };
    let with_first = |count: usize| {
        let others = each_choice(rest, taken - count);
        others
            .into_iter()
            .map(move |others| [vec![count], others].concat())
    };
    (0..=taken.min(*first)).flat_map(with_first).collect()
}
