//! The `pithead.v1` gRPC API as Rust types.
//!
//! [`v1`] is generated from `proto/pithead/v1/`, which is the only source of the API for
//! every language. [`convert`] turns its messages into consensus types and back. [`bearer`] is
//! the token that some methods ask for. This crate knows nothing of nodes, miners or wallets.

pub mod bearer;
pub mod convert;

/// Messages, clients and servers generated from `proto/pithead/v1/`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used,
    unreachable_pub
)]
pub mod v1 {
    tonic::include_proto!("pithead.v1");
}

/// The compiled `proto/` with its comments, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/pithead_descriptor.bin"));
