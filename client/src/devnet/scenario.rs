//! The demonstration: wallets are funded, pay each other, blocks are mined,
//! the miners' wallet pays everyone. Every step is checked against what the
//! chain must say then; one that does not hold ends it with an error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::{Chain, Client, SigningKey, Transfer};
use pithead_consensus::{Address, Amount};
use rand::Rng as _;

use super::follow::{BLOCK_TIMEOUT, STEP_TIMEOUT, follow};
use super::made::{FUNDS, MINER_WALLET, Made, WALLETS};
use super::network::Network;
use super::plan::Plan;
use super::stopwatch::Stopwatch;
use super::view::{Balance, View};
use crate::show;

/// What each sends, PIT.
const PAYMENT: &str = "1";
/// What the miners' wallet sends to each, PIT.
const BONUS: &str = "0.5";
/// What the miners must have earned before, PIT.
const EARNINGS: &str = "20";
/// Blocks read at a time.
const BLOCKS_PER_PAGE: u32 = 500;

/// Says where a network that goes on stands; with validators, waits until
/// something more is final, and returns its height.
pub(super) async fn greet(network: &Network, plan: &Plan, view: &View) -> Result<Option<u64>> {
    let info = network.client().chain_info().await?;
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
    follow(network.client(), view, Vec::new(), STEP_TIMEOUT, |event| {
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
struct Stage<'a> {
    network: &'a Network,
    client: &'a Client,
    made: &'a Made,
    chain: Chain,
    view: &'a View,
    /// What each wallet must have now, by address.
    expected: BTreeMap<Address, Amount>,
}

/// Runs the demonstration. With validators, returns the height up to which
/// all of it is final.
pub(super) async fn run(
    network: &Network,
    plan: &Plan,
    made: &Made,
    view: &View,
) -> Result<Option<u64>> {
    let client = network.client();
    let stopwatch = match plan.validators() {
        0 => None,
        _ => Some(Stopwatch::start(client).await?),
    };
    let info = client.chain_info().await?;
    let mut stage = Stage {
        network,
        client,
        chain: Chain::of(&info, None)?,
        made,
        view,
        expected: BTreeMap::new(),
    };
    stage.funded().await?;
    let before = info.tip.map_or_else(String::new, |tip| tip.hash);
    let mut sent = stage.everyone_pays().await?;
    stage.mine_blocks(before, &sent, plan.blocks).await?;
    stage.balances("Balances after the payments").await?;
    stage.mine_until_earned().await?;
    sent.push(stage.miner_pays_everyone().await?);
    stage.balances("Balances after the miners' payment").await?;
    stage.show_chain().await?;
    match stopwatch {
        Some(stopwatch) => Ok(Some(stage.payments_are_final(&sent, &stopwatch).await?)),
        None => Ok(None),
    }
}

impl Stage<'_> {
    /// Step: every wallet has its funds from the genesis.
    async fn funded(&mut self) -> Result<()> {
        self.view.step(&format!(
            "Funding {WALLETS} wallets with {FUNDS} PIT each, in the genesis"
        ));
        let funds: Amount = FUNDS.parse()?;
        for (name, key) in &self.made.wallets {
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

    /// Step: everyone pays a random other. Returns the txids.
    async fn everyone_pays(&mut self) -> Result<Vec<String>> {
        self.view.step(&format!(
            "Every wallet sends {PAYMENT} PIT to a random other"
        ));
        let amount: Amount = PAYMENT.parse()?;
        let mut txids = Vec::new();
        let mut lines = Vec::new();
        for (index, (name, key)) in self.made.wallets.iter().enumerate() {
            // Any but itself: skip one place at the own index.
            let pick = rand::rng().random_range(0..self.made.wallets.len() - 1);
            let pick = if pick >= index { pick + 1 } else { pick };
            let (other_name, other) = self.made.wallets.get(pick).context("no such wallet")?;
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

    /// Step: blocks are mined until the payments are in and three have passed.
    /// `from` is a block from before the payments: none is missed.
    async fn mine_blocks(&self, from: String, txids: &[String], blocks: u64) -> Result<()> {
        self.view.step(&format!(
            "Mining until all payments are in a block and {} have come",
            show::counted(blocks, "more block")
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

    /// Step: what everyone has must be what the payments say.
    async fn balances(&self, title: &str) -> Result<()> {
        self.view.step(title);
        let mut rows = Vec::new();
        let mut fees_and_all = Amount::ZERO;
        for (name, key) in &self.made.wallets {
            let address = key.address();
            let account = self.account(&address).await?;
            let found = Amount::from_grains(account.balance)?;
            let expected = self.expected.get(&address).copied().unwrap_or_default();
            ensure!(
                found == expected,
                "{name} should have {expected} PIT, but has {found} PIT"
            );
            fees_and_all = fees_and_all.checked_add(found).context("too much money")?;
            rows.push(Balance {
                name: name.clone(),
                address: account.address,
                balance: found,
                sequence: account.sequence,
            });
        }
        let account = self.account(&self.made.miner.address()).await?;
        rows.push(Balance {
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

    /// Step: mine on until the miners have earned enough.
    async fn mine_until_earned(&self) -> Result<()> {
        self.view.step(&format!(
            "Mining on until the miners' rewards reach {EARNINGS} PIT"
        ));
        let goal: Amount = EARNINGS.parse()?;
        while self.balance(&self.made.miner.address()).await? < goal {
            let joined = |event: &Event| matches!(event, Event::Connected(_));
            follow(self.client, self.view, Vec::new(), STEP_TIMEOUT, joined).await?;
        }
        let earned = self.balance(&self.made.miner.address()).await?;
        self.view.done(format!("they have earned {earned} PIT"));
        Ok(())
    }

    /// Step: the miners' wallet pays everyone in one transaction.
    async fn miner_pays_everyone(&mut self) -> Result<String> {
        self.view.step(&format!(
            "The miners' wallet sends {BONUS} PIT to all {WALLETS} in one transaction"
        ));
        let amount: Amount = BONUS.parse()?;
        let mut transfer = Transfer::new();
        transfer.data = b"thanks for using the network".to_vec();
        for (_, key) in &self.made.wallets {
            transfer = transfer.pay(key.address(), amount);
        }
        let (txid, fee) = self.pay(&transfer, &self.made.miner).await?;
        for (_, key) in &self.made.wallets {
            self.give(key.address(), amount)?;
        }
        self.view.line(&format!("  txid {txid}, fee {fee} PIT"));
        let mut watched = self.client.watch_transaction(&txid, 1).await?;
        let state = async {
            let mut state = v1::TransactionState::Unspecified;
            while let Some(answer) = self.client.next(&mut watched).await? {
                state = answer.status.map_or(state, |status| status.state());
            }
            Ok::<_, anyhow::Error>(state)
        };
        let state = tokio::time::timeout(STEP_TIMEOUT, state)
            .await
            .context("the payment was not mined in time")??;
        use v1::TransactionState as State;
        ensure!(
            matches!(state, State::Mined | State::Approved | State::Final),
            "the payment ended as {}",
            state.as_str_name()
        );
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
        // 0 confirmations: until it is final.
        let mut watched = self.client.watch_transaction(txid, 0).await?;
        let mut last = v1::TransactionStatus::default();
        while let Some(answer) = self.client.next(&mut watched).await? {
            last = answer.status.unwrap_or_default();
            if last.state() == v1::TransactionState::Final {
                return Ok(last.block_height);
            }
        }
        bail!("{txid} ended as {}", last.state().as_str_name())
    }

    /// Step: the chain, and that the money adds up.
    async fn show_chain(&self) -> Result<()> {
        self.view.step("The chain");
        let info = self.client.chain_info().await?;
        let tip = info.tip.clone().unwrap_or_default();
        let blocks = self.blocks_down_from(tip.height).await?;
        self.view.chain(&blocks);
        let mut workers = 0;
        for node in self.network.nodes() {
            workers += node.info().await?.worker_count;
        }
        // Rewards are paid at once on a dev network, so the supply is the
        // allocation and every block's subsidy; fees only change hands.
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

    /// All blocks from a height down to the genesis.
    async fn blocks_down_from(&self, height: u64) -> Result<Vec<v1::Block>> {
        let mut blocks = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListBlocksRequest {
                page_size: BLOCKS_PER_PAGE,
                page_token,
                start_height: Some(height),
            };
            let page = self
                .client
                .read(|| {
                    let (mut chain, request) = (self.client.chain(), request.clone());
                    async move { chain.list_blocks(request).await }
                })
                .await?;
            blocks.extend(page.blocks);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(blocks);
            }
        }
    }

    async fn pay(&self, transfer: &Transfer, key: &SigningKey) -> Result<(String, Amount)> {
        let prepared = transfer
            .prepare(self.client, &self.chain, key.address())
            .await?;
        let fee = prepared.body.fee;
        let sent = prepared.sign(key)?.submit(self.client).await?;
        Ok((sent.txid.to_string(), fee))
    }

    fn give(&mut self, to: Address, amount: Amount) -> Result<()> {
        let balance = self.expected.entry(to).or_default();
        *balance = balance.checked_add(amount).context("too much money")?;
        Ok(())
    }

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
