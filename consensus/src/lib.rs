//! Every consensus rule of Pithead, as pure functions.
//!
//! This crate reads no clock, disk, socket or random number, and it logs nothing.
//! Time and context come in as arguments; verdicts go out as values. Each check
//! quotes the sentence of `docs/protocol.md` that it enforces.
//!
//! Where to start reading:
//! - [`block`] and [`transaction`]: the encodings;
//! - [`check`]: the rules that need no context;
//! - [`connect`]: the rules that need the accounts;
//! - [`difficulty`] and [`subsidy`]: the two schedules;
//! - [`approval`]: validators, checkpoints and finality.

#![forbid(unsafe_code)]
#![deny(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::float_arithmetic
)]

pub mod encoding;
pub mod hash;
pub mod merkle;

pub mod amount;
pub mod height;
pub mod key;

pub mod address;
pub mod target;

pub mod block;
pub mod transaction;

pub mod genesis;

pub mod difficulty;
pub mod subsidy;

pub mod state;
pub mod state_tree;

pub mod check;
pub mod connect;

pub mod approval;
pub mod fork_choice;

pub use address::{Address, AddressPrefix};
pub use amount::Amount;
pub use approval::certificate::Certificate;
pub use approval::evidence::Evidence;
pub use approval::finality::Finality;
pub use approval::vote::{VoteFloor, VoteRecord};
pub use approval::{Approval, Checkpoint, Link, SignedApproval, Validators, VerifiedApproval};
pub use block::{Block, BlockCommitment, BlockHeader};
pub use encoding::{Decode, DecodeError, Encode};
pub use genesis::{ConsensusParams, Genesis};
pub use hash::{BlockHash, Hash256, Txid};
pub use height::Height;
pub use key::{PublicKey, Signature};
pub use state::{Account, Accounts};
pub use target::{CompactTarget, Target, Work};
pub use transaction::{Output, SignedTransaction, TransactionBody};
