//! The demonstration: wallets are funded, pay each other, blocks are mined,
//! the miners' wallet pays everyone. Every step is checked against what the
//! chain must say then; one that does not hold ends it with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::wallet::WalletName;
use pithead_client::{Chain, Client, SigningKey, Transfer, Wallets};
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network as BuiltIn};
use pithead_consensus::{Address, Amount};
use rand::Rng as _;

use super::network::{Layout, Network};
use super::view::{Balance, View};

/// Wallets of the demonstration.
const WALLETS: usize = 25;
/// What each is funded with, PIT.
const FUNDS: &str = "100";
/// What each sends, PIT.
const PAYMENT: &str = "1";
/// What the miners' wallet sends to each, PIT.
const BONUS: &str = "0.5";
/// What the miners must have earned before, PIT.
const EARNINGS: &str = "20";
/// Blocks to be mined after the payments.
const BLOCKS: u64 = 3;
/// Name of the wallet that the miners are paid to.
const MINER_WALLET: &str = "miner";
/// Compact target to begin with: 2^24 hashes, about a second of two cores. The
/// preset's 2^20 would bring several blocks a second until the rule catches up.
const FIRST_BITS: u32 = 0x1e00_ffff;
/// Longest wait for one step; a block is due every two seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(300);
/// Blocks read at a time.
const BLOCKS_PER_PAGE: u32 = 500;

/// The wallets of the network.
pub(super) struct Made {
    prefix: pithead_consensus::AddressPrefix,
    wallets: Vec<(String, SigningKey)>,
    miner: SigningKey,
    /// The miners' address as text.
    pub(super) miner_address: String,
}

impl Made {
    /// The name and the address of the first wallet, for examples.
    pub(super) fn example(&self) -> (&str, String) {
        match self.wallets.first() {
            Some((name, key)) => (name, key.address().to_text(&self.prefix)),
            None => (MINER_WALLET, self.miner_address.clone()),
        }
    }
}

/// Makes wallets and genesis, or reads those of an earlier run back.
pub(super) async fn prepare(layout: &Layout, view: &View, resumed: bool) -> Result<Made> {
    let layout = layout.clone();
    let shown = view.clone();
    tokio::task::spawn_blocking(move || {
        if resumed {
            load(&layout)
        } else {
            create(&layout, &shown)
        }
    })
    .await
    .context("making the wallets")?
}

fn create(layout: &Layout, view: &View) -> Result<Made> {
    view.step("Making 25 wallets, one for the miners, and a fresh genesis");
    let began = Instant::now();
    let names: Vec<String> = (1..=WALLETS)
        .map(|number| format!("wallet-{number:02}"))
        .chain([MINER_WALLET.to_owned()])
        .collect();
    let store = Wallets::in_folder(layout.wallets());
    let mut keys = generate(names.len(), view)?;
    for (name, key) in names.iter().zip(&keys) {
        let name: WalletName = name.parse()?;
        // Play money: the keys are kept open so that examples need no passphrase.
        store.add(&name, key, None)?;
    }
    let miner = keys.pop().context("no key for the miners")?;
    let wallets: Vec<(String, SigningKey)> = names.into_iter().zip(keys).collect();

    let file = BuiltIn::Dev.genesis_file();
    let prefix = BuiltIn::Dev.genesis()?.prefix;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let file = GenesisFile {
        name: "devnet".to_owned(),
        bits: FIRST_BITS,
        time: u32::try_from(now).context("the clock is beyond 2106")?,
        allocations: wallets
            .iter()
            .map(|(_, key)| AllocationEntry {
                address: key.address().to_text(&prefix),
                amount: FUNDS.to_owned(),
            })
            .collect(),
        ..file
    };
    let genesis = file.check()?;
    std::fs::create_dir_all(layout.folder())?;
    std::fs::write(layout.genesis(), file.to_toml()?)
        .with_context(|| format!("writing {}", layout.genesis().display()))?;
    view.done(format!(
        "{} keys in {:.1} s; genesis {}",
        wallets.len() + 1,
        began.elapsed().as_secs_f64(),
        genesis.params.genesis_hash
    ));
    Ok(Made {
        miner_address: miner.address().to_text(&prefix),
        prefix,
        wallets,
        miner,
    })
}

