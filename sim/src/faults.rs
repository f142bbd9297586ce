//! Crashes and splits.

use pithead_consensus::BlockHash;

use crate::geography::REGION_COUNT;
use crate::world::{Happening, SECOND_US, Simulation, Violation};

/// Seconds that a crashed node stays down, at least and at most.
const DOWN_SECS: (f64, f64) = (5.0, 300.0);
/// Seconds until the others notice.
const NOTICED_SECS: (f64, f64) = (0.05, 5.0);
/// Seconds until pings show that the other side is gone.
const PING_SECS: (f64, f64) = (5.0, 35.0);

impl Simulation {
    pub(crate) fn schedule_crash(&mut self, index: usize) {
        let mean = self.weather.crash_secs;
        if mean.is_finite() {
            let wait = self.dice.faults.exponential(mean);
            self.after((wait * 1e6) as u64, Happening::Crash(index));
        }
    }

    /// Ends a node in the midst of its last commit.
    pub(crate) fn crash(&mut self, index: usize) -> Result<(), Violation> {
        if !self.stirred || self.members[index].node.is_none() {
            return Ok(());
        }
        self.crash_now(index)
    }

    pub(crate) fn crash_now(&mut self, index: usize) -> Result<(), Violation> {
        self.measure.crashes += 1;
        if let Some(record) = &self.members[index].record {
            record.crash(self.settings.plant);
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
        let crashed = member.store.crash();
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

    /// Splits the network by regions: about half of the nodes on each side.
    pub(crate) fn split(&mut self) {
        if !self.stirred {
            return;
        }
        let mut regions: Vec<u8> = vec![0; REGION_COUNT];
        for side in &mut regions {
            *side = u8::from(self.dice.faults.happens(0.5));
        }
        // A split with one side empty is none.
        let sides = |world: &Self, regions: &[u8]| -> Vec<u8> {
            let members = world.members.iter();
            members.map(|member| regions[member.place.region]).collect()
        };
        let mut side = sides(self, &regions);
        if side.iter().all(|one| *one == side[0]) {
            for one in side.iter_mut().step_by(2) {
                *one = 1 - *one;
            }
        }
        self.side = side;
        self.whole_since_us = None;
        self.measure.splits += 1;
        for index in 0..self.members.len() {
            let across: Vec<_> = self.members[index]
                .links
                .iter()
                .filter(|(_, link)| !self.reaches(index, link.other))
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
        self.whole_since_us = Some(self.now_us.max(SECOND_US));
        self.watch.healed(self.now_us);
    }
}
