//! A set with a limit: what peers put into it can't grow without bound.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// A set of at most `max` members. A new member pushes the oldest one out.
#[derive(Debug)]
pub(super) struct BoundedSet<T> {
    members: HashSet<T>,
    /// The members, oldest first.
    order: VecDeque<T>,
    max: usize,
}

impl<T: Copy + Eq + Hash> BoundedSet<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            members: HashSet::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(super) fn insert(&mut self, member: T) {
        if !self.members.insert(member) {
            return;
        }
        self.order.push_back(member);
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.members.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }

    pub(super) fn clear(&mut self) {
        self.members.clear();
        self.order.clear();
    }
}
