//! The edge of the API by itself: tokens and roles, limits, and connections.

#![allow(clippy::unwrap_used)]

mod auth;
mod limits;
mod listener;
