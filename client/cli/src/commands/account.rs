//! `pithead account`: an account, and the transactions that it sent and received.

use clap::Args;
use pithead_api::v1;
use pithead_client::WalletName;

use super::context::Context;
use super::names::{WalletNames, short_named};
use crate::terminal::output::{Column, table};
use crate::terminal::show::{StatusJson, TransactionJson};
use crate::terminal::words::{Money, iso, pit, pit_unit};

/// Arguments of `account`.
#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    /// A wallet or an address.
    #[arg(value_name = "WALLET|ADDRESS")]
    account: String,
    /// List the transactions that it sent and received, newest first.
    #[arg(long)]
    history: bool,
    /// How many transactions to list.
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value_t = 20,
        requires = "history"
    )]
    count: usize,
}

pub(crate) async fn run(context: &Context, args: AccountArgs) -> anyhow::Result<()> {
    let (client, chain, _) = context.connect_to_chain().await?;
    let address = context.resolve(&chain, &args.account)?;
    let account = client.account(&chain.address_text(&address)).await?;
    let history = if args.history {
        Some(
            client
                .account_transactions(&account.address, args.count)
                .await?,
        )
    } else {
        None
    };
    let name = args.account.parse::<WalletName>().ok();
    if context.json() {
        let history = history.map(|history| history.iter().map(entry_json).collect::<Vec<_>>());
        return context.out.json(&serde_json::json!({
            "name": name.map(|name| name.to_string()),
            "address": account.address,
            "balance": Money::from(account.balance),
            "pending_balance": Money::from(account.pending_balance),
            "immature_rewards": Money::from(account.immature_rewards),
            "sequence": account.sequence,
            "next_sequence": account.next_sequence,
            "public_key": hex::encode(&account.public_key),
            "height": account.height,
            "block_hash": account.block_hash,
            "history": history,
        }));
    }
    context.out.fields(&fields(&account, name.as_ref()))?;
    let Some(history) = history else {
        return Ok(());
    };
    if history.is_empty() {
        return Ok(context.out.line("no mined transactions")?);
    }
    let names = context.names(&chain);
    let table = history_table(&history, &account.address, &names);
    Ok(context.out.line(table)?)
}

/// Transactions of an account as a table, one a row.
fn history_table(history: &[v1::AccountTransaction], account: &str, names: &WalletNames) -> String {
    let columns = [
        Column::Right("block"),
        Column::Left("time"),
        Column::Left("txid"),
        Column::Right("change (PIT)"),
        Column::Left("from / to"),
    ];
    let rows = history.iter().map(|entry| {
        let transaction = entry.transaction.clone().unwrap_or_default();
        let status = entry.status.clone().unwrap_or_default();
        let other = if transaction.sender != account {
            format!("from {}", short_named(names, &transaction.sender))
        } else {
            match transaction.outputs.as_slice() {
                [only] => format!("to {}", short_named(names, &only.recipient)),
                outputs => format!("to {} recipients", outputs.len()),
            }
        };
        vec![
            status.block_height.to_string(),
            iso(status.block_time.as_ref()),
            transaction.txid,
            change(entry),
            other,
        ]
    });
    table(&columns, rows)
}

/// The change that a transaction made to the balance, with its sign.
fn change(entry: &v1::AccountTransaction) -> String {
    if entry.debit > entry.credit {
        format!("-{}", pit(entry.debit - entry.credit))
    } else {
        format!("+{}", pit(entry.credit - entry.debit))
    }
}

fn entry_json(entry: &v1::AccountTransaction) -> serde_json::Value {
    serde_json::json!({
        "transaction": entry.transaction.as_ref().map(TransactionJson::from),
        "status": entry.status.as_ref().map(StatusJson::from),
        "debit": Money::from(entry.debit),
        "credit": Money::from(entry.credit),
    })
}

fn fields(
    account: &v1::GetAccountResponse,
    name: Option<&WalletName>,
) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if let Some(name) = name {
        fields.push(("wallet", name.to_string()));
    }
    fields.extend([
        ("address", account.address.clone()),
        ("balance", pit_unit(account.balance)),
    ]);
    if account.pending_balance != account.balance {
        fields.push(("with pending", pit_unit(account.pending_balance)));
    }
    if account.immature_rewards > 0 {
        fields.push(("immature", pit_unit(account.immature_rewards)));
    }
    let key = if account.public_key.is_empty() {
        "not on record yet: the first payment puts it there"
    } else {
        "on record"
    };
    fields.extend([
        (
            "sequence",
            format!("{} (next: {})", account.sequence, account.next_sequence),
        ),
        ("public key", key.to_owned()),
        (
            "at block",
            format!("{} {}", account.height, account.block_hash),
        ),
    ]);
    fields
}
