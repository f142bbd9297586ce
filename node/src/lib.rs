//! The program `pithead-node`: its settings, its log, and a validator's key and vote record.
//!
//! It starts the core (`pithead-core`) on its thread (`pithead-engine`), connects it with peers
//! (`pithead-p2p`) and serves the gRPC API (`pithead-rpc`). Start reading at `main.rs`, then at
//! `commands/start.rs`.

pub mod config;
pub mod logging;
pub mod validator;
