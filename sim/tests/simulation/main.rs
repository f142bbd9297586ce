//! The simulation as a test: whole runs that must keep all rules, and runs with injected
//! faults that must not.
//!
//! Start reading at [`network`], at [`finality`] for networks with validators, or at
//! [`adversary`] for attacks with a plan.

#[path = "../support/mod.rs"]
mod support;

mod adversary;
mod finality;
mod network;
