//! Payments: built and signed here, submitted as finished bytes.
//!
//! [`Transfer::prepare`] asks the node for the account and the fee and checks
//! that the money is there; [`PreparedTransfer::sign`] needs the key and no
//! node; [`SignedTransfer::submit`] hands the bytes in. What the node tells can
//! make a payment fail, never pay someone else: the bytes that are signed are
//! encoded here.

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
use crate::key::SigningKey;

pub use self::error::{Shortfall, TransferError};

/// An estimated fee rate above this is refused unless the caller names it,
/// grains a byte: 10,000 times the least that nodes relay. The fee of
/// a payment with one output then stays below 0.07 PIT.
pub const ESTIMATED_FEE_RATE_MAX: u64 = 10_000;

/// How the fee is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FeeChoice {
    /// What the node estimates for the next block.
    #[default]
    Estimate,
    /// This many grains a byte.
    RatePerByte(u64),
    /// This much.
    Exactly(Amount),
}

/// A payment to one or many recipients that is still to be built.
#[derive(Debug, Clone, Default)]
pub struct Transfer {
    /// The payments, 1 to 255.
    pub outputs: Vec<Output>,
    /// Free data, at most 1,024 bytes.
    pub data: Vec<u8>,
    /// The fee.
    pub fee: FeeChoice,
    /// The sequence; `None`: the account's next. A pending transaction with the
    /// same one is replaced if this one pays a fee rate at least 10 % higher.
    pub sequence: Option<u64>,
}

impl Transfer {
    /// A payment without recipients yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a recipient.
    #[must_use]
    pub fn pay(mut self, recipient: Address, amount: Amount) -> Self {
        self.outputs.push(Output { recipient, amount });
        self
    }

    /// Checks what needs no node.
    ///
    /// # Errors
    /// [`TransferError`] names the limit.
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
        body.fee = self.choose_fee(client, size).await?;
        if body.total().is_none() {
            return Err(TransferError::TooMuchMoney);
        }
        // What the account can spend is its balance less what its own earlier
        // pending payments take: nodes do not count what is on its way to it.
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

    async fn choose_fee(&self, client: &Client, size: usize) -> Result<Amount, TransferError> {
        match self.fee {
            FeeChoice::Exactly(fee) => Ok(fee),
            FeeChoice::RatePerByte(rate) => u64::try_from(size)
                .ok()
                .and_then(|size| rate.checked_mul(size))
                .and_then(|grains| Amount::from_grains(grains).ok())
                .ok_or(TransferError::TooMuchMoney),
            FeeChoice::Estimate => {
                let size_bytes = u32::try_from(size).unwrap_or(u32::MAX);
                let estimate = client.estimate_fee(size_bytes).await?;
                // The fee, not the rate told beside it, is what is paid.
                let rate = estimate.fee.div_ceil(u64::from(size_bytes).max(1));
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
    /// What is to be signed.
    pub body: TransactionBody,
    /// The chain that it is for.
    pub chain: ChainIdentity,
    /// What the sender could spend before this payment: its balance less what
    /// its own pending payments take.
    pub available: Amount,
}

impl PreparedTransfer {
    /// Sum of the payments, without the fee.
    #[must_use]
    pub fn amounts(&self) -> Amount {
        let amounts = self.body.outputs.iter().map(|output| output.amount);
        Amount::sum(amounts).unwrap_or(Amount::MAX_MONEY)
    }

    /// Its txid: it is settled before the signature is made.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.body.txid(&self.chain.genesis_hash)
    }

    /// Signs it.
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

/// What the account can spend on this transaction, and what that takes.
async fn shortfall(
    client: &Client,
    account: &v1::GetAccountResponse,
    body: &TransactionBody,
) -> Result<Shortfall, ClientError> {
    let balance = amount(account.balance)?;
    let mut reserved = Amount::ZERO;
    let mut all_pending = Amount::ZERO;
    if account.next_sequence > account.sequence {
        // A sender has at most 64 pending (protocol §12).
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
    /// The transaction.
    pub transaction: SignedTransaction,
    /// The chain that it is for.
    pub chain: ChainIdentity,
}

/// A transaction that the node took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Identifies it.
    pub txid: Txid,
    /// The txid of the pending transaction that it replaced.
    pub replaced: Option<String>,
    /// Whether the node had it already.
    pub duplicate: bool,
}

impl SignedTransfer {
    /// Its txid.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.transaction.txid(&self.chain.genesis_hash)
    }

    /// Its consensus encoding: what is submitted.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        self.transaction.encode()
    }

    /// The hash of the genesis block that the signature is bound to.
    #[must_use]
    pub fn genesis_hash(&self) -> BlockHash {
        self.chain.genesis_hash
    }

    /// Hands the transaction in. It may be repeated: the node answers with
    /// "duplicate" the second time.
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

    /// Turns a rejection for want of money into one with all the figures; the
    /// balance may have changed since it was checked here.
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

/// An amount that a node told.
///
/// # Errors
/// [`ClientError::BadAnswer`] above all money there can be.
pub fn amount(grains: u64) -> Result<Amount, ClientError> {
    Amount::from_grains(grains).map_err(|error| ClientError::BadAnswer {
        what: error.to_string(),
    })
}
