//! Visits every state that a network can reach, breadth first, and judges each. The first fault of
//! a kind is therefore also one of the shortest. Start reading at [`explore`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::network::{Move, Network, Reorganisation, State};

/// What to look for in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    /// Whether finality goes on from it. This costs most of the time.
    pub recovery: bool,
    /// Give up after so many states.
    pub states_max: usize,
}

/// What a visit to all states found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// How many states were visited.
    pub states: usize,
    /// How many moves were made.
    pub moves: usize,
    /// Whether every reachable state was visited.
    pub complete: bool,
    /// The deepest reorganisation that votes caused, with the way there.
    pub deepest_by_votes: Option<(Reorganisation, Vec<String>)>,
    /// The deepest that votes caused to a chain without more work than the one left.
    pub deepest_without_gain: Option<(Reorganisation, Vec<String>)>,
    /// The deepest that a block caused to a chain without more work than the one left.
    pub deepest_by_block_without_gain: Option<(Reorganisation, Vec<String>)>,
    /// The way to two final checkpoints on different chains.
    pub conflict: Option<Vec<String>>,
    /// The way to a state in which finality stops for good.
    pub standstill: Option<Vec<String>>,
    /// How many states have nobody stranded, and how many of them stop with all those silent
    /// without whom a quorum is left.
    pub unstranded: (usize, usize),
}

impl Findings {
    /// The depth of the deepest reorganisation that votes caused.
    #[must_use]
    pub fn depth_by_votes(&self) -> u8 {
        self.deepest_by_votes
            .as_ref()
            .map_or(0, |(found, _)| found.depth)
    }

    /// The depth of the deepest that votes caused to a chain without more work.
    #[must_use]
    pub fn depth_without_gain(&self) -> u8 {
        self.deepest_without_gain
            .as_ref()
            .map_or(0, |(found, _)| found.depth)
    }
}

/// Multiplies and rotates: fast, and good enough against collisions that nobody seeks.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

struct Visits {
    states: Vec<State>,
    /// How each state was reached: from which one, and by which move.
    ways: Vec<(usize, Option<Move>)>,
    known: HashMap<State, (), BuildHasherDefault<Mix>>,
}

impl Visits {
    fn take(&mut self, state: State, from: usize, step: Option<Move>) {
        if self.known.insert(state, ()).is_none() {
            self.states.push(state);
            self.ways.push((from, step));
        }
    }

    /// The moves to a state, in words.
    fn way(&self, network: &Network, mut at: usize) -> Vec<String> {
        let mut told = Vec::new();
        while let (from, Some(step)) = self.ways[at] {
            let state = &self.states[at];
            let tip = network.tree.name(network.tip(state));
            told.push(format!("{}; all follow {tip}", network.tell(step)));
            at = from;
        }
        told.reverse();
        told
    }

    /// Keeps the way to a reorganisation if it is the deepest of its kind.
    fn keep(
        &self,
        network: &Network,
        (from, step, to): (usize, Move, &State),
        found: Reorganisation,
        place: &mut Option<(Reorganisation, Vec<String>)>,
    ) {
        if place
            .as_ref()
            .is_some_and(|(known, _)| known.depth >= found.depth)
        {
            return;
        }
        let mut way = self.way(network, from);
        let tip = network.tree.name(network.tip(to));
        let depth = found.depth;
        way.push(format!(
            "{}; all follow {tip}, {depth} blocks undone",
            network.tell(step)
        ));
        *place = Some((found, way));
    }
}

/// Visits every state that can be reached from `start`.
#[must_use]
pub fn explore(network: &Network, start: State, questions: Questions) -> Findings {
    let mut findings = Findings::default();
    let mut visits = Visits {
        states: Vec::new(),
        ways: Vec::new(),
        known: HashMap::default(),
    };
    visits.take(start, 0, None);
    let mut at = 0;
    while at < visits.states.len() && at < questions.states_max {
        let state = visits.states[at];
        judge(network, &state, questions, &visits, at, &mut findings);
        for step in network.moves(&state) {
            let (next, reorganisation) = network.after(&state, step);
            findings.moves += 1;
            if let Some(found) = reorganisation {
                let edge = (at, step, &next);
                if found.by_votes {
                    visits.keep(network, edge, found, &mut findings.deepest_by_votes);
                }
                if !found.gains_work {
                    let place = if found.by_votes {
                        &mut findings.deepest_without_gain
                    } else {
                        &mut findings.deepest_by_block_without_gain
                    };
                    visits.keep(network, edge, found, place);
                }
            }
            visits.take(next, at, Some(step));
        }
        at += 1;
    }
    findings.states = at;
    findings.complete = at == visits.states.len();
    findings
}

fn judge(
    network: &Network,
    state: &State,
    questions: Questions,
    visits: &Visits,
    at: usize,
    findings: &mut Findings,
) {
    let standing = network.standing(&network.records(state));
    if findings.conflict.is_none() && standing.finals_conflict(&network.tree) {
        findings.conflict = Some(visits.way(network, at));
    }
    if !questions.recovery {
        return;
    }
    let validators = network.validators;
    let stranded_max = validators.stranded_max();
    if findings.standstill.is_none()
        && !(0..=stranded_max).all(|silent| network.recovers(state, silent))
    {
        findings.standstill = Some(visits.way(network, at));
    }
    if network.stranded(state) == 0 {
        findings.unstranded.0 += 1;
        let silent = validators.count - validators.quorum;
        findings.unstranded.1 += usize::from(!network.recovers(state, silent));
    }
}
