//! Payments, which are built and signed here and submitted as finished bytes.
//!
//! 1. [`Transfer::prepare`] asks the node for the account and the fee, and checks
//!    that the account can pay.
//! 2. [`PreparedTransfer::sign`] needs the key, but no node.
//! 3. [`SignedTransfer::submit`] submits the bytes.
//!
//! A lying node can make a payment fail, but it can't redirect the payment: the
//! signed bytes are encoded here.

mod error;

use pithead_api::v1;
use pithead_consensus::encoding::Encode as _;
use pithead_consensus::transaction::{MAX_DATA_BYTES, MAX_OUTPUTS, MAX_TRANSACTION_BYTES};
use pithead_consensus::{
    Address, Amount, BlockHash, Output, SignedTransaction, TransactionBody, Txid,
};

use crate::chain::ChainIdentity;
use crate::connection::Client;
use crate::error::ClientError;
use pithead_keys::SigningKey;

pub use self::error::{Shortfall, TransferError};

/// Highest estimated fee rate, in grains a byte, that is paid without asking: 10,000
/// times the least that nodes relay. The fee of a payment with one output then
/// stays below 0.07 PIT.
pub const ESTIMATED_FEE_RATE_MAX: u64 = 10_000;

/// The ways to choose a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FeeChoice {
    /// The fee that the node estimates for the next block.
    #[default]
    Estimate,
    /// A fee of this many grains for each byte.
    RatePerByte(u64),
    /// A fee of exactly this amount.
    Exactly(Amount),
}

/// A payment to one or many recipients that is still to be built.
#[derive(Debug, Clone, Default)]
pub struct Transfer {
    /// The recipients and their amounts, 1 to 255.
    pub outputs: Vec<Output>,
    /// Data to attach, at most 1,024 bytes.
    pub data: Vec<u8>,
    /// How the fee is chosen when the transfer is prepared.
    pub fee: FeeChoice,
    /// The sequence; `None` takes the account's next one. If a pending transaction
    /// has the same sequence, this one replaces it, provided that its fee rate is at
    /// least 10 % higher.
    pub sequence: Option<u64>,
}

impl Transfer {
    /// A payment without recipients yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a recipient and the amount for it.
    #[must_use]
    pub fn pay(mut self, recipient: Address, amount: Amount) -> Self {
        self.outputs.push(Output { recipient, amount });
        self
    }

    /// Checks the limits that need no answer from a node.
    ///
    /// # Errors
    /// [`TransferError`] names the limit that is exceeded.
    pub fn check(&self) -> Result<(), TransferError> {
        if self.outputs.is_empty() {
            return Err(TransferError::NoOutputs);
        }
        if self.outputs.len() > MAX_OUTPUTS {
            return Err(TransferError::TooManyOutputs {
                found: self.outputs.len(),
            });
        }
        let zero = |output: &Output| output.amount == Amount::ZERO;
        if let Some(index) = self.outputs.iter().position(zero) {
            return Err(TransferError::ZeroAmount { index });
        }
        if self.data.len() > MAX_DATA_BYTES {
            return Err(TransferError::TooMuchData {
                found: self.data.len(),
            });
        }
        Ok(())
    }

    /// Builds the transaction that `sender` is to sign: asks the node for the
    /// sequence and the fee, and checks that the account can pay.
    ///
    /// # Errors
    /// [`TransferError`]; [`TransferError::InsufficientBalance`] with all figures.
    pub async fn prepare(
        &self,
        client: &Client,
        chain: &ChainIdentity,
        sender: Address,
    ) -> Result<PreparedTransfer, TransferError> {
        self.check()?;
        let account = client.account(&chain.address_text(&sender)).await?;
        let mut body = TransactionBody {
            sender,
            sequence: self.sequence.unwrap_or(account.next_sequence),
            fee: Amount::ZERO,
            outputs: self.outputs.clone(),
            data: self.data.clone(),
        };
        let size = body.signed_size();
        if size > MAX_TRANSACTION_BYTES {
            return Err(TransferError::TooLarge { found: size });
        }
        body.fee = self.choose_fee(client, body.weight()).await?;
        if body.total().is_none() {
            return Err(TransferError::TooMuchMoney);
        }
        // The account can spend its balance less its own earlier pending payments.
        // Nodes do not count money that is on its way to the account.
        let short = shortfall(client, &account, &body).await?;
        if short.missing() > Amount::ZERO {
            return Err(TransferError::InsufficientBalance(Box::new(short)));
        }
        Ok(PreparedTransfer {
            body,
            chain: chain.clone(),
            available: short.available,
        })
    }

