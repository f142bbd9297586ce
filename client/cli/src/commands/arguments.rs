//! Values that several subcommands read from their arguments: payments, amounts
//! and address prefixes.

use std::str::FromStr;

use pithead_consensus::amount::ParseAmountError;
use pithead_consensus::{AddressPrefix, Amount};

/// A recipient and an amount, written as `bob=1.5`.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    /// A wallet's name or an address, not checked yet.
    pub(crate) to: String,
    /// The amount, which is not zero.
    pub(crate) amount: Amount,
}

impl Payment {
    /// Takes a recipient and an amount that are written apart.
    pub(crate) fn new(to: &str, amount: &str) -> Result<Self, String> {
        let amount: Amount = amount
            .parse()
            .map_err(|error: ParseAmountError| error.to_string())?;
        if amount == Amount::ZERO {
            return Err("the amount is zero: pay at least 0.00000001 PIT".to_owned());
        }
        Ok(Self {
            to: to.to_owned(),
            amount,
        })
    }
}

impl FromStr for Payment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (to, amount) = text
            .rsplit_once('=')
            .ok_or("expected TO=AMOUNT, such as bob=1.5")?;
        if to.is_empty() {
            return Err("the recipient before the = is missing".to_owned());
        }
        Self::new(to, amount)
    }
}

/// Reads an address prefix, such as `dpit`.
pub(crate) fn parse_prefix(text: &str) -> Result<AddressPrefix, String> {
    AddressPrefix::new(text).map_err(|error| error.to_string())
}
