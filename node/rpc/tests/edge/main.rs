//! The edge of the API without a node: roles and tokens, limits, and connections.

#![allow(clippy::unwrap_used)]

mod auth;
mod limits;
mod listener;