    async fn choose_fee(&self, client: &Client, weight: usize) -> Result<Amount, TransferError> {
        match self.fee {
            FeeChoice::Exactly(fee) => Ok(fee),
            FeeChoice::RatePerByte(rate) => u64::try_from(weight)
                .ok()
                .and_then(|weight| rate.checked_mul(weight))
                .and_then(|grains| Amount::from_grains(grains).ok())
                .ok_or(TransferError::TooMuchMoney),
            FeeChoice::Estimate => {
                let weight = u32::try_from(weight).unwrap_or(u32::MAX);
                let estimate = client.estimate_fee(weight).await?;
                // The rate is computed from the fee, since the fee is what is paid. The
                // rate that the node tells beside it may differ.
                let rate = estimate.fee.div_ceil(u64::from(weight).max(1));
                if rate > ESTIMATED_FEE_RATE_MAX {
                    return Err(TransferError::EstimateTooHigh { found: rate });
                }
                Ok(amount(estimate.fee)?)
            }
        }
    }
}

/// A transaction that is built and can be paid for, but not signed.
#[derive(Debug, Clone)]
pub struct PreparedTransfer {
    /// The transaction without its signature.
    pub body: TransactionBody,
    /// The chain for which it is built.
    pub chain: ChainIdentity,
    /// The amount that the sender could spend before this payment: its balance less
    /// its own pending payments.
    pub available: Amount,
}

impl PreparedTransfer {
    /// Sum of the payments, without the fee.
    #[must_use]
    pub fn amounts(&self) -> Amount {
        let amounts = self.body.outputs.iter().map(|output| output.amount);
        Amount::sum(amounts).unwrap_or(Amount::MAX_MONEY)
    }

    /// The txid, which does not depend on the signature.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.body.txid(&self.chain.genesis_hash)
    }

    /// Signs the transaction.
    ///
    /// # Errors
    /// [`TransferError::WrongKey`] if the key is not the sender's.
    pub fn sign(self, key: &SigningKey) -> Result<SignedTransfer, TransferError> {
        if key.address() != self.body.sender {
            return Err(TransferError::WrongKey);
        }
        let genesis_hash = self.chain.genesis_hash;
        let transaction = key.sign_transaction(self.body, &genesis_hash)?;
        Ok(SignedTransfer {
            transaction,
            chain: self.chain,
        })
    }
}

/// Compares what the account can spend with what this transaction takes.
async fn shortfall(
    client: &Client,
    account: &v1::GetAccountResponse,
    body: &TransactionBody,
) -> Result<Shortfall, ClientError> {
    let balance = amount(account.balance)?;
    let mut reserved = Amount::ZERO;
    let mut all_pending = Amount::ZERO;
    if account.next_sequence > account.sequence {
        // A sender has at most 64 pending (node policy).
        let (pending, _) = client.pending_transactions(&account.address, 1_000).await?;
        for transaction in pending.iter().filter_map(|one| one.transaction.as_ref()) {
            let paid = transaction.outputs.iter().map(|output| output.amount);
            let total = amount(paid.fold(transaction.fee, u64::saturating_add))?;
            all_pending = all_pending.checked_add(total).unwrap_or(Amount::MAX_MONEY);
            if transaction.sequence < body.sequence {
                reserved = reserved.checked_add(total).unwrap_or(Amount::MAX_MONEY);
            }
        }
    }
    let incoming = account
        .pending_balance
        .saturating_add(all_pending.grains())
        .saturating_sub(account.balance);
    let amounts = body.outputs.iter().map(|output| output.amount);
    Ok(Shortfall {
        available: balance.checked_sub(reserved).unwrap_or(Amount::ZERO),
        reserved,
        immature: amount(account.immature_rewards)?,
        incoming: amount(incoming)?,
        amounts: Amount::sum(amounts).unwrap_or(Amount::MAX_MONEY),
        fee: body.fee,
    })
}

