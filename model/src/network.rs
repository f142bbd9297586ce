//! A small network under an adversary: which blocks exist, who signed what, which chain is
//! followed, and what may happen next. Start reading at [`Network::moves`].
//!
//! All honest nodes that are online know the same blocks and votes. The adversary decides which
//! block is found next, which of the honest validators get to vote in time, and what the late
//! validators sign and when it arrives. A late validator breaks no provable rule and is free
//! otherwise. It therefore also does whatever an honest validator with slow messages can do.

use crate::rule::{Knowledge, Rule};
use crate::tree::{Block, Tree};
use crate::votes::{Record, Standing, Validators};

/// Most branches of a tree.
pub const BRANCHES_MAX: usize = 3;
/// Most groups of validators.
pub const GROUPS_MAX: usize = 5;

/// How the validators of a group behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// They vote for the last checkpoint of the followed chain, if the adversary lets them.
    Honest,
    /// They vote for the last checkpoint of the followed chain as soon as they can.
    Prompt,
    /// They sign, late, what some honest validators signed and no rule forbids them.
    Delayed,
    /// They sign any link from an approved checkpoint that no rule forbids them.
    Late,
    /// They sign any link from an approved checkpoint, and break the rules.
    Offending,
    /// They sign nothing until messages arrive.
    Away,
}

/// Some validators that do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// How many they are.
    pub size: usize,
    /// What they do.
    pub conduct: Conduct,
}

/// Everything that does not change in a run.
#[derive(Debug, Clone)]
pub struct Network {
    /// The blocks that may exist.
    pub tree: Tree,
    /// The validators' numbers.
    pub validators: Validators,
    /// The validators.
    pub groups: Vec<Group>,
    /// The rule of fork choice.
    pub rule: Rule,
    /// The `K` of the rule.
    pub reorg_max: u8,
    /// No chain grows above this height while the adversary acts.
    pub top: u8,
    /// How many blocks may be found off the followed chain.
    pub off_best_max: u8,
}

/// One moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The height of each branch. A branch as high as its fork has no block of its own.
    pub tips: [u8; BRANCHES_MAX],
    /// The branch that honest nodes follow.
    pub followed: u8,
    /// How many blocks were found off the followed chain.
    pub off_best: u8,
    /// What each group signed. Equal groups are sorted.
    pub records: [Record; GROUPS_MAX],
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A block is found on a branch.
    Block(usize),
    /// A group signs the link with this number, and everyone gets the votes.
    Votes(usize, usize),
}

/// The nodes' change from one chain to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reorganisation {
    /// How many blocks are undone.
    pub depth: u8,
    /// Whether votes made the nodes change, and not a block.
    pub by_votes: bool,
    /// Whether the new chain has more work than the one that is left.
    pub gains_work: bool,
}

impl Network {
    /// The start: the genesis alone.
    #[must_use]
    pub fn start(&self) -> State {
        let mut tips = [0; BRANCHES_MAX];
        for (branch, tip) in tips.iter_mut().enumerate().take(self.tree.branches()) {
            *tip = self.tree.fork(branch).height;
        }
        tips[0] = 0;
        State {
            tips,
            followed: 0,
            off_best: 0,
            records: Default::default(),
        }
    }

    /// A moment at which every block exists and nothing is signed.
    #[must_use]
    pub fn full_grown(&self) -> State {
        let mut state = self.start();
        state.tips[..self.tree.branches()].fill(self.top);
        state
    }

    /// The validators' records, each with the number of validators that it stands for.
    #[must_use]
    pub fn records(&self, state: &State) -> Vec<(usize, Record)> {
        let sizes = self.groups.iter().map(|group| group.size);
        sizes.zip(state.records).collect()
    }

    /// The ends of the chains that exist; that of the followed one comes first.
    #[must_use]
    pub fn ends(&self, state: &State) -> Vec<Block> {
        let followed = usize::from(state.followed);
        let others = (0..self.tree.branches()).filter(|branch| {
            *branch != followed
                && (*branch == 0 || state.tips[*branch] > self.tree.fork(*branch).height)
        });
        let branches = std::iter::once(followed).chain(others);
        branches
            .map(|branch| self.tree.block(branch, state.tips[branch]))
            .collect()
    }

