//! The simulation as a test: whole runs that must keep all rules, and runs with injected
//! faults that must not.
//!
//! Start reading at [`network`], or at [`finality`] for networks with validators.

#[path = "../support/mod.rs"]
mod support;

mod finality;
mod network;
