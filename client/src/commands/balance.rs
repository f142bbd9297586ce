//! `pithead balance`: what wallets or addresses have.

use std::collections::BTreeSet;

use clap::Args;
use pithead_client::WalletName;
use serde::Serialize;

use super::context::Context;
use crate::output::{Column, note, table};
use crate::show::{Money, pit};

/// Arguments of `balance`.
#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    /// Wallets or addresses; none: all wallets.
    #[arg(value_name = "WALLET|ADDRESS")]
    of: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BalanceJson {
    name: Option<String>,
    address: String,
    balance: Money,
    pending_balance: Money,
    immature_rewards: Money,
    sequence: u64,
    next_sequence: u64,
}

pub(crate) async fn run(context: &Context, args: BalanceArgs) -> anyhow::Result<()> {
    let mut asked = Vec::new();
    if args.of.is_empty() {
        let wallets = context.all_wallets()?;
        asked.extend(wallets.iter().map(|wallet| wallet.name.to_string()));
        if asked.is_empty() && !context.json() {
            let hint =
                "no wallets yet: make one with `pithead wallet new NAME`, or name an address";
            return Ok(context.out.line(hint)?);
        }
    } else {
        asked = args.of;
    }
    let (client, chain, info) = context.connect_to_chain().await?;
    let mut balances = Vec::new();
    for text in &asked {
        let address = context.resolve(&chain, text)?;
        let account = client.account(&chain.address_text(&address)).await?;
        let named = text.parse::<WalletName>().is_ok();
        balances.push(BalanceJson {
            name: named.then(|| text.clone()),
            address: account.address,
            balance: account.balance.into(),
            pending_balance: account.pending_balance.into(),
            immature_rewards: account.immature_rewards.into(),
            sequence: account.sequence,
            next_sequence: account.next_sequence,
        });
    }
    // Two wallets may hold one key, and one account be asked for twice.
    let mut seen = BTreeSet::new();
    let distinct: Vec<_> = balances
        .iter()
        .filter(|one| seen.insert(&one.address))
        .collect();
    let sum = |get: fn(&BalanceJson) -> u64| {
        let figures = distinct.iter().map(|one| get(one));
        figures.fold(0, u64::saturating_add)
    };
    let total = sum(|one| one.balance.grains);
    let total_pending = sum(|one| one.pending_balance.grains);
    let total_immature = sum(|one| one.immature_rewards.grains);
    let tip = info.tip.unwrap_or_default();
    if context.json() {
        return context.out.json(&serde_json::json!({
            "network": chain.network,
            "height": tip.height,
            "block_hash": tip.hash,
            "accounts": balances,
            "total": Money::from(total),
        }));
    }
    // Columns that say nothing new are left out.
    let show_pending = balances
        .iter()
        .any(|one| one.pending_balance != one.balance);
    let show_immature = total_immature > 0;
    let mut columns = vec![
        Column::Left("wallet"),
        Column::Left("address"),
        Column::Right("balance (PIT)"),
    ];
    if show_pending {
        columns.push(Column::Right("with pending"));
    }
    if show_immature {
        columns.push(Column::Right("immature rewards"));
    }
    let row = |name: &str, address: &str, balance: u64, pending: u64, immature: u64| {
        let mut row = vec![name.to_owned(), address.to_owned(), pit(balance)];
        if show_pending {
            row.push(pit(pending));
        }
        if show_immature {
            row.push(pit(immature));
        }
        row
    };
    let mut rows: Vec<_> = balances
        .iter()
        .map(|one| {
            row(
                one.name.as_deref().unwrap_or_default(),
                &one.address,
                one.balance.grains,
                one.pending_balance.grains,
                one.immature_rewards.grains,
            )
        })
        .collect();
    if rows.len() > 1 {
        rows.push(row("total", "", total, total_pending, total_immature));
    }
    context.out.line(table(&columns, rows))?;
    note(format!("network {}, block {}", chain.network, tip.height));
    Ok(())
}