    /// The end of the followed chain.
    #[must_use]
    pub fn tip(&self, state: &State) -> Block {
        let followed = usize::from(state.followed);
        self.tree.block(followed, state.tips[followed])
    }

    /// What nodes know, for fork choice.
    #[must_use]
    pub fn knowledge<'a>(
        &'a self,
        standing: &'a Standing,
        records: &'a [(usize, Record)],
    ) -> Knowledge<'a> {
        Knowledge {
            tree: &self.tree,
            validators: self.validators,
            standing,
            records,
            reorg_max: self.reorg_max,
        }
    }

    /// What is approved and final.
    #[must_use]
    pub fn standing(&self, records: &[(usize, Record)]) -> Standing {
        Standing::of(&self.tree, self.validators.quorum, records)
    }

    /// Everything that the adversary may let happen.
    #[must_use]
    pub fn moves(&self, state: &State) -> Vec<Move> {
        let records = self.records(state);
        let standing = self.standing(&records);
        let know = self.knowledge(&standing, &records);
        let mut moves: Vec<Move> = self.possible_blocks(state).map(Move::Block).collect();
        for (number, group) in self.groups.iter().enumerate() {
            let twin_before = number > 0
                && self.groups[number - 1] == *group
                && state.records[number - 1] == state.records[number];
            if twin_before {
                continue;
            }
            let links = match group.conduct {
                Conduct::Honest => self.honest_vote(state, &know, number).into_iter().collect(),
                Conduct::Delayed | Conduct::Late | Conduct::Offending => {
                    self.free_votes(state, &know, number)
                }
                Conduct::Prompt | Conduct::Away => Vec::new(),
            };
            moves.extend(links.into_iter().map(|link| Move::Votes(number, link)));
        }
        moves
    }

    fn possible_blocks<'a>(&'a self, state: &'a State) -> impl Iterator<Item = usize> + 'a {
        (0..self.tree.branches()).filter(move |branch| {
            let fork = self.tree.fork(*branch);
            let has_room = state.tips[*branch] < self.top;
            let has_parent = *branch == 0 || state.tips[fork.from] >= fork.height;
            let is_followed = *branch == usize::from(state.followed);
            has_room && has_parent && (is_followed || state.off_best < self.off_best_max)
        })
    }

    /// The vote that an honest group casts now.
    #[must_use]
    pub fn honest_vote(&self, state: &State, know: &Knowledge<'_>, group: usize) -> Option<usize> {
        let tip = self.tip(state);
        let height = self.tree.height(tip) / self.tree.interval * self.tree.interval;
        let target = self.tree.block(usize::from(state.followed), height);
        let link = self.tree.link(self.rule.source(know, tip)?, target)?;
        state.records[group]
            .allows(&self.tree, link)
            .then_some(link)
    }

    /// The votes that a free group may cast to an effect: others may still make it a certificate,
    /// or the source counts for rule 2 of protocol §8. Any other vote can as well be cast later.
    fn free_votes(&self, state: &State, know: &Knowledge<'_>, group: usize) -> Vec<usize> {
        let tree = &self.tree;
        let offends = self.groups[group].conduct == Conduct::Offending;
        let follows_honest = self.groups[group].conduct == Conduct::Delayed;
        let record = state.records[group];
        let sources = record.signed.iter().map(|number| tree.links[number].source);
        let lead = sources.map(|source| tree.height(source)).max().unwrap_or(0);
        let approved_here = tree.height(know.standing.approved_on(tree, self.tip(state)));
        let exists = |block| tree.height(block) <= state.tips[tree.branch_of(block)];
        let useful = |number: &usize| {
            let link = tree.links[*number];
            (!follows_honest || self.honest_signed(state, *number))
                && exists(link.target)
                && know.standing.approved & (1 << link.source) != 0
                && !record.signed.has(*number)
                && (offends || record.allows(tree, *number))
                && if follows_honest {
                    let strands = tree.height(link.source) > approved_here.max(lead);
                    strands || self.completes(state, group, *number)
                } else {
                    tree.height(link.source) > lead || self.may_complete(state, *number)
                }
        };
        (0..tree.links.len()).filter(useful).collect()
    }

    fn honest_signed(&self, state: &State, link: usize) -> bool {
        self.groups
            .iter()
            .zip(state.records)
            .any(|(group, record)| {
                matches!(group.conduct, Conduct::Honest | Conduct::Prompt)
                    && record.signed.has(link)
            })
    }

    /// Whether the group's votes make a quorum with those that were cast.
    fn completes(&self, state: &State, group: usize, link: usize) -> bool {
        let cast = self
            .records(state)
            .into_iter()
            .filter(|(_, record)| record.signed.has(link));
        let cast: usize = cast.map(|(size, _)| size).sum();
        cast < self.validators.quorum && cast + self.groups[group].size >= self.validators.quorum
    }

    fn may_complete(&self, state: &State, link: usize) -> bool {
        let may_sign = |(group, record): &(&Group, Record)| match group.conduct {
            _ if record.signed.has(link) => true,
            Conduct::Delayed | Conduct::Late => record.allows(&self.tree, link),
            Conduct::Offending => true,
            Conduct::Honest | Conduct::Prompt | Conduct::Away => false,
        };
        let signers = self.groups.iter().zip(state.records).filter(may_sign);
        signers.map(|(group, _)| group.size).sum::<usize>() >= self.validators.quorum
    }

    /// What a move leads to, and the reorganisation that it causes.
    #[must_use]
    pub fn after(&self, state: &State, step: Move) -> (State, Option<Reorganisation>) {
        let mut next = *state;
        match step {
            Move::Block(branch) => {
                next.tips[branch] += 1;
                next.off_best += u8::from(branch != usize::from(state.followed));
            }
            Move::Votes(group, link) => next.records[group] = next.records[group].with(link),
        }
        let reorganisation = self.choose(&mut next, matches!(step, Move::Votes(..)));
        let by_prompt_votes = self.vote_promptly(&mut next);
        self.sort_equal_groups(&mut next);
        let reorganisation = reorganisation.max(by_prompt_votes);
        (next, reorganisation)
    }

    /// Lets the nodes choose their chain again.
    fn choose(&self, state: &mut State, by_votes: bool) -> Option<Reorganisation> {
        let records = self.records(state);
        let standing = self.standing(&records);
        let know = self.knowledge(&standing, &records);
        let ends = self.ends(state);
        let (before, best) = (ends[0], self.rule.choose(&know, &ends));
        // A branch without a block of its own has the end of another one.
        if best != before {
            state.followed = u8::try_from(self.tree.branch_of(best)).unwrap_or(0);
        }
        let depth = self.tree.height(before) - self.tree.common(before, best);
        let gains_work = self.tree.height(best) > self.tree.height(before);
        (depth > 0).then_some(Reorganisation {
            depth,
            by_votes,
            gains_work,
        })
    }

    /// The prompt validators vote, and choose again, until there is nothing to do.
    fn vote_promptly(&self, state: &mut State) -> Option<Reorganisation> {
        let mut deepest = None;
        let prompt = |number: &usize| self.groups[*number].conduct == Conduct::Prompt;
        for number in (0..self.groups.len()).filter(prompt) {
            loop {
                let records = self.records(state);
                let standing = self.standing(&records);
                let know = self.knowledge(&standing, &records);
                let Some(link) = self.honest_vote(state, &know, number) else {
                    break;
                };
                state.records[number] = state.records[number].with(link);
                deepest = deepest.max(self.choose(state, true));
            }
        }
        deepest
    }

    fn sort_equal_groups(&self, state: &mut State) {
        let mut start = 0;
        for end in 1..=self.groups.len() {
            if end == self.groups.len() || self.groups[end] != self.groups[start] {
                state.records[start..end].sort_unstable();
                start = end;
            }
        }
    }

    /// One move in words, as seen from the state before it.
    #[must_use]
    pub fn tell(&self, step: Move) -> String {
        match step {
            Move::Block(branch) => format!("a block on branch {}", ["A", "B", "C"][branch]),
            Move::Votes(group, link) => {
                let Group { size, conduct } = self.groups[group];
                let link = self.tree.links[link];
                let (source, target) = (self.tree.name(link.source), self.tree.name(link.target));
                format!("{size} {conduct:?} vote {source} -> {target}").to_lowercase()
            }
        }
    }
}
