//! `pithead balance`: the balances of wallets or addresses.

use std::collections::BTreeSet;

use clap::Args;
use pithead_client::WalletName;
use serde::Serialize;

use super::context::Context;
use crate::terminal::output::{Column, note, table};
use crate::terminal::words::{Money, pit};

/// Arguments of `balance`.
#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    /// Wallets or addresses [default: all wallets].
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
    let asked = if args.of.is_empty() {
        let wallets = context.all_wallets()?;
        wallets
            .iter()
            .map(|wallet| wallet.name.to_string())
            .collect()
    } else {
        args.of
    };
    if asked.is_empty() && !context.json() {
        let hint = "no wallets yet: make one with `pithead wallet new NAME`, or name an address";
        return Ok(context.out.line(hint)?);
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
    let total = Figures::total(&balances);
    let tip = info.tip.unwrap_or_default();
    if context.json() {
        return context.out.json(&serde_json::json!({
            "network": chain.network,
            "height": tip.height,
            "block_hash": tip.hash,
            "accounts": balances,
            "total": Money::from(total.balance),
        }));
    }
    context.out.line(balance_table(&balances, &total))?;
    note(format!("network {}, block {}", chain.network, tip.height));
    Ok(())
}

/// The three amounts of a row, in grains.
struct Figures {
    balance: u64,
    pending: u64,
    immature: u64,
}

impl Figures {
    fn of(account: &BalanceJson) -> Self {
        Self {
            balance: account.balance.grains,
            pending: account.pending_balance.grains,
            immature: account.immature_rewards.grains,
        }
    }

    /// The sums over all accounts, each account once: two wallets may hold the
    /// same key, and the user may name an account twice.
    fn total(balances: &[BalanceJson]) -> Self {
        let mut seen = BTreeSet::new();
        let distinct = balances.iter().filter(|one| seen.insert(&one.address));
        let zero = Self {
            balance: 0,
            pending: 0,
            immature: 0,
        };
        distinct.map(Self::of).fold(zero, |sum, one| Self {
            balance: sum.balance.saturating_add(one.balance),
            pending: sum.pending.saturating_add(one.pending),
            immature: sum.immature.saturating_add(one.immature),
        })
    }
}

/// Balances as a table; a column that repeats another, or is zero throughout, is
/// left out.
fn balance_table(balances: &[BalanceJson], total: &Figures) -> String {
    let show_pending = balances
        .iter()
        .any(|one| one.pending_balance != one.balance);
    let show_immature = total.immature > 0;
    let mut columns = vec![
        Column::Left("wallet"),
        Column::Left("address"),
        Column::Right("balance (PIT)"),
    ];
    columns.extend(show_pending.then_some(Column::Right("with pending")));
    columns.extend(show_immature.then_some(Column::Right("immature rewards")));
    let row = |name: &str, address: &str, figures: &Figures| {
        let mut row = vec![name.to_owned(), address.to_owned(), pit(figures.balance)];
        row.extend(show_pending.then(|| pit(figures.pending)));
        row.extend(show_immature.then(|| pit(figures.immature)));
        row
    };
    let mut rows: Vec<_> = balances
        .iter()
        .map(|one| {
            let name = one.name.as_deref().unwrap_or_default();
            row(name, &one.address, &Figures::of(one))
        })
        .collect();
    if rows.len() > 1 {
        rows.push(row("total", "", total));
    }
    table(&columns, rows)
}
