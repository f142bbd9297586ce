//! Real nodes that find each other and agree, and peers that mean them harm.

#![allow(clippy::unwrap_used)]

mod floods;
mod gate;
mod hostile;
mod namespaces;
mod nat;
mod partition;
mod peers;
mod raw;
