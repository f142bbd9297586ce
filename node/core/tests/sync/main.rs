//! Sync between cores that are wired by a queue under a virtual clock: catching up, slow and lying
//! peers, and a network that loses messages.

#![allow(clippy::unwrap_used)]

mod catching_up;
mod clocks;
mod delays;
mod faulty;
mod weather;
