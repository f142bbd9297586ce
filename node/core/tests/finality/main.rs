//! Finality: approvals, certificates, proofs of misbehaviour, and restarts in the middle of them.

#![allow(clippy::unwrap_used)]

mod approvals;
mod archive;
mod late_votes;
mod recovery;
mod restart;