/// Generates keys on every core: finding primes is what takes the time.
fn generate(count: usize, view: &View) -> Result<Vec<SigningKey>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = view.progress(count);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let made: Vec<Result<Vec<SigningKey>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut keys = Vec::new();
                    while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < count {
                        keys.push(SigningKey::generate()?);
                        progress.tick();
                    }
                    Ok(keys)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(keys) => keys,
                Err(_) => bail!("generating a key failed"),
            })
            .collect()
    });
    progress.end();
    let mut keys = Vec::with_capacity(count);
    for part in made {
        keys.extend(part?);
    }
    Ok(keys)
}

fn load(layout: &Layout) -> Result<Made> {
    let text = std::fs::read_to_string(layout.genesis())?;
    let genesis = GenesisFile::from_toml(&text)?.check()?;
    let store = Wallets::in_folder(layout.wallets());
    let mut wallets = Vec::new();
    let mut miner = None;
    for name in store.names()? {
        let key = store.open(&name)?.unlock(None)?;
        if name.as_str() == MINER_WALLET {
            miner = Some(key);
        } else {
            wallets.push((name.to_string(), key));
        }
    }
    let miner = miner.with_context(|| {
        format!(
            "{} holds no wallet {MINER_WALLET:?}: the network's folder is incomplete",
            layout.wallets().display()
        )
    })?;
    Ok(Made {
        miner_address: miner.address().to_text(&genesis.prefix),
        prefix: genesis.prefix,
        wallets,
        miner,
    })
}

/// Says where a network that goes on stands.
pub(super) async fn greet(network: &Network, view: &View) -> Result<()> {
    let info = network.client().chain_info().await?;
    view.step("The network goes on");
    view.done(format!(
        "height {}, {} transactions so far",
        info.tip.as_ref().map_or(0, |tip| tip.height),
        info.transaction_count
    ));
    Ok(())
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

/// Runs the demonstration.
pub(super) async fn run(network: &Network, made: &Made, view: &View) -> Result<()> {
    let client = network.client();
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
    let sent = stage.everyone_pays().await?;
    stage.mine_blocks(before, &sent).await?;
    stage.balances("Balances after the payments").await?;
    stage.mine_until_earned().await?;
    stage.miner_pays_everyone().await?;
    stage.balances("Balances after the miners' payment").await?;
    stage.show_chain().await
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
    async fn mine_blocks(&self, from: String, txids: &[String]) -> Result<()> {
        self.view.step(&format!(
            "Mining until all payments are in a block and {BLOCKS} more blocks have come"
        ));
        let mut left = BLOCKS;
        let mut open: BTreeSet<&str> = txids.iter().map(String::as_str).collect();
        self.follow(vec![from], |block| {
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
            self.follow(Vec::new(), |_| true).await?;
        }
        let earned = self.balance(&self.made.miner.address()).await?;
        self.view.done(format!("they have earned {earned} PIT"));
        Ok(())
    }

    /// Step: the miners' wallet pays everyone in one transaction.
    async fn miner_pays_everyone(&mut self) -> Result<()> {
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
        ensure!(
            state == v1::TransactionState::Mined,
            "the payment ended as {}",
            state.as_str_name()
        );
        self.view.done("mined");
        Ok(())
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

    /// Shows blocks as they come, after a known one or from now on, until
    /// `enough` says so.
    async fn follow(
        &self,
        known: Vec<String>,
        mut enough: impl FnMut(&v1::Block) -> bool,
    ) -> Result<()> {
        let mut events = self
            .client
            .subscribe_chain(known, v1::BlockView::Txids)
            .await?;
        let following = async {
            while let Some(event) = self.client.next(&mut events).await? {
                if let Some(Event::Connected(block)) = event.event {
                    self.view.block(&block);
                    if enough(&block) {
                        return Ok(());
                    }
                }
            }
            bail!("the node ended the stream of blocks")
        };
        tokio::time::timeout(STEP_TIMEOUT, following)
            .await
            .with_context(|| format!("no progress within {} s", STEP_TIMEOUT.as_secs()))?
    }
}

/// Shows blocks as they come, for ever.
pub(super) async fn keep_watching(network: &Network, view: &View) -> Result<()> {
    let mut events = network
        .client()
        .subscribe_chain(Vec::new(), v1::BlockView::Txids)
        .await?;
    while let Some(event) = network.client().next(&mut events).await? {
        if let Some(Event::Connected(block)) = event.event {
            view.block(&block);
        }
    }
    bail!("the node ended the stream of blocks")
}
