//! `pithead send`: payments, to one recipient or to many in one transaction.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use pithead_api::v1;
use pithead_client::{
    ChainIdentity, Client, Confirmations, FeeChoice, PreparedTransfer, Submitted, Transfer,
    TransferError, WaitOutcome, Wallet,
};
use pithead_consensus::Amount;
use pithead_consensus::transaction::MAX_DATA_BYTES;
use serde::Serialize;

use super::arguments::Payment;
use super::context::Context;
use super::files;
use super::names::{WalletNames, named};
use super::passphrase::PassphraseArgs;
use super::wait::wait_and_tell;
use crate::terminal::report::{ErrorWithHint, UsageError};
use crate::terminal::show::{StatusJson, status_sentence};
use crate::terminal::words::{Money, counted, pit, pit_unit};

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(override_usage = "pithead send FROM TO AMOUNT [OPTIONS]
       pithead send FROM TO=AMOUNT... [OPTIONS]
       pithead send --from FROM --to TO=AMOUNT [--to TO=AMOUNT]... [OPTIONS]")]
#[command(after_help = "Examples:
  pithead send alice bob 1.5
  pithead send alice bob=1 carol=0.25 --data 'rent for May' --wait
  pithead send alice bob 1.5 --wait final
  pithead send --from alice --to dpit1…=10 --fee-rate 5 --yes")]
pub(crate) struct SendArgs {
    /// FROM, then TO and AMOUNT, or any number of TO=AMOUNT. FROM is a wallet, TO a wallet or an
    /// address, AMOUNT in PIT.
    #[arg(value_name = "FROM TO AMOUNT")]
    words: Vec<String>,
    /// The wallet that pays.
    #[arg(long, value_name = "WALLET")]
    from: Option<String>,
    /// A recipient and the amount for it, in PIT; may be given up to 255 times.
    #[arg(long, value_name = "TO=AMOUNT")]
    to: Vec<Payment>,
    /// Attach this text.
    #[arg(long, value_name = "TEXT", group = "payload")]
    data: Option<String>,
    /// Attach these bytes, in hex.
    #[arg(long, value_name = "HEX", group = "payload")]
    data_hex: Option<String>,
    /// Attach the content of this file (1,024 bytes at most).
    #[arg(long, value_name = "FILE", group = "payload")]
    data_file: Option<PathBuf>,
    /// Pay exactly this fee [default: what the node estimates].
    #[arg(long, value_name = "PIT", conflicts_with = "fee_rate")]
    fee: Option<Amount>,
    /// Pay this many grains for each byte.
    #[arg(long, value_name = "GRAINS")]
    fee_rate: Option<u64>,
    /// Use this sequence: that of a pending payment replaces it, at a higher fee.
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// Wait until it is mined; =N: until it has N confirmations; approved: until the validators
    /// approved a block on top of it; final: until it can't be undone.
    #[arg(long, value_name = "mined|N|approved|final", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    wait: Option<Confirmations>,
    /// Don't ask before sending.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// The paying wallet and the payments, from either way of writing them.
fn payments(args: &SendArgs) -> Result<(String, Vec<Payment>), UsageError> {
    let mut words = args.words.iter().map(String::as_str);
    let from = match &args.from {
        Some(from) => from.as_str(),
        None => words
            .next()
            .ok_or_else(|| UsageError("who pays? write: pithead send FROM TO AMOUNT".to_owned()))?,
    };
    let words: Vec<&str> = words.collect();
    let mut payments = args.to.clone();
    match words.as_slice() {
        [to, amount] if !to.contains('=') && !amount.contains('=') => {
            payments.push(Payment::new(to, amount).map_err(UsageError)?);
        }
        words => {
            for word in words {
                let payment = word
                    .parse()
                    .map_err(|error| UsageError(format!("{word:?}: {error}")))?;
                payments.push(payment);
            }
        }
    }
    if payments.is_empty() {
        return Err(UsageError(
            "who is to be paid? write: pithead send FROM TO AMOUNT, or FROM TO=AMOUNT..."
                .to_owned(),
        ));
    }
    Ok((from.to_owned(), payments))
}

/// The data to attach, from whichever option gives it.
fn data(args: &SendArgs) -> anyhow::Result<Vec<u8>> {
    if let Some(text) = &args.data {
        return Ok(text.clone().into_bytes());
    }
    if let Some(digits) = &args.data_hex {
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        return hex::decode(digits)
            .map_err(|error| UsageError(format!("--data-hex: {error}")).into());
    }
    if let Some(path) = &args.data_file {
        let size = std::fs::metadata(path)
            .map_err(|error| files::failed(path, error))?
            .len();
        if size > MAX_DATA_BYTES as u64 {
            return Err(files::failed(
                path,
                format!("a transaction carries at most {MAX_DATA_BYTES} bytes of data, not {size}"),
            ));
        }
        return std::fs::read(path).map_err(|error| files::failed(path, error));
    }
    Ok(Vec::new())
}

#[derive(Debug, Serialize)]
struct SentJson {
    txid: String,
    network: String,
    from: String,
    sender: String,
    outputs: Vec<SentOutputJson>,
    amount: Money,
    fee: Money,
    sequence: u64,
    size_bytes: usize,
    duplicate: bool,
    replaced_txid: Option<String>,
    status: Option<StatusJson>,
    balance: Money,
    pending_balance: Money,
}

#[derive(Debug, Serialize)]
struct SentOutputJson {
    recipient: String,
    name: Option<String>,
    amount: Money,
}

pub(crate) async fn run(context: &Context, args: SendArgs) -> anyhow::Result<()> {
    let (from, payments) = payments(&args)?;
    let data = data(&args)?;
    let (client, chain, info) = context.connect_to_chain().await?;
    if let Some(wanted) = args.wait {
        // Before anything is sent.
        wanted.check_before_sending(&info)?;
    }
    let wallet = context.wallet(&chain, &from)?;
    let mut transfer = Transfer {
        data,
        sequence: args.sequence,
        fee: match (args.fee, args.fee_rate) {
            (Some(fee), _) => FeeChoice::Exactly(fee),
            (None, Some(rate)) => FeeChoice::RatePerByte(rate),
            (None, None) => FeeChoice::Estimate,
        },
        ..Transfer::new()
    };
    for payment in &payments {
        transfer = transfer.pay(context.resolve(&chain, &payment.to)?, payment.amount);
    }
    let prepared = transfer.prepare(&client, &chain, wallet.address()).await?;
    let names = context.names(&chain);
    if !args.yes {
        confirm(&wallet, &prepared, &names)?;
    }
    let key = args.passphrase.unlock(&wallet)?;
    let signed = prepared.clone().sign(&key)?;
    let submitted = signed.submit(&client).await;
    let submitted = submitted.map_err(|error| maybe_sent(error, &signed.txid().to_string()))?;
    let sent = SentPayment {
        context,
        client: &client,
        wallet: &wallet,
        prepared: &prepared,
        submitted,
    };
    if !context.json() {
        sent.tell_submitted()?;
    }
    let status = match args.wait {
        Some(wanted) => Some(sent.settled(wanted).await?),
        None => None,
    };
    sent.tell_outcome(&chain, status.as_ref(), &names).await
}

/// Adds what to do if the connection broke over a submission: the node may have
/// the transaction or not.
fn maybe_sent(error: TransferError, txid: &str) -> anyhow::Error {
    match &error {
        TransferError::Client(lost) if lost.is_disconnect() => ErrorWithHint {
            error: format!("{error}; the payment may have arrived all the same"),
            hint: format!("before you send it again, check with `pithead tx {txid}`"),
        }
        .into(),
        _ => error.into(),
    }
}

/// Shows what is about to be signed and asks the user for consent.
fn confirm(
    wallet: &Wallet,
    prepared: &PreparedTransfer,
    names: &WalletNames,
) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(ErrorWithHint {
            error: "nothing was sent: there is no terminal to ask for your consent".to_owned(),
            hint: "add --yes to send without being asked".to_owned(),
        }
        .into());
    }
    let chain = &prepared.chain;
    let mut text = format!(
        "Payment on the network {} from {}:\n",
        chain.network, wallet.name
    );
    for output in &prepared.body.outputs {
        let address = chain.address_text(&output.recipient);
        text.push_str(&format!(
            "  {:>18} PIT to {}\n",
            output.amount,
            named(names, &address)
        ));
    }
    text.push_str(&format!("  {:>18} PIT fee\n", prepared.body.fee));
    let left = prepared
        .body
        .total()
        .and_then(|total| prepared.available.checked_sub(total));
    if let Some(left) = left {
        text.push_str(&format!("  {left:>18} PIT will be left\n"));
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "{text}Send it? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        anyhow::bail!("nothing was sent");
    }
    Ok(())
}

