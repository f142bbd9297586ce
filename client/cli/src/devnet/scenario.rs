//! The demonstration: the genesis funds wallets, the wallets pay each other, the
//! miners mine, and the miners' wallet pays all others. After each step the chain
//! must say what the payments imply; if it does not, the demonstration fails.
//! Start with [`run`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::{
    ChainIdentity, Client, Confirmations, SigningKey, Transfer, WaitOutcome, wait_until,
};
use pithead_consensus::{Address, Amount};
use rand::Rng as _;

use super::follow::{BLOCK_TIMEOUT, STEP_TIMEOUT, follow};
use super::plan::Plan;
use super::processes::Devnet;
use super::setup::{DevnetWallets, FUNDS, MINER_WALLET, WALLETS};
use super::stopwatch::Stopwatch;
use super::view::{BalanceRow, DevnetView};
use crate::terminal::words;

/// Amount that each wallet sends, in PIT.
const PAYMENT: &str = "1";
/// Amount that the miners' wallet sends to each wallet, in PIT.
const BONUS: &str = "0.5";
/// Amount that the miners earn before their wallet pays, in PIT.
const EARNINGS: &str = "20";

/// Shows where a network that goes on stands. With validators, waits until a
/// higher block is final than before and returns its height.
pub(super) async fn greet(devnet: &Devnet, plan: &Plan, view: &DevnetView) -> Result<Option<u64>> {
    let info = devnet.client().chain_info().await?;
    view.step("The network goes on");
    view.done(format!(
        "height {}, {} transactions so far",
        info.tip.as_ref().map_or(0, |tip| tip.height),
        info.transaction_count
    ));
    if plan.validators() == 0 {
        return Ok(None);
    }
    let before = info.final_height;
    view.step(&format!("Waiting until more is final than block {before}"));
    let mut secured = before;
    follow(devnet.client(), view, Vec::new(), STEP_TIMEOUT, |event| {
        if let Event::Final(header) = event {
            secured = header.height;
        }
        secured > before
    })
    .await?;
    view.done(format!("block {secured} is final"));
    Ok(Some(secured))
}

/// What every step works with.
struct Demonstration<'a> {
    devnet: &'a Devnet,
    client: &'a Client,
    wallets: &'a DevnetWallets,
    chain: ChainIdentity,
    view: &'a DevnetView,
    /// What each wallet must have now, by address.
    expected: BTreeMap<Address, Amount>,
}

/// Runs the demonstration. With validators, returns the height of the highest
/// block with one of its payments, which is final by then.
pub(super) async fn run(
    devnet: &Devnet,
    plan: &Plan,
    wallets: &DevnetWallets,
    view: &DevnetView,
) -> Result<Option<u64>> {
    let client = devnet.client();
    let stopwatch = match plan.validators() {
        0 => None,
        _ => Some(Stopwatch::start(client).await?),
    };
    let info = client.chain_info().await?;
    let mut demonstration = Demonstration {
        devnet,
        client,
        chain: ChainIdentity::of(&info, None)?,
        wallets,
        view,
        expected: BTreeMap::new(),
    };
    demonstration.funded().await?;
    let before = info.tip.map_or_else(String::new, |tip| tip.hash);
    let mut sent = demonstration.everyone_pays().await?;
    demonstration
        .mine_blocks(before, &sent, plan.blocks)
        .await?;
    demonstration
        .balances("Balances after the payments")
        .await?;
    demonstration.mine_until_earned().await?;
    sent.push(demonstration.miner_pays_everyone().await?);
    demonstration
        .balances("Balances after the miners' payment")
        .await?;
    demonstration.show_chain().await?;
    match stopwatch {
        Some(stopwatch) => Ok(Some(
            demonstration.payments_are_final(&sent, &stopwatch).await?,
        )),
        None => Ok(None),
    }
}

