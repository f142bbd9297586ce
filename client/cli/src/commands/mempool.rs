//! `pithead mempool`: the transactions that wait to be mined.

use clap::Args;
use pithead_api::v1;

use super::context::Context;
use super::names::{WalletNames, short_named};
use crate::terminal::output::{Column, note, table};
use crate::terminal::show::{TransactionJson, paid};
use crate::terminal::words::{Money, bytes, counted, iso, pit, pit_unit};

/// Arguments of `mempool`.
#[derive(Debug, Args)]
pub(crate) struct MempoolArgs {
    /// List only the transactions that this wallet or address sends.
    #[arg(long, value_name = "WALLET|ADDRESS")]
    sender: Option<String>,
    /// How many transactions to list, best fee rate first.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    count: usize,
}

pub(crate) async fn run(context: &Context, args: MempoolArgs) -> anyhow::Result<()> {
    let (client, chain, _) = context.connect_to_chain().await?;
    let sender = match &args.sender {
        Some(text) => chain.address_text(&context.resolve(&chain, text)?),
        None => String::new(),
    };
    let info = client.mempool_info().await?;
    let (pending, total) = match args.count {
        0 => (Vec::new(), info.transaction_count),
        count => client.pending_transactions(&sender, count).await?,
    };
    if context.json() {
        return context.out.json(&serde_json::json!({
            "transaction_count": info.transaction_count,
            "size_bytes": info.size_bytes,
            "max_size_bytes": info.max_size_bytes,
            "total_fees": Money::from(info.total_fees),
            "min_fee_rate": info.min_fee_rate,
            "entry_fee_rate": info.entry_fee_rate,
            "expiry_secs": info.expiry_secs,
            "transactions": pending.iter().map(pending_json).collect::<Vec<_>>(),
        }));
    }
    context.out.fields(&[
        ("pending", info.transaction_count.to_string()),
        (
            "size",
            format!(
                "{} of {}",
                bytes(info.size_bytes),
                bytes(info.max_size_bytes)
            ),
        ),
        ("fees", pit_unit(info.total_fees)),
        (
            "to enter",
            format!("{} a byte", counted(info.entry_fee_rate, "grain")),
        ),
    ])?;
    if pending.is_empty() {
        return Ok(());
    }
    let names = context.names(&chain);
    context.out.line(pending_table(&pending, &names))?;
    let listed = pending.len() as u64;
    if listed < total {
        note(format!("{listed} of {total} listed: --count N for more"));
    }
    Ok(())
}

/// Pending transactions as a table, one a row.
fn pending_table(pending: &[v1::PendingTransaction], names: &WalletNames) -> String {
    let columns = [
        Column::Left("txid"),
        Column::Left("sender"),
        Column::Right("sequence"),
        Column::Right("outputs"),
        Column::Right("amount (PIT)"),
        Column::Right("grains/byte"),
        Column::Left("received"),
        Column::Left("ready"),
    ];
    let rows = pending.iter().map(|one| {
        let transaction = one.transaction.clone().unwrap_or_default();
        vec![
            transaction.txid.clone(),
            short_named(names, &transaction.sender),
            transaction.sequence.to_string(),
            transaction.outputs.len().to_string(),
            pit(paid(&transaction)),
            one.fee_rate.to_string(),
            iso(one.received_time.as_ref()),
            if one.ready { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(&columns, rows)
}

fn pending_json(pending: &v1::PendingTransaction) -> serde_json::Value {
    serde_json::json!({
        "transaction": pending.transaction.as_ref().map(TransactionJson::from),
        "received_time": iso(pending.received_time.as_ref()),
        "fee_rate": pending.fee_rate,
        "ready": pending.ready,
    })
}
