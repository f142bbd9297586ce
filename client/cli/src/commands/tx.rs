//! `pithead tx`: one transaction and where it stands.

use clap::Args;
use pithead_api::v1;
use pithead_client::Confirmations;
use pithead_consensus::Txid;

use super::context::Context;
use super::names::{WalletNames, named};
use super::wait::wait_and_tell;
use crate::terminal::output::{Column, table};
use crate::terminal::show::{StatusJson, TransactionJson, paid, status_sentence};
use crate::terminal::words::{data, iso, pit, pit_unit};

/// Arguments of `tx`.
#[derive(Debug, Args)]
pub(crate) struct TxArgs {
    /// The transaction's id, 64 hexadecimal digits.
    txid: Txid,
    /// Wait until it is mined; =N: until it has N confirmations; approved: until the validators
    /// approved a block on top of it; final: until it can't be undone.
    #[arg(long, value_name = "mined|N|approved|final", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    wait: Option<Confirmations>,
}

pub(crate) async fn run(context: &Context, args: TxArgs) -> anyhow::Result<()> {
    let (client, chain, info) = context.connect_to_chain().await?;
    let txid = args.txid.to_string();
    if let Some(wanted) = args.wait {
        wanted.check_possible(&info)?;
        // The answer below says how it ended, settled or lost.
        wait_and_tell(&client, &txid, wanted, context.json()).await?;
    }
    let answer = client.transaction(&txid).await?;
    let transaction = answer.transaction.unwrap_or_default();
    let status = answer.status.unwrap_or_default();
    if context.json() {
        return context.out.json(&serde_json::json!({
            "transaction": TransactionJson::from(&transaction),
            "status": StatusJson::from(&status),
        }));
    }
    let names = context.names(&chain);
    context.out.fields(&fields(&transaction, &status, &names))?;
    let columns = [
        Column::Right("#"),
        Column::Left("recipient"),
        Column::Right("amount (PIT)"),
    ];
    let outputs = transaction.outputs.iter().enumerate();
    let rows = outputs.map(|(index, output)| {
        vec![
            index.to_string(),
            named(&names, &output.recipient),
            pit(output.amount),
        ]
    });
    Ok(context.out.line(table(&columns, rows))?)
}

fn fields(
    transaction: &v1::Transaction,
    status: &v1::TransactionStatus,
    names: &WalletNames,
) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("txid", transaction.txid.clone()),
        ("status", status_sentence(status)),
    ];
    if !status.block_hash.is_empty() {
        fields.push(("block", status.block_hash.clone()));
        fields.push(("time", iso(status.block_time.as_ref())));
    } else if status.received_time.is_some() {
        fields.push(("received", iso(status.received_time.as_ref())));
    }
    fields.extend([
        ("sender", named(names, &transaction.sender)),
        ("sequence", transaction.sequence.to_string()),
        ("amount", pit_unit(paid(transaction))),
        ("fee", pit_unit(transaction.fee)),
        ("size", format!("{} bytes", transaction.size_bytes)),
    ]);
    if !transaction.data.is_empty() {
        fields.push(("data", data(&transaction.data)));
    }
    fields
}
