//! Splits of the network into parts that do not reach each other.
//!
//! A split follows the regions of `geography`: all nodes of a region are in one part.
//! Start reading at [`Simulation::split`].

use std::collections::BTreeSet;

use crate::events::{SECOND_US, SimEvent};
use crate::nodes::geography::REGION_COUNT;
use crate::world::Simulation;

/// Seconds until a node's pings show that a peer no longer answers, at least and at most.
const PING_SECS: (f64, f64) = (5.0, 35.0);
/// Part of the long splits that let messages through in one direction.
const ONE_WAY_PART: f64 = 0.25;

impl Simulation {
    /// Whether what one node sends reaches another.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.partition_of[from], self.partition_of[to]);
        from == to || (self.one_way && from > to)
    }

    /// Whether two nodes reach each other, so that they can hold a connection.
    pub(crate) fn reach_each_other(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// The parts of the network that have nodes, in order; one part if it is whole.
    pub(crate) fn partitions(&self) -> Vec<u8> {
        let partitions: BTreeSet<u8> = self.partition_of.iter().copied().collect();
        partitions.into_iter().collect()
    }

    /// Splits the network. Each region goes to a random part of two; in a long split
    /// sometimes of three.
    pub(crate) fn split(&mut self) {
        if !self.trouble {
            return;
        }
        self.partition_of = self.draw_partitions();
        self.whole_since_us = None;
        self.counters.splits += 1;
        for index in 0..self.nodes.len() {
            let cut: Vec<_> = self.nodes[index]
                .connections
                .iter()
                .filter(|(_, end)| !self.reach_each_other(index, end.other))
                .map(|(key, _)| *key)
                .collect();
            for key in cut {
                let noticed = self.rng.faults.between(PING_SECS.0, PING_SECS.1);
                self.after_secs(noticed, SimEvent::ConnectionLost(index, key));
            }
        }
    }

    /// Draws the part of each node, and whether the split is open in one direction.
    fn draw_partitions(&mut self) -> Vec<u8> {
        let mut parts = 2;
        if self.settings.long_splits {
            parts += self.rng.faults.below(2);
            self.one_way = self.rng.faults.happens(ONE_WAY_PART);
        }
        let mut of_region = [0; REGION_COUNT];
        for part in &mut of_region {
            *part = self.rng.faults.below(parts) as u8;
        }
        let nodes = self.nodes.iter();
        let mut of_node: Vec<u8> = nodes.map(|node| of_region[node.location.region]).collect();
        // If all nodes came into one part, every second node goes to another.
        if of_node.iter().all(|part| *part == of_node[0]) {
            for part in of_node.iter_mut().step_by(2) {
                *part = u8::from(*part == 0);
            }
        }
        of_node
    }

    /// Makes the network whole again.
    pub(crate) fn heal(&mut self) {
        if self.whole_since_us.is_some() {
            return;
        }
        self.partition_of.fill(0);
        self.one_way = false;
        self.whole_since_us = Some(self.now_us.max(SECOND_US));
        self.progress.reset_after_split();
    }
}
