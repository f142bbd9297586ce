//! Rounds by the SHA instructions, message schedules by AVX-512.
//!
//! Where the SHA unit is fast, as on AMD's Zen 4, which begins a pair of rounds
//! every cycle, its own instructions for the schedule are what holds it up: in
//! vectors, sixteen schedules take half the time. A *step* does the first hash
//! of sixteen nonces in one version, the schedules of the second hash of those
//! before them, and the second hash of those before these. In the first step of
//! sixteen nonces it also makes the schedules of the first hash of the next
//! sixteen. Its code is written by `build/`, as one straight line.

use std::arch::asm;
use std::arch::x86_64::_mm512_setzero_si512;
use std::mem::offset_of;

use super::avx512::Sixteen;
use super::constants::CONSTANTS;
use super::job::{Job, Midstate, Schedule};
use super::lanes::Lanes as _;
use super::sha256::IV;
use super::{Hit, Kernel};

/// Nonces of a step.
const WIDTH: u32 = 16;

/// The SHA instructions and AVX-512.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShaAvx512(());

impl ShaAvx512 {
    /// The kernel, if the processor can run it.
    pub(super) fn detect() -> Option<Self> {
        let runs = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1");
        runs.then_some(Self(()))
    }
}

impl Kernel for ShaAvx512 {
    fn name(&self) -> &'static str {
        "sha-avx512"
    }

    fn versions(&self) -> usize {
        16
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        // SAFETY: only `detect` makes a value of this type.
        unsafe { scan(job, start, count, hits) }
    }
}

/// Sums of a round's constant and word, two rounds by two: the first vector has
/// them for lanes 0, 1, 4, 5, 8, 9, 12 and 13, the second for the others.
type Sums = [[Sixteen; 2]; 32];

/// What sixteen nonces have in common in all versions.
#[repr(C, align(64))]
struct Nonces {
    sums: Sums,
    words: Sixteen,
}

/// Sixteen nonces in one version, at any of the three stages.
#[repr(C, align(64))]
struct Lanes {
    /// Sums of the second hash.
    sums: Sums,
    /// State after the first hash: 64 bytes hold that of lanes 0, 4, 8 and 12,
    /// the next of 1, 5, 9 and 13.
    abef: [Sixteen; 4],
    cdgh: [Sixteen; 4],
    /// `e` after round 60 of the second hash.
    last: Sixteen,
}

/// What all nonces and versions have in common.
#[repr(C, align(64))]
struct JobWords {
    /// Sums of rounds 0 to 17.
    sums: [u32; 18],
    /// What words 18 to 33 have besides those with the nonce in them.
    rest: [u32; 16],
}

impl JobWords {
    fn new(schedule: &Schedule) -> Self {
        let mut rest = [0; 16];
        rest[..2].copy_from_slice(&[schedule.w18, schedule.w19]);
        rest[2..].copy_from_slice(&schedule.rest);
        Self {
            sums: schedule.kw,
            rest,
        }
    }
}

/// Where `build/rounds.rs` and `build/schedules.rs` look for things.
const _: () = {
    assert!(offset_of!(Nonces, sums) == 0 && offset_of!(Nonces, words) == 4_096);
    assert!(offset_of!(Lanes, sums) == 0 && offset_of!(Lanes, abef) == 4_096);
    assert!(offset_of!(Lanes, cdgh) == 4_352 && offset_of!(Lanes, last) == 4_608);
    assert!(offset_of!(JobWords, sums) == 0 && offset_of!(JobWords, rest) == 72);
    assert!(offset_of!(Version, after_four) == 0 && offset_of!(Version, midstate) == 32);
};

/// What depends on the version.
#[repr(C, align(64))]
struct Version {
    /// State after rounds 0 to 3, as the SHA instructions want it.
    after_four: [u32; 8],
    /// State after the header's first 64 bytes.
    midstate: [u32; 8],
}

impl Version {
    fn new(midstate: &Midstate) -> Self {
        let [a, b, c, d, e, f, g, h] = midstate.after_four;
        Self {
            after_four: [f, e, b, a, h, g, d, c],
            midstate: midstate.state,
        }
    }
}

