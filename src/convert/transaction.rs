//! Transactions and amounts, to and from the wire.

use pithead_consensus::{Amount, Encode as _, Output, SignedTransaction, Txid};

use super::{ChainContext, ConversionError};
use crate::v1;

impl ChainContext {
    /// A transaction as the wire shows it. The caller knows its `txid` already.
    #[must_use]
    pub fn transaction(&self, transaction: &SignedTransaction, txid: &Txid) -> v1::Transaction {
        let body = &transaction.body;
        let key = transaction.key.as_ref();
        v1::Transaction {
            txid: txid.to_string(),
            sender: self.address_text(&body.sender),
            sequence: body.sequence,
            fee: body.fee.grains(),
            outputs: body
                .outputs
                .iter()
                .map(|output| v1::TransactionOutput {
                    recipient: self.address_text(&output.recipient),
                    amount: output.amount.grains(),
                })
                .collect(),
            data: body.data.clone().into(),
            public_key: key
                .map_or_else(Vec::new, |key| key.modulus().to_vec())
                .into(),
            signature: transaction.signature.0.to_vec().into(),
            size_bytes: u32::try_from(transaction.size()).unwrap_or(u32::MAX),
            raw: transaction.encode().into(),
        }
    }

    /// Reads the outputs of a transaction to be built.
    ///
    /// # Errors
    /// [`ConversionError`] names the output.
    pub fn outputs(
        &self,
        outputs: &[v1::TransactionOutput],
    ) -> Result<Vec<Output>, ConversionError> {
        outputs
            .iter()
            .enumerate()
            .map(|(index, output)| {
                Ok(Output {
                    recipient: self
                        .address(&format!("outputs[{index}].recipient"), &output.recipient)?,
                    amount: amount(&format!("outputs[{index}].amount"), output.amount)?,
                })
            })
            .collect()
    }
}

/// Reads an amount of grains.
///
/// # Errors
/// [`ConversionError`] above [`Amount::MAX_MONEY`].
pub fn amount(field: &str, grains: u64) -> Result<Amount, ConversionError> {
    Amount::from_grains(grains).map_err(|error| ConversionError::new(field, error))
}