/// A signed transaction that was not submitted yet.
#[derive(Debug, Clone)]
pub struct SignedTransfer {
    /// The transaction with its signature.
    pub transaction: SignedTransaction,
    /// The chain for which it is signed.
    pub chain: ChainIdentity,
}

/// A transaction that the node accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Identifies the transaction.
    pub txid: Txid,
    /// The txid of the pending transaction that it replaced.
    pub replaced: Option<String>,
    /// Whether the node had the transaction already.
    pub duplicate: bool,
}

impl SignedTransfer {
    /// The txid, which identifies the transaction.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.transaction.txid(&self.chain.genesis_hash)
    }

    /// The consensus encoding, as it is submitted.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        self.transaction.encode()
    }

    /// The hash of the genesis block that the signature is bound to.
    #[must_use]
    pub fn genesis_hash(&self) -> BlockHash {
        self.chain.genesis_hash
    }

    /// Submits the transaction. This may be repeated: the second time, the node
    /// answers that it has the transaction already.
    ///
    /// # Errors
    /// [`TransferError::Rejected`] with the rule that it breaks;
    /// [`TransferError::InsufficientBalance`] if that is the rule.
    pub async fn submit(&self, client: &Client) -> Result<Submitted, TransferError> {
        let raw = self.raw();
        let answer = client
            .read(|| {
                let mut transactions = client.transactions();
                let request = v1::SubmitTransactionRequest {
                    transaction: Some(v1::submit_transaction_request::Transaction::Raw(
                        raw.clone().into(),
                    )),
                };
                async move { transactions.submit_transaction(request).await }
            })
            .await?;
        self.read_answer(client, answer).await
    }

    async fn read_answer(
        &self,
        client: &Client,
        answer: v1::SubmitTransactionResponse,
    ) -> Result<Submitted, TransferError> {
        use v1::SubmitTransactionOutcome as Outcome;
        let txid = self.txid();
        match answer.outcome() {
            Outcome::Accepted | Outcome::Replaced | Outcome::Duplicate => {
                if answer.txid != txid.to_string() {
                    return Err(malformed(format!(
                        "it names the transaction {}, here it is {txid}",
                        answer.txid
                    )));
                }
                Ok(Submitted {
                    txid,
                    duplicate: answer.outcome() == Outcome::Duplicate,
                    replaced: (!answer.replaced_txid.is_empty()).then_some(answer.replaced_txid),
                })
            }
            Outcome::Rejected => {
                let rejection = answer.rejection.unwrap_or_default();
                Err(self.rejected(client, rejection).await)
            }
            Outcome::Unspecified => Err(malformed("it does not say what became of it".to_owned())),
        }
    }

    /// Explains a rejection. If the account can't pay, the error has all figures: the
    /// balance may have changed since `prepare` checked it.
    async fn rejected(
        &self,
        client: &Client,
        rejection: v1::TransactionRejection,
    ) -> TransferError {
        let body = &self.transaction.body;
        if rejection.rule() == v1::TransactionRule::InsufficientBalance {
            let address = self.chain.address_text(&body.sender);
            if let Ok(account) = client.account(&address).await
                && let Ok(short) = shortfall(client, &account, body).await
                && short.missing() > Amount::ZERO
            {
                return TransferError::InsufficientBalance(Box::new(short));
            }
        }
        TransferError::Rejected(Box::new(rejection))
    }
}

fn malformed(what: String) -> TransferError {
    ClientError::BadAnswer { what }.into()
}

/// Reads an amount that a node tells.
///
/// # Errors
/// [`ClientError::BadAnswer`] if it is more than all the money that there can be.
pub fn amount(grains: u64) -> Result<Amount, ClientError> {
    Amount::from_grains(grains).map_err(|error| ClientError::BadAnswer {
        what: error.to_string(),
    })
}
