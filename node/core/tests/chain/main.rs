//! The chain: what the store keeps, which blocks the core accepts, how it reorganises, and what it
//! serves to peers of it.

#![allow(clippy::unwrap_used)]

mod reorganisation;
mod replay;
mod serve;
mod store;
mod templates;
