//! The kernel `sha-avx512`: all rounds with the SHA instructions, all message schedules
//! with AVX-512.
//!
//! It is for processors with a fast SHA unit. AMD's Zen 4 begins a pair of rounds in every
//! cycle. There, the SHA instructions for schedules would hold the rounds up; vectors make
//! sixteen schedules in half the time.
//!
//! The kernel is a pipeline with three stages for sixteen nonces in one version: the first
//! hash, the schedules of the second hash, the second hash. A *step* runs all three
//! stages, each on another group. The step that begins new nonces also makes the schedules
//! of the first hash of the nonces after them. `build/` writes the code of a step as one
//! straight line.

use std::arch::x86_64::_mm512_setzero_si512;
use std::mem::offset_of;

use super::Hit;
use super::avx512::Sixteen;
use super::frame::processor_kernel;
use super::generated::{CONSTANTS, generated_asm};
use super::job::{Job, MessageSchedule, Midstate, NonceGroup};
use super::lanes::Lanes as _;
use super::sha256::{IV, abef_cdgh};

/// The number of nonces that a stage works on.
const WIDTH: u32 = 16;

processor_kernel! {
    /// The SHA instructions for rounds, AVX-512 for message schedules.
    ShaAvx512, "sha-avx512", ["avx512f", "avx512bw", "sha", "sse4.1"], scan
}

/// Sums of a round's constant and word, for two rounds at a time. The first vector has
/// them for lanes 0, 1, 4, 5, 8, 9, 12 and 13, the second for the other lanes.
type Sums = [[Sixteen; 2]; 32];

/// The values of sixteen nonces that are the same for all versions.
#[repr(C, align(64))]
struct Nonces {
    sums: Sums,
    words: Sixteen,
}

/// The values of sixteen nonces in one version, at any of the three stages.
#[repr(C, align(64))]
struct ShaLanes {
    /// Sums of the second hash.
    sums: Sums,
    /// Half of the state after the first hash. 64 bytes hold that of lanes 0, 4, 8 and
    /// 12, the next 64 bytes that of lanes 1, 5, 9 and 13, and so on.
    abef: [Sixteen; 4],
    /// The other half.
    cdgh: [Sixteen; 4],
    /// `e` after round 60 of the second hash.
    last: Sixteen,
}

/// The values that are the same for all nonces and versions of a job.
#[repr(C, align(64))]
struct JobWords {
    /// Sums of rounds 0 to 17.
    sums: [u32; 18],
    /// The part of words 18 to 33 that does not depend on the nonce.
    rest: [u32; 16],
}

impl JobWords {
    fn new(schedule: &MessageSchedule) -> Self {
        let mut rest = [0; 16];
        rest[..2].copy_from_slice(&[schedule.w18, schedule.w19]);
        rest[2..].copy_from_slice(&schedule.rest);
        Self {
            sums: schedule.kw,
            rest,
        }
    }
}

/// The values that depend on the version.
#[repr(C, align(64))]
struct VersionState {
    /// State after rounds 0 to 3, in the order of the SHA instructions.
    after_four: [u32; 8],
    /// State after the header's first 64 bytes.
    midstate: [u32; 8],
}

impl VersionState {
    fn new(midstate: &Midstate) -> Self {
        Self {
            after_four: abef_cdgh(midstate.after_four),
            midstate: midstate.state,
        }
    }
}

/// `build/rounds.rs` and `build/schedules.rs` rely on these offsets.
const _: () = {
    assert!(offset_of!(Nonces, sums) == 0 && offset_of!(Nonces, words) == 4_096);
    assert!(offset_of!(ShaLanes, sums) == 0 && offset_of!(ShaLanes, abef) == 4_096);
    assert!(offset_of!(ShaLanes, cdgh) == 4_352 && offset_of!(ShaLanes, last) == 4_608);
    assert!(offset_of!(JobWords, sums) == 0 && offset_of!(JobWords, rest) == 72);
    assert!(offset_of!(VersionState, after_four) == 0);
    assert!(offset_of!(VersionState, midstate) == 32);
};

/// Sixteen nonces in one version, on their way through the pipeline.
#[derive(Clone, Copy)]
struct Item {
    /// Index of the version in the job.
    version: usize,
    nonces: NonceGroup,
}

/// The state of the pipeline: all that steps read and write.
struct Pipeline<'a> {
    job: &'a Job,
    versions: &'a [VersionState],
    words: JobWords,
    /// The present nonces and, in the other place, the next ones.
    nonces: [Nonces; 2],
    /// The place of the present nonces.
    now: usize,
    /// One group at each stage.
    lanes: [ShaLanes; 3],
    /// Which of them is at the first hash.
    turn: usize,
    /// The items of the last three steps, the newest first. The oldest item is done. It
    /// is confirmed one step late, when its last words have reached the cache.
    under_way: [Option<Item>; 3],
    /// Room for the last sixteen words of schedules.
    window: [Sixteen; 16],
}

