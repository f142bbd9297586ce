//! Every rule on its own: the values that it accepts, and those that it refuses.
//!
//! Start with [`rejects`], which has a test for every variant of every error.

#![allow(clippy::unwrap_used)]

mod rejects;

mod difficulty;
mod fork_choice;
mod genesis;
mod subsidy;

mod certificates;
mod committee;
mod finality;
mod links;
mod vote_record;
