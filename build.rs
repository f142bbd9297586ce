//! Compiles `proto/` into Rust without an installed protoc, and keeps the file
//! descriptor set for server reflection.

use std::path::PathBuf;

use prost::Message as _;

/// Every file of the API, in reading order.
const PROTO_FILES: [&str; 7] = [
    "pithead/v1/transaction.proto",
    "pithead/v1/block.proto",
    "pithead/v1/chain.proto",
    "pithead/v1/transaction_service.proto",
    "pithead/v1/mining.proto",
    "pithead/v1/network.proto",
    "pithead/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out_dir.join("pithead_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
