//! Which processors the workers run on.
//!
//! A core with hyper-threads shows as several processors that share its
//! arithmetic: two workers there gain little over one. The order here takes one
//! processor of every core first, and their siblings only then.

use std::collections::BTreeMap;

/// The processors that this process may use, in the order in which workers
/// should take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processors {
    order: Vec<usize>,
    cores: usize,
}

impl Processors {
    /// Those of this machine, as far as the system tells: on Linux with their
    /// cores, elsewhere each as a core of its own.
    #[must_use]
    pub fn of_this_process() -> Self {
        let allowed = allowed();
        Self::in_order(allowed.into_iter().map(|id| (id, core_of(id))))
    }

    /// Orders processors given with their cores; processors of an unknown core
    /// count as cores of their own.
    fn in_order(processors: impl IntoIterator<Item = (usize, Option<Core>)>) -> Self {
        let mut places = Vec::new();
        let mut taken: BTreeMap<Core, usize> = BTreeMap::new();
        let mut unknown = 0;
        for (id, core) in processors {
            let turn = match core {
                Some(core) => {
                    let turn = taken.entry(core).or_default();
                    *turn += 1;
                    *turn - 1
                }
                None => {
                    unknown += 1;
                    0
                }
            };
            places.push((turn, id));
        }
        places.sort_unstable();
        Self {
            order: places.into_iter().map(|(_, id)| id).collect(),
            cores: taken.len() + unknown,
        }
    }

    /// How many processors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// How many cores they belong to.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The processor of a worker; with more workers than processors they share.
    #[must_use]
    pub fn of_worker(&self, worker: usize) -> Option<usize> {
        self.order.get(worker % self.order.len().max(1)).copied()
    }
}

/// A core, by the first of the processors on it: numbers of cores are unique
/// within a cluster only on some machines.
type Core = u32;

#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|id| set.is_set(*id)).collect(),
        Err(_) => all_there_are(),
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    all_there_are()
}

fn all_there_are() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (0..count).collect()
}

fn core_of(processor: usize) -> Option<Core> {
    let folder = format!("/sys/devices/system/cpu/cpu{processor}/topology");
    // The second is the older name of the first.
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|file| std::fs::read_to_string(format!("{folder}/{file}")).ok())
        .and_then(|list| first_of(&list))
}

/// The first number of a list as Linux writes it: `0-1`, `3,11`.
fn first_of(list: &str) -> Option<u32> {
    list.trim().split(['-', ',']).next()?.parse().ok()
}

/// Keeps the calling thread on one processor. A hint to the system: a refusal
/// costs nothing but speed.
pub fn pin_this_thread(processor: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        if processor < CpuSet::MAX_CPU {
            set.set(processor);
            if let Err(error) = sched_setaffinity(None, &set) {
                tracing::warn!("can't keep a mining thread on processor {processor}: {error}");
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}

/// Sets the calling thread's niceness, 0 to 19: mining yields to everything else
/// on the machine, since the node that is to judge a block must not wait for
/// those who look for the next one. If the system refuses, mining goes on as it
/// is.
pub fn set_niceness(nice: i32) {
    // On Linux this is the priority of the calling thread alone.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, nice);
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_is_taken_before_any_sibling() {
        // Two packages of two cores with two threads each, numbered as Linux
        // often does: the siblings come last.
        let threads = (0..8).map(|id| (id, Some(id as u32 % 4)));
        let processors = Processors::in_order(threads);
        assert_eq!(processors.order, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((processors.count(), processors.cores()), (8, 4));
        // And as it does elsewhere: siblings side by side.
        let threads = (0..8).map(|id| (id, Some(id as u32 / 2 * 2)));
        let processors = Processors::in_order(threads);
        assert_eq!(processors.order, [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(processors.cores(), 4);
        assert_eq!(processors.of_worker(3), Some(6));
        assert_eq!(processors.of_worker(8), Some(0));
    }

    #[test]
    fn a_core_is_known_by_the_first_of_its_processors() {
        for (list, first) in [
            ("0-1\n", Some(0)),
            ("3,11\n", Some(3)),
            ("7\n", Some(7)),
            ("\n", None),
            ("broken", None),
        ] {
            assert_eq!(first_of(list), first, "{list}");
        }
    }

    #[test]
    fn without_a_topology_every_processor_is_a_core() {
        let processors = Processors::in_order([(3, None), (5, None)]);
        assert_eq!(processors.order, [3, 5]);
        assert_eq!(processors.cores(), 2);
        assert_eq!(Processors::in_order([]).of_worker(0), None);
    }

    #[test]
    fn this_machine_has_as_many_processors_as_it_says() {
        let processors = Processors::of_this_process();
        assert!(processors.count() >= 1 && processors.cores() <= processors.count());
    }
}