/// A payment that the node has accepted.
struct SentPayment<'a> {
    context: &'a Context,
    client: &'a Client,
    wallet: &'a Wallet,
    prepared: &'a PreparedTransfer,
    submitted: Submitted,
}

impl SentPayment<'_> {
    /// Shows what the node accepted, before any wait.
    fn tell_submitted(&self) -> anyhow::Result<()> {
        let (body, submitted) = (&self.prepared.body, &self.submitted);
        let recipients = counted(body.outputs.len() as u64, "recipient");
        let mut fields = vec![
            ("txid   ", submitted.txid.to_string()),
            (
                "amount",
                format!("{} PIT to {recipients}", self.prepared.amounts()),
            ),
            (
                "fee",
                format!("{} PIT ({} bytes)", body.fee, body.signed_size()),
            ),
        ];
        if let Some(replaced) = &submitted.replaced {
            fields.push(("replaces", replaced.clone()));
        }
        if submitted.duplicate {
            fields.push(("note", "the node had this transaction already".to_owned()));
        }
        Ok(self.context.out.fields(&fields)?)
    }

    /// Waits until the payment is as settled as `wanted`.
    async fn settled(&self, wanted: Confirmations) -> anyhow::Result<v1::TransactionStatus> {
        let txid = self.submitted.txid.to_string();
        match wait_and_tell(self.client, &txid, wanted, self.context.json()).await? {
            WaitOutcome::Reached(status) => Ok(status),
            WaitOutcome::Lost(status) => Err(ErrorWithHint {
                error: format!("the payment was not mined: {}", status_sentence(&status)),
                hint: "its money is still in the account; send again if it is still due".to_owned(),
            }
            .into()),
        }
    }

    /// Shows what the sender has left, or all of the payment as JSON.
    async fn tell_outcome(
        &self,
        chain: &ChainIdentity,
        status: Option<&v1::TransactionStatus>,
        names: &WalletNames,
    ) -> anyhow::Result<()> {
        let sender = chain.address_text(&self.wallet.address());
        let account = self.client.account(&sender).await?;
        if !self.context.json() {
            let left = match status {
                Some(_) => pit_unit(account.balance),
                None => format!("{} PIT once it is mined", pit(account.pending_balance)),
            };
            let balance = format!("{left} ({})", self.wallet.name);
            return Ok(self.context.out.fields(&[("balance", balance)])?);
        }
        let body = &self.prepared.body;
        let outputs = body.outputs.iter().map(|output| {
            let recipient = chain.address_text(&output.recipient);
            SentOutputJson {
                name: names.get(&recipient).cloned(),
                recipient,
                amount: output.amount.into(),
            }
        });
        self.context.out.json(&SentJson {
            txid: self.submitted.txid.to_string(),
            network: chain.network.clone(),
            from: self.wallet.name.to_string(),
            sender,
            outputs: outputs.collect(),
            amount: self.prepared.amounts().into(),
            fee: body.fee.into(),
            sequence: body.sequence,
            size_bytes: body.signed_size(),
            duplicate: self.submitted.duplicate,
            replaced_txid: self.submitted.replaced.clone(),
            status: status.map(Into::into),
            balance: account.balance.into(),
            pending_balance: account.pending_balance.into(),
        })
    }
}
