//! The work that was handed out to miners, and what each miner has proven.
//!
//! Start at [`WorkBook`] in `book`: it gives every subscription an extra-nonce prefix of its own,
//! so that no two miners search the same space, and judges solutions up to the point where a
//! block has to go to the core. `work` is one piece of work and what a solution of it is worth,
//! `kept` which pieces of work are remembered, `found` how many blocks each worker has found on
//! each tip, `worker` what one miner has proven.
//!
//! There is no clock, no randomness and no socket in here: times and random numbers come in as
//! arguments.
//!
//! *Invariant:* what the book holds is bounded, in pieces of work and in the templates behind
//! them, each of which may be a whole block.

mod book;
mod found;
mod kept;
mod work;
mod worker;

pub use book::{BlockCredit, WorkBook, WorkSettings, WorkUsage};
pub use kept::WorkSubscription;
pub use work::{AssignedWork, BlockFinder, JudgeContext, SolutionVerdict, SubmittedSolution};
pub use worker::{Worker, WorkerId, WorkerTelemetry};
