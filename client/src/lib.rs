//! The client library of Pithead: everything that the `pithead` command does,
//! for programs.
//!
//! Start with [`Client`], a connection to one node; then [`ChainIdentity`], the
//! network that this node follows; [`SigningKey`] and [`Wallets`], the keys;
//! [`transfer`], which builds, signs and submits payments; and [`wait_until`],
//! which waits until a payment is mined or final. Keys never leave this process:
//! a node only ever sees signed bytes. For networks with validators,
//! [`validator`] makes their keys, [`quorum`] says how many of them must agree,
//! and [`evidence`] checks the proofs that a node holds against them.
//!
//! The library knows no terminal: it prints nothing and asks for nothing.
//!
//! ```no_run
//! # async fn pay() -> Result<(), Box<dyn std::error::Error>> {
//! use pithead_client::{ChainIdentity, Client, SigningKey, Transfer};
//!
//! let client = Client::connect("http://127.0.0.1:7310").await?;
//! let chain = ChainIdentity::of(&client.chain_info().await?, None)?;
//! let key = SigningKey::generate()?;
//! let transfer = Transfer::new().pay(key.address(), "0.5".parse()?);
//! let prepared = transfer.prepare(&client, &chain, key.address()).await?;
//! let sent = prepared.sign(&key)?.submit(&client).await?;
//! println!("{}", sent.txid);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod connection;
pub mod error;
mod queries;

pub mod chain;
pub mod finality;

pub mod key_file;
pub mod wallet;

pub mod transfer;
pub mod wait;

pub mod evidence;
pub mod quorum;
pub mod validator;

pub use chain::{ChainError, ChainIdentity, ExpectedNetwork};
pub use connection::{Client, ConnectOptions, DEFAULT_NODE_URL};
pub use error::ClientError;
pub use evidence::{EvidenceProblem, SavedProof};
pub use finality::FinalityProgress;
pub use key_file::KeyFileError;
pub use pithead_keys::{KeyError, Passphrase, SigningKey};
pub use quorum::{Quorum, QuorumError};
pub use transfer::{
    FeeChoice, PreparedTransfer, SignedTransfer, Submitted, Transfer, TransferError,
};
pub use validator::{ValidatorError, ValidatorFile};
pub use wait::{Confirmations, WaitError, WaitEvent, WaitOutcome, wait_until};
pub use wallet::{Wallet, WalletError, WalletName, Wallets};
