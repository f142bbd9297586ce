//! Chooses the processor and the niceness of each worker.
//!
//! A core with hyper-threads shows as several processors that share its arithmetic.
//! Two workers on one core gain little over one worker, so workers take one processor
//! of every core first, and the sibling processors after that.

use std::collections::BTreeMap;

/// How a run uses this machine.
#[derive(Debug, Clone)]
pub struct MachineUse {
    /// The number of mining threads.
    pub threads: usize,
    /// The name of the kernel; `None`: the fastest one here.
    pub kernel: Option<String>,
    /// The processors to pin the threads to; `None`: the system places them.
    pub pinned: Option<Processors>,
}

/// The processors that this process may use, in the order in which workers take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processors {
    order: Vec<usize>,
    cores: usize,
}

impl Processors {
    /// Asks the system. Linux also says which core each processor belongs to; on other
    /// systems each processor counts as one core.
    #[must_use]
    pub fn of_this_process() -> Self {
        let allowed = allowed();
        Self::in_order(allowed.into_iter().map(|id| (id, core_of(id))))
    }

    /// Orders processors that are given with their cores. A processor without a known
    /// core counts as one core.
    ///
    /// Example: processors 0 and 1 share core 0, processors 2 and 3 share core 2. The
    /// order is 0, 2, 1, 3.
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

    /// How many processors there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// How many cores the processors belong to.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The processor of a worker. If there are more workers than processors, several
    /// workers share one.
    #[must_use]
    pub fn of_worker(&self, worker: usize) -> Option<usize> {
        self.order.get(worker % self.order.len().max(1)).copied()
    }
}

/// A core, named by the lowest number among its processors. The system's own core
/// numbers would not do: on some machines they repeat from one cluster to the next.
type Core = u32;

#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|id| set.is_set(*id)).collect(),
        Err(_) => count_from_zero(),
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    count_from_zero()
}

fn count_from_zero() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (0..count).collect()
}

fn core_of(processor: usize) -> Option<Core> {
    let folder = format!("/sys/devices/system/cpu/cpu{processor}/topology");
    // `thread_siblings_list` is the older name of `core_cpus_list`.
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|file| std::fs::read_to_string(format!("{folder}/{file}")).ok())
        .and_then(|list| first_of(&list))
}

/// The first number of a list in Linux's form, such as `0-1` or `3,11`.
fn first_of(list: &str) -> Option<u32> {
    list.trim().split(['-', ',']).next()?.parse().ok()
}

/// Keeps the calling thread on one processor. If the system refuses, the thread runs
/// anywhere and is only slower.
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

/// Sets the calling thread's niceness, 0 to 19.
///
/// Mining yields to everything else on the machine: a node there has to judge a found
/// block while the workers search for the next one. If the system refuses, the thread
/// keeps its niceness.
pub fn set_niceness(nice: i32) {
    // On Linux this call changes the calling thread alone, not the process.
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
        // Two packages of two cores with two threads each. Linux often numbers the
        // siblings after all cores.
        let threads = (0..8).map(|id| (id, Some(id as u32 % 4)));
        let processors = Processors::in_order(threads);
        assert_eq!(processors.order, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((processors.count(), processors.cores()), (8, 4));
        // On other machines siblings have neighbouring numbers.
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
