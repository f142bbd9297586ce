//! What the tests of the command share: a fake node, behind the real service
//! definitions on a port of its own, and the command as a real process.
#![allow(unreachable_pub)]

#[cfg(unix)]
pub mod processes;
pub mod services;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard};

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::{Passphrase, SigningKey, WalletName, Wallets};
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, AddressPrefix, Amount, SignedTransaction};

/// A URL at which no node listens.
pub const NO_NODE: &str = "http://127.0.0.1:1";

/// What the fake node knows and was told.
#[derive(Default)]
pub struct State {
    pub info: v1::GetChainInfoResponse,
    pub blocks: Vec<v1::Block>,
    pub accounts: HashMap<String, v1::GetAccountResponse>,
    pub pending: Vec<v1::PendingTransaction>,
    /// Transactions that were submitted and accepted.
    pub submitted: Vec<SignedTransaction>,
    /// The answer to the next submission, instead of an honest one.
    pub next_answer: Option<v1::SubmitTransactionResponse>,
    /// How often reads are refused with RESOURCE_EXHAUSTED before they work.
    pub refusals: u32,
    /// Events of each chain subscription, in turn; then it ends.
    pub subscriptions: VecDeque<Vec<v1::SubscribeChainResponse>>,
    /// The known hashes of each chain subscription so far.
    pub resumed_from: Vec<Vec<String>>,
    /// Statuses that each watch of a transaction tells, in turn; then it ends.
    pub watches: VecDeque<Vec<v1::TransactionStatus>>,
    /// The validators, as the node lists them.
    pub validators: v1::ListValidatorsResponse,
    /// Proofs against them.
    pub evidence: Vec<v1::Evidence>,
    /// Approvals of checkpoints by height.
    pub approvals: HashMap<u64, v1::ListApprovalsResponse>,
    /// Transactions by txid.
    pub transactions: HashMap<String, v1::GetTransactionResponse>,
    /// What `authorization` said on calls that need a token.
    pub tokens: Vec<Option<String>>,
}

/// A running fake node.
pub struct FakeNode {
    pub url: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeNode {
    /// A node of this network with three blocks.
    pub async fn start(network: Network) -> Self {
        let genesis = network.genesis().unwrap();
        let mut state = State {
            info: v1::GetChainInfoResponse {
                network: genesis.name.clone(),
                address_prefix: genesis.prefix.to_string(),
                genesis_hash: genesis.params.genesis_hash.to_string(),
                next_subsidy: 5_000_000_000,
                supply: 15_000_000_000,
                network_hash_rate: 1_500_000.0,
                mean_block_interval_secs: 2.0,
                parameters: Some(v1::ConsensusParameters {
                    block_interval_secs: 2,
                    ..v1::ConsensusParameters::default()
                }),
                ..v1::GetChainInfoResponse::default()
            },
            ..State::default()
        };
        let reward = Address([7; 32]).to_text(&genesis.prefix);
        state.blocks = (0..3).map(|height| block(height, 'a', &reward)).collect();
        state.info.tip = state.blocks.last().and_then(|block| block.header.clone());
        let state = Arc::new(Mutex::new(state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(services::serve(listener, Arc::clone(&state)));
        Self { url, state, task }
    }

    /// A node of a network with so many validators, and all of their keys. There is a
    /// checkpoint every 10 blocks; the tip is 42, block 30 approved and block 20 final.
    pub async fn with_validators(validators: usize, quorum: u32) -> (Self, Vec<SigningKey>) {
        let node = Self::start(Network::Dev).await;
        let keys: Vec<_> = (0..validators)
            .map(|_| SigningKey::generate().unwrap())
            .collect();
        let prefix = Network::Dev.genesis().unwrap().prefix;
        let mut state = node.state();
        let parameters = state.info.parameters.as_mut().unwrap();
        parameters.validator_count = u32::try_from(validators).unwrap();
        parameters.approval_quorum = quorum;
        parameters.checkpoint_interval = 10;
        state.info.approved_height = 30;
        state.info.approved_hash = hash(30, 'a');
        state.info.approved_lag = 12;
        state.info.final_height = 20;
        state.info.final_lag = 22;
        state.info.tip.as_mut().unwrap().height = 42;
        state.validators = v1::ListValidatorsResponse {
            validators: keys
                .iter()
                .map(|key| v1::Validator {
                    address: key.address().to_text(&prefix),
                    public_key: key.public_key().modulus().to_vec().into(),
                    ..v1::Validator::default()
                })
                .collect(),
            approval_quorum: quorum,
        };
        drop(state);
        (node, keys)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives an account a balance.
    pub fn fund(&self, address: &Address, pit: &str) {
        let prefix = AddressPrefix::new(&self.state().info.address_prefix).unwrap();
        let address = address.to_text(&prefix);
        let balance = pit.parse::<Amount>().unwrap().grains();
        let account = v1::GetAccountResponse {
            address: address.clone(),
            balance,
            pending_balance: balance,
            height: 2,
            block_hash: hash(2, 'a'),
            ..v1::GetAccountResponse::default()
        };
        self.state().accounts.insert(address, account);
    }
}

/// A message of a chain subscription.
pub fn chain_event(event: Event, cursor: String) -> v1::SubscribeChainResponse {
    v1::SubscribeChainResponse {
        event: Some(event),
        cursor,
        sent_time: None,
    }
}

/// A made-up block hash that names its height and its branch.
pub fn hash(height: u64, branch: char) -> String {
    format!("{:032x}{height:032x}", u32::from(branch))
}

/// A block with that hash.
pub fn block(height: u64, branch: char, reward_address: &str) -> v1::Block {
    let time = 1_793_491_200 + i64::try_from(height).unwrap() * 2;
    v1::Block {
        header: Some(v1::BlockHeader {
            hash: hash(height, branch),
            height,
            time: Some(prost_types::Timestamp {
                seconds: time,
                nanos: 0,
            }),
            ..v1::BlockHeader::default()
        }),
        commitment: Some(v1::BlockCommitment {
            reward_address: reward_address.to_owned(),
            ..v1::BlockCommitment::default()
        }),
        subsidy: 5_000_000_000,
        best_chain: true,
        confirmations: 1,
        ..v1::Block::default()
    }
}

/// A wallet folder with unencrypted keys of these names, and their addresses.
pub fn wallets(folder: &Path, names: &[&str]) -> Vec<Address> {
    let wallets = Wallets::in_folder(folder);
    let add = |name: &&str| {
        let name: WalletName = name.parse().unwrap();
        let key = SigningKey::generate().unwrap();
        wallets
            .add(&name, &key, None::<&Passphrase>)
            .unwrap()
            .address()
    };
    names.iter().map(add).collect()
}

/// Runs the command in a clean environment, on that node and that folder.
pub async fn pithead(url: &str, folder: &Path, args: &[&str]) -> Output {
    pithead_with(url, folder, args, &[]).await
}

/// The same with environment variables.
pub async fn pithead_with(
    url: &str,
    folder: &Path,
    args: &[&str],
    variables: &[(&str, &str)],
) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_pithead"))
        .env_clear()
        .env("HOME", folder)
        .env("PITHEAD_NODE", url)
        .env("PITHEAD_WALLET_DIR", folder)
        .envs(variables.iter().copied())
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

/// Standard output of a command that must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{:?}: {}",
        output.status,
        stderr(output)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output as JSON.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Standard error of a command that must have failed with this status.
pub fn failure(output: &Output, code: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains("error: "), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}
