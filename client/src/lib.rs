//! The client library of Pithead: everything that the `pithead` command does,
//! for programs.
//!
//! Start with [`Client`], a connection to one node; then [`Chain`], which
//! network that node follows; [`SigningKey`] and [`Wallets`], the keys; and
//! [`transfer`], which builds, signs and submits payments. Keys never leave this
//! process: a node only ever sees signed bytes. For networks with validators,
//! [`validator`] makes their keys, [`quorum`] says how many must agree, and
//! [`evidence`] checks what a node holds against them.
//!
//! ```no_run
//! # async fn pay() -> Result<(), Box<dyn std::error::Error>> {
//! use pithead_client::{Chain, Client, SigningKey, Transfer};
//!
//! let client = Client::connect("http://127.0.0.1:7310").await?;
//! let chain = Chain::of(&client.chain_info().await?, None)?;
//! let key = SigningKey::generate()?;
//! let transfer = Transfer::new().pay(key.address(), "0.5".parse()?);
//! let prepared = transfer.prepare(&client, &chain, key.address()).await?;
//! let sent = prepared.sign(&key)?.submit(&client).await?;
//! println!("{}", sent.txid);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod connection;
pub mod error;

pub mod chain;

pub mod key;
pub mod wallet;

pub mod transfer;

pub mod evidence;
pub mod quorum;
pub mod validator;

pub use chain::{Chain, ChainError, ExpectedNetwork};
pub use connection::{Client, ConnectOptions, DEFAULT_NODE_URL};
pub use error::ClientError;
pub use evidence::{EvidenceProblem, SavedProof};
pub use key::{KeyError, Passphrase, SigningKey};
pub use quorum::{Quorum, QuorumError};
pub use transfer::{
    FeeChoice, PreparedTransfer, SignedTransfer, Submitted, Transfer, TransferError,
};
pub use validator::{ValidatorError, ValidatorFile};
pub use wallet::{Wallet, WalletError, WalletName, Wallets};
