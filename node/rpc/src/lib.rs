//! Serves the gRPC API of a node.
//!
//! A handler converts the request, asks the engine or a snapshot of the store, and converts the
//! answer back. It knows no rule of the chain. Limits and roles are checked before any handler
//! runs.
//!
//! Start reading at [`serve`], which puts everything together. Then, from a connection to an
//! answer: `listener` accepts connections, `limits` and `auth` check requests, one file or folder
//! a service holds the handlers, `reader` and `blocks` read the chain for them, and `outlet`
//! carries streams. `workers` remembers the work that miners were given.

pub mod auth;
pub mod file;
pub mod limits;
pub mod listener;
pub mod status;
pub mod tokens;
pub mod workers;

mod admin;
mod api;
mod block_finality;
mod blocks;
mod chain;
mod finality;
mod middleware;
mod mining;
mod network;
mod outlet;
mod page;
mod peers;
mod reader;
mod server;
mod transaction_status;
mod transactions;

pub use api::{AGENT, SetLogFilter};
pub use server::{ServeOptions, serve};
