//! The gRPC API of a real `pithead-node` process, called by a real client.

#![allow(clippy::unwrap_used)]

mod access;
mod building;
mod dev_mining;
mod edge;
mod follow;
mod mining;
mod pages;
mod queries;
mod serving;
mod transactions;