/// Sixteen nonces in one version, of which the first `count` are asked for.
#[derive(Clone, Copy)]
struct Item {
    /// Place of the version in the job.
    version: usize,
    first: u32,
    count: u32,
}

/// All that steps read and write.
struct Pipeline<'a> {
    job: &'a Job,
    versions: &'a [Version],
    words: JobWords,
    /// Those at hand and, at the other place, those that come next.
    nonces: [Nonces; 2],
    /// Where those at hand are.
    now: usize,
    /// At the first hash, at its schedules, at the second hash.
    lanes: [Lanes; 3],
    /// Which of them is at the first hash.
    turn: usize,
    /// What went through the last three steps, the newest first. The oldest is
    /// done, but its last words were still on their way to the cache when they
    /// were; now they are there.
    under_way: [Option<Item>; 3],
    /// Room for the last sixteen words of schedules.
    window: [Sixteen; 16],
}

#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let versions: Vec<Version> = job.midstates().iter().map(Version::new).collect();
    if versions.is_empty() || count == 0 {
        return;
    }
    let mut pipeline = Pipeline::new(job, &versions);
    // Only for the schedules of the first nonces.
    pipeline.put_next_nonces(start);
    pipeline.push(None, true, hits);
    let mut done = 0;
    while done < count {
        pipeline.now = 1 - pipeline.now;
        let first = start.wrapping_add(done);
        pipeline.put_next_nonces(first.wrapping_add(WIDTH));
        for version in 0..versions.len() {
            let item = Item {
                version,
                first,
                count: count - done,
            };
            pipeline.push(Some(item), version == 0, hits);
        }
        done = done.saturating_add(WIDTH);
    }
    while pipeline.under_way.iter().any(Option::is_some) {
        pipeline.push(None, false, hits);
    }
}

impl<'a> Pipeline<'a> {
    #[target_feature(enable = "avx512f")]
    fn new(job: &'a Job, versions: &'a [Version]) -> Self {
        let zero = Sixteen(_mm512_setzero_si512());
        let sums = [[zero; 2]; 32];
        let nonces = || Nonces { sums, words: zero };
        let lanes = || Lanes {
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

    /// One step: an item goes in, or nothing, and what went in three steps ago
    /// comes out. With `fresh` the next nonces get their schedules.
    #[inline(always)]
    fn push(&mut self, item: Option<Item>, fresh: bool, hits: &mut Vec<Hit>) {
        self.turn = (self.turn + 1) % 3;
        let [before, middle, done] = self.under_way;
        let version = item.map_or(0, |item| item.version);
        let midstate = before.map_or(0, |item| item.version);
        // SAFETY: a pipeline exists only in `scan`, on a processor with the
        // features, and is inlined there.
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

    /// Looks closely at those of an item that is done whose hashes may meet the
    /// target. Its lanes are at their next first hash, which leaves the last
    /// words alone.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn confirm(&self, done: Item, hits: &mut Vec<Hit>) {
        // SAFETY: the processor has the features of this function.
        let mut found = unsafe {
            let last = self.lanes[self.turn].last.add(Sixteen::splat(IV[7]));
            last.at_most_reversed(Sixteen::splat(self.job.target_top()))
        };
        while found != 0 {
            let lane = found.trailing_zeros();
            found &= found - 1;
            if lane < done.count {
                let version = self.job.midstates()[done.version].version;
                let nonce = done.first.wrapping_add(lane);
                self.job.confirm(version, nonce, hits);
            }
        }
    }

    /// The first hash in one version, the schedules of digests of another, the
    /// second hash.
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
                asm!(
                    include_str!(concat!(env!("OUT_DIR"), $file)),
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
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                    out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                    out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                    out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
                    out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                    out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                    out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
                    out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
                    options(nostack, preserves_flags),
                )
            };
        }
        // SAFETY: the code reads the constants, the job's words, the version's
        // two states, `now` and, at the offsets asserted above, `next` and the
        // lanes; it writes the latter two and the sixteen places of the window.
        // All of them are as large and aligned as their types say and no two are
        // the same memory. It uses the vector registers named and no others, nor
        // the stack.
        unsafe {
            if FRESH {
                code!("/sha_avx512_fresh.s", next);
            } else {
                code!("/sha_avx512.s");
            }
        }
    }
}
