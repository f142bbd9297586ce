//! Crashes and splits.

use pithead_consensus::BlockHash;

use crate::geography::REGION_COUNT;
use crate::schedule::Happening;
use crate::store::Doom;
use crate::world::{SECOND_US, Simulation, Violation};

/// Seconds that a crashed node stays down, at least and at most.
const DOWN_SECS: (f64, f64) = (5.0, 300.0);
/// Seconds until the others notice.
const NOTICED_SECS: (f64, f64) = (0.05, 5.0);
/// Seconds until pings show that the other side is gone.
const PING_SECS: (f64, f64) = (5.0, 35.0);
/// Part of the long splits that let messages through in one direction.
const ONE_WAY_PART: f64 = 0.25;

impl Simulation {
    pub(crate) fn schedule_crash(&mut self, index: usize) {
        let mean = self.weather.crash_secs;
        if mean.is_finite() {
            let wait = self.dice.faults.exponential(mean);
            self.members[index].crash_number += 1;
            let number = self.members[index].crash_number;
            self.after((wait * 1e6) as u64, Happening::Crash(index, number));
        }
    }

    /// Ends a node: between two events, in the midst of its next commit, or after
    /// that and before it can tell anybody.
    pub(crate) fn crash(&mut self, index: usize, number: u64) -> Result<(), Violation> {
        let member = &self.members[index];
        if !self.stirred || member.node.is_none() || member.crash_number != number {
            return Ok(());
        }
        match self.dice.faults.below(3) {
            0 => return self.crash_now(index),
            1 => member.store.doom(Some(Doom::Within)),
            _ => member.store.doom(Some(Doom::After)),
        }
        Ok(())
    }

    pub(crate) fn crash_now(&mut self, index: usize) -> Result<(), Violation> {
        self.measure.crashes += 1;
        if let Some(record) = &self.members[index].record {
            record.crash();
        }
        let links = std::mem::take(&mut self.members[index].links);
        for link in links.values() {
            let noticed = self.dice.faults.between(NOTICED_SECS.0, NOTICED_SECS.1);
            let lost = Happening::Lost(link.other, link.other_key);
            self.after((noticed * 1e6) as u64, lost);
        }
        let member = &mut self.members[index];
        member.node = None;
        member.judged.clear();
        let crashed = member.store.crash(&mut self.dice.faults);
        crashed.map_err(|error| self.storage_failed(index, &error))?;
        let down = self.dice.faults.between(DOWN_SECS.0, DOWN_SECS.1);
        self.after((down * 1e6) as u64, Happening::Restart(index));
        Ok(())
    }

    /// Starts a node again on what the crash has left.
    pub(crate) fn restart(&mut self, index: usize) -> Result<(), Violation> {
        if self.members[index].node.is_some() {
            return Ok(());
        }
        self.start(index)?;
        let tip = self.members[index].tip().map(|(hash, _)| hash);
        if let Some(tip) = tip.filter(|hash| *hash != self.genesis.params.genesis_hash) {
            self.check_tip_known(index, &tip)?;
            let entry = self.members[index].node.as_ref();
            if let Some(entry) = entry.map(|node| node.chain().tip().clone())
                && self.members[index].is_honest()
            {
                let judged = self.ledger.judge(&entry);
                judged.map_err(|what| self.violation(Some(index), what))?;
            }
        }
        self.check_stand(index)?;
        self.schedule_crash(index);
        self.schedule_solution(index);
        Ok(())
    }

    fn check_tip_known(&self, index: usize, tip: &BlockHash) -> Result<(), Violation> {
        if self.ledger.get(tip).is_none() {
            return Err(self.violation(Some(index), "it starts on a tip that nobody found"));
        }
        Ok(())
    }

    /// The parts of the network; one if it is whole.
    pub(crate) fn sides(&self) -> Vec<u8> {
        let sides: std::collections::BTreeSet<u8> = self.side.iter().copied().collect();
        sides.into_iter().collect()
    }

    /// Splits the network by regions: about half of the nodes on each side.
    pub(crate) fn split(&mut self) {
        if !self.stirred {
            return;
        }
        let mut regions: Vec<u8> = vec![0; REGION_COUNT];
        let mut parts = 2;
        if self.settings.long_splits {
            parts += self.dice.faults.below(2);
            self.one_way = self.dice.faults.happens(ONE_WAY_PART);
        }
        for side in &mut regions {
            *side = self.dice.faults.below(parts) as u8;
        }
        // A split with one side empty is none.
        let sides = |world: &Self, regions: &[u8]| -> Vec<u8> {
            let members = world.members.iter();
            members.map(|member| regions[member.place.region]).collect()
        };
        let mut side = sides(self, &regions);
        if side.iter().all(|one| *one == side[0]) {
            for one in side.iter_mut().step_by(2) {
                *one = u8::from(*one == 0);
            }
        }
        self.side = side;
        self.whole_since_us = None;
        self.measure.splits += 1;
        for index in 0..self.members.len() {
            let across: Vec<_> = self.members[index]
                .links
                .iter()
                .filter(|(_, link)| !self.hear_each_other(index, link.other))
                .map(|(key, _)| *key)
                .collect();
            for key in across {
                let noticed = self.dice.faults.between(PING_SECS.0, PING_SECS.1);
                self.after((noticed * 1e6) as u64, Happening::Lost(index, key));
            }
        }
    }

    /// Makes the network whole again.
    pub(crate) fn heal(&mut self) {
        if self.whole_since_us.is_some() {
            return;
        }
        self.side.fill(0);
        self.one_way = false;
        self.whole_since_us = Some(self.now_us.max(SECOND_US));
        self.watch.healed();
    }
}