impl Demonstration<'_> {
    /// Step: every wallet has the funds that the genesis gives it.
    async fn funded(&mut self) -> Result<()> {
        self.view.step(&format!(
            "Funding {WALLETS} wallets with {FUNDS} PIT each, in the genesis"
        ));
        let funds: Amount = FUNDS.parse()?;
        for (name, key) in &self.wallets.funded {
            let balance = self.balance(&key.address()).await?;
            ensure!(
                balance == funds,
                "{name} should have {funds} PIT, but has {balance} PIT"
            );
            self.expected.insert(key.address(), funds);
        }
        let all = Amount::sum(self.expected.values().copied())?;
        self.view.done(format!("all {all} PIT are there"));
        Ok(())
    }

    /// Step: every wallet pays a random other one. Returns the txids.
    async fn everyone_pays(&mut self) -> Result<Vec<String>> {
        self.view.step(&format!(
            "Every wallet sends {PAYMENT} PIT to a random other"
        ));
        let amount: Amount = PAYMENT.parse()?;
        let mut txids = Vec::new();
        let mut lines = Vec::new();
        for (index, (name, key)) in self.wallets.funded.iter().enumerate() {
            // Any wallet but the payer: the payer's own place is skipped.
            let pick = rand::rng().random_range(0..self.wallets.funded.len() - 1);
            let pick = if pick >= index { pick + 1 } else { pick };
            let (other_name, other) = self.wallets.funded.get(pick).context("no such wallet")?;
            let transfer = Transfer::new().pay(other.address(), amount);
            let (txid, fee) = self.pay(&transfer, key).await?;
            self.take(key.address(), amount, fee)?;
            self.give(other.address(), amount)?;
            lines.push((name.clone(), other_name.clone(), txid.clone()));
            txids.push(txid);
        }
        self.view.payments(&lines, PAYMENT);
        self.view
            .done(format!("{} transactions are in the mempool", txids.len()));
        Ok(txids)
    }

    /// Step: the miners mine until every payment is in a block and `blocks` more
    /// have come. `from` is a block from before the payments, so none is missed.
    async fn mine_blocks(&self, from: String, txids: &[String], blocks: u64) -> Result<()> {
        self.view.step(&format!(
            "Mining until all payments are in a block and {} have come",
            words::counted(blocks, "more block")
        ));
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        let mut left = blocks;
        let mut open: BTreeSet<&str> = txids.iter().map(String::as_str).collect();
        let limit = STEP_TIMEOUT.saturating_add(BLOCK_TIMEOUT.saturating_mul(count));
        follow(self.client, self.view, vec![from], limit, |event| {
            let Event::Connected(block) = event else {
                return false;
            };
            if open.is_empty() {
                left = left.saturating_sub(1);
            }
            for txid in &block.txids {
                open.remove(txid.as_str());
            }
            open.is_empty() && left == 0
        })
        .await?;
        self.view
            .done(format!("all {} payments are mined", txids.len()));
        Ok(())
    }

    /// Step: every balance is what the payments imply.
    async fn balances(&self, title: &str) -> Result<()> {
        self.view.step(title);
        let mut rows = Vec::new();
        let mut fees_and_all = Amount::ZERO;
        for (name, key) in &self.wallets.funded {
            let address = key.address();
            let account = self.account(&address).await?;
            let found = Amount::from_grains(account.balance)?;
            let expected = self.expected.get(&address).copied().unwrap_or_default();
            ensure!(
                found == expected,
                "{name} should have {expected} PIT, but has {found} PIT"
            );
            fees_and_all = fees_and_all.checked_add(found).context("too much money")?;
            rows.push(BalanceRow {
                name: name.clone(),
                address: account.address,
                balance: found,
                sequence: account.sequence,
            });
        }
        let account = self.account(&self.wallets.miner.address()).await?;
        rows.push(BalanceRow {
            name: MINER_WALLET.to_owned(),
            address: account.address,
            balance: Amount::from_grains(account.balance)?,
            sequence: account.sequence,
        });
        self.view.balances(&rows);
        self.view.done(format!(
            "every wallet has exactly what it should: {fees_and_all} PIT in all"
        ));
        Ok(())
    }

    /// Step: the miners mine on until they have earned enough to pay.
    async fn mine_until_earned(&self) -> Result<()> {
        self.view.step(&format!(
            "Mining on until the miners' rewards reach {EARNINGS} PIT"
        ));
        let goal: Amount = EARNINGS.parse()?;
        while self.balance(&self.wallets.miner.address()).await? < goal {
            let joined = |event: &Event| matches!(event, Event::Connected(_));
            follow(self.client, self.view, Vec::new(), STEP_TIMEOUT, joined).await?;
        }
        let earned = self.balance(&self.wallets.miner.address()).await?;
        self.view.done(format!("they have earned {earned} PIT"));
        Ok(())
    }

    /// Step: the miners' wallet pays every other wallet in one transaction. Returns
    /// its txid.
    async fn miner_pays_everyone(&mut self) -> Result<String> {
        self.view.step(&format!(
            "The miners' wallet sends {BONUS} PIT to all {WALLETS} in one transaction"
        ));
        let amount: Amount = BONUS.parse()?;
        let mut transfer = Transfer::new();
        transfer.data = b"thanks for using the network".to_vec();
        for (_, key) in &self.wallets.funded {
            transfer = transfer.pay(key.address(), amount);
        }
        let (txid, fee) = self.pay(&transfer, &self.wallets.miner).await?;
        for (_, key) in &self.wallets.funded {
            self.give(key.address(), amount)?;
        }
        self.view.line(&format!("  txid {txid}, fee {fee} PIT"));
        let mined = wait_until(self.client, &txid, Confirmations::AtLeast(1), |_| {});
        let outcome = tokio::time::timeout(STEP_TIMEOUT, mined).await;
        if let WaitOutcome::Lost(status) =
            outcome.context("the payment was not mined in time")??
        {
            bail!("the payment ended as {}", status.state().as_str_name());
        }
        self.view.done("mined");
        Ok(txid)
    }

    /// Step: the validators make every payment final. Returns the height of the
    /// highest block that holds one.
    async fn payments_are_final(&self, txids: &[String], stopwatch: &Stopwatch) -> Result<u64> {
        self.view.step("Waiting until every payment is final");
        let mut highest = 0;
        for txid in txids {
            let status = self.client.transaction(txid).await?.status;
            highest = highest.max(status.map_or(0, |status| status.block_height));
        }
        follow(
            self.client,
            self.view,
            Vec::new(),
            STEP_TIMEOUT,
            |event| matches!(event, Event::Final(header) if header.height >= highest),
        )
        .await?;
        let settled = async {
            for txid in txids {
                highest = highest.max(self.final_height_of(txid).await?);
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(STEP_TIMEOUT, settled)
            .await
            .context("a payment did not become final in time")??;
        self.view
            .done(format!("all {} payments are final", txids.len()));
        let (to_approved, to_final) = stopwatch.spreads();
        self.view.spread("approved", to_approved);
        self.view.spread("final", to_final);
        Ok(highest)
    }

    /// Waits until a payment can't be undone; returns the height of its block.
    async fn final_height_of(&self, txid: &str) -> Result<u64> {
        match wait_until(self.client, txid, Confirmations::Final, |_| {}).await? {
            WaitOutcome::Reached(status) => Ok(status.block_height),
            WaitOutcome::Lost(status) => bail!("{txid} ended as {}", status.state().as_str_name()),
        }
    }

    /// Step: shows the chain, and checks that the supply is what was issued.
    async fn show_chain(&self) -> Result<()> {
        self.view.step("The chain");
        let info = self.client.chain_info().await?;
        let tip = info.tip.clone().unwrap_or_default();
        let blocks = self.client.blocks(Some(tip.height), usize::MAX).await?;
        self.view.chain(&blocks);
        let mut workers = 0;
        for node in self.devnet.nodes() {
            workers += node.info().await?.worker_count;
        }
        // A dev network pays rewards at once, so the supply is the allocations and the
        // subsidies of all blocks. Fees only move money.
        let allocated = FUNDS.parse::<Amount>()?.grains() * WALLETS as u64;
        let issued: u64 = blocks.iter().map(|block| block.subsidy).sum();
        ensure!(
            info.supply == allocated + issued,
            "the supply of {} grains is not the allocation of {allocated} and subsidies of {issued}",
            info.supply
        );
        self.view.summary(&info, workers, issued);
        Ok(())
    }

    /// Signs and submits a payment. Returns its txid and its fee.
    async fn pay(&self, transfer: &Transfer, key: &SigningKey) -> Result<(String, Amount)> {
        let prepared = transfer
            .prepare(self.client, &self.chain, key.address())
            .await?;
        let fee = prepared.body.fee;
        let sent = prepared.sign(key)?.submit(self.client).await?;
        Ok((sent.txid.to_string(), fee))
    }

    /// Expects an account to have received an amount.
    fn give(&mut self, to: Address, amount: Amount) -> Result<()> {
        let balance = self.expected.entry(to).or_default();
        *balance = balance.checked_add(amount).context("too much money")?;
        Ok(())
    }

    /// Expects an account to have paid an amount and a fee.
    fn take(&mut self, from: Address, amount: Amount, fee: Amount) -> Result<()> {
        let balance = self.expected.entry(from).or_default();
        *balance = balance
            .checked_sub(amount)
            .and_then(|left| left.checked_sub(fee))
            .context("a wallet spends more than it has")?;
        Ok(())
    }

    async fn account(&self, address: &Address) -> Result<v1::GetAccountResponse> {
        let text = self.chain.address_text(address);
        Ok(self.client.account(&text).await?)
    }

    async fn balance(&self, address: &Address) -> Result<Amount> {
        let account = self.account(address).await?;
        Ok(Amount::from_grains(account.balance)?)
    }
}