/// Scans as [`Kernel::scan`](super::Kernel::scan) does.
///
/// # Safety
/// The processor must have the instructions.
#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
unsafe fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let versions: Vec<VersionState> = job.midstates().iter().map(VersionState::new).collect();
    if versions.is_empty() || count == 0 {
        return;
    }
    let mut pipeline = Pipeline::new(job, &versions);
    // The first step makes nothing but the schedules of the first nonces.
    pipeline.put_next_nonces(start);
    pipeline.push(None, true, hits);
    let mut done = 0;
    while done < count {
        pipeline.now = 1 - pipeline.now;
        let (first, left) = (start.wrapping_add(done), count - done);
        pipeline.put_next_nonces(first.wrapping_add(WIDTH));
        for (version, midstate) in job.midstates().iter().enumerate() {
            let nonces = NonceGroup {
                version: midstate.version,
                first,
                count: left,
            };
            pipeline.push(Some(Item { version, nonces }), version == 0, hits);
        }
        done = done.saturating_add(WIDTH);
    }
    while pipeline.under_way.iter().any(Option::is_some) {
        pipeline.push(None, false, hits);
    }
}

impl<'a> Pipeline<'a> {
    #[target_feature(enable = "avx512f")]
    fn new(job: &'a Job, versions: &'a [VersionState]) -> Self {
        let zero = Sixteen(_mm512_setzero_si512());
        let sums = [[zero; 2]; 32];
        let nonces = || Nonces { sums, words: zero };
        let lanes = || ShaLanes {
            sums,
            abef: [zero; 4],
            cdgh: [zero; 4],
            last: zero,
        };
        Self {
            job,
            versions,
            words: JobWords::new(job.schedule()),
            nonces: [nonces(), nonces()],
            now: 0,
            lanes: [lanes(), lanes(), lanes()],
            turn: 0,
            under_way: [None; 3],
            window: [zero; 16],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn put_next_nonces(&mut self, first: u32) {
        // SAFETY: the processor has the features of this function.
        self.nonces[1 - self.now].words = unsafe { Sixteen::nonces(first) };
    }

    /// Runs one step: `item` enters the pipeline, or nothing does, and the item that
    /// entered three steps ago leaves it. With `fresh` the step also makes the schedules
    /// of the next nonces.
    #[inline(always)]
    fn push(&mut self, item: Option<Item>, fresh: bool, hits: &mut Vec<Hit>) {
        self.turn = (self.turn + 1) % 3;
        let [before, middle, done] = self.under_way;
        let version = item.map_or(0, |item| item.version);
        let midstate = before.map_or(0, |item| item.version);
        // SAFETY: a pipeline exists only in `scan`, on a processor with the features, and
        // this function is inlined there.
        unsafe {
            if fresh {
                self.step::<true>(version, midstate);
            } else {
                self.step::<false>(version, midstate);
            }
            if let Some(done) = done {
                self.confirm(done, hits);
            }
        }
        self.under_way = [item, before, middle];
    }

    /// Confirms the nonces of an item that is done. Its lanes are at the next item's first
    /// hash already, which leaves their last words unchanged.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn confirm(&self, done: Item, hits: &mut Vec<Hit>) {
        // SAFETY: the processor has the features of this function.
        let found = unsafe {
            let last = self.lanes[self.turn].last.add(Sixteen::splat(IV[7]));
            last.at_most_reversed(Sixteen::splat(self.job.target_top()))
        };
        done.nonces.confirm_lanes(self.job, found, hits);
    }

    /// All three stages. `version` is the index of the version at the first hash,
    /// `midstate` that of the version whose digests get their schedules.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
    fn step<const FRESH: bool>(&mut self, version: usize, midstate: usize) {
        let [even, odd] = &mut self.nonces;
        let (now, next) = match self.now {
            0 => (even, odd),
            _ => (odd, even),
        };
        let [a, b, c] = &mut self.lanes;
        let (first, second, third) = match self.turn {
            0 => (a, c, b),
            1 => (b, a, c),
            _ => (c, b, a),
        };
        macro_rules! code {
            ($file:literal $(, $next:ident)?) => {
                generated_asm!(
                    $file,
                    k = in(reg) std::ptr::from_ref(&CONSTANTS),
                    job = in(reg) std::ptr::from_ref(&self.words),
                    version = in(reg) std::ptr::from_ref(&self.versions[version].after_four),
                    midstate = in(reg) std::ptr::from_ref(&self.versions[midstate].midstate),
                    now = in(reg) std::ptr::from_ref(now),
                    first = in(reg) std::ptr::from_mut(first),
                    second = in(reg) std::ptr::from_mut(second),
                    third = in(reg) std::ptr::from_mut(third),
                    w = in(reg) self.window.as_mut_ptr(),
                    $($next = in(reg) std::ptr::from_mut($next),)?
                )
            };
        }
        // SAFETY: the code reads the constants, the job's words, the two states of the
        // versions, `now` and, at the offsets asserted above, `next` and the lanes. It
        // writes `next`, the lanes and the sixteen places of the window. All of them are
        // as large and as aligned as their types say, and no two overlap. It uses no
        // register but the operands and the vector registers, and no stack.
        unsafe {
            if FRESH {
                code!("/sha_avx512_fresh.s", next);
            } else {
                code!("/sha_avx512.s");
            }
        }
    }
}
