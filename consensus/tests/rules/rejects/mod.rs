//! One rejecting test for every variant of every error, named after the variant. Each
//! module holds the tests of one enum and is named after it. [`completeness`] reads the
//! source, and fails if a test is missing.

mod approval_error;
mod block_error;
mod certificate_error;
mod compact_target_error;
mod completeness;
mod decode_error;
mod error_structs;
mod evidence_error;
mod finality_error;
mod genesis_error;
mod header_error;
mod not_yet;
mod parse_address_error;
mod parse_amount_error;
mod public_key_error;
mod transaction_error;
mod vote_error;
