//! What the tests of the node share: a network whose blocks take two hashes,
//! and the real `pithead-node` process on it. Start with [`Network`] and
//! [`TestNode::start`].

pub mod reference;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_api::v1::transaction_service_client::TransactionServiceClient;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{
    Address, Block, BlockCommitment, BlockHash, BlockHeader, Decode as _, Encode as _, Genesis,
    SignedTransaction,
};
use tempfile::TempDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::chain::{SmallChain, easy_network, mine};
use crate::{ALLOCATION, key};

/// Longest wait for anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at what can't be awaited.
const POLL: Duration = Duration::from_millis(10);

/// Unix seconds now.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A genesis and the file that it is in.
pub struct Network {
    pub file: GenesisFile,
    pub genesis: Genesis,
    dir: TempDir,
}

impl Network {
    /// Blocks take two hashes and nearly stay that easy; rewards are paid at once.
    pub fn easy() -> Self {
        Self::with(|_| {})
    }

    /// The same with changes.
    pub fn with(change: impl FnOnce(&mut GenesisFile)) -> Self {
        let allocations: Vec<_> = (0..4)
            .map(|index| (key(index).address, ALLOCATION))
            .collect();
        let mut file = GenesisFile {
            time: u32::try_from(now()).unwrap() - 600,
            half_life_secs: 86_400,
            ..easy_network(&allocations, 0)
        };
        change(&mut file);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("genesis.toml"), file.to_toml().unwrap()).unwrap();
        Self {
            genesis: file.check().unwrap(),
            file,
            dir,
        }
    }

    /// The genesis file's path.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("genesis.toml")
    }

    /// An address as text.
    pub fn text(&self, address: &Address) -> String {
        address.to_text(&self.genesis.prefix)
    }

    /// Test key's address as text.
    pub fn address(&self, index: usize) -> String {
        self.text(&key(index).address)
    }

    /// The genesis hash.
    pub fn hash(&self) -> BlockHash {
        self.genesis.params.genesis_hash
    }

    /// A payment of `amount` grains from one test key to another.
    pub fn pay(
        &self,
        from: usize,
        sequence: u64,
        to: usize,
        amount: u64,
        fee: u64,
    ) -> SignedTransaction {
        key(from).pay(&self.hash(), sequence, fee, &[(key(to).address, amount)])
    }

    /// A chain of its own, for making blocks without a node.
    pub fn mirror(&self) -> SmallChain {
        SmallChain::new(&self.file)
    }
}

/// `pithead-node` with no environment variable that could change its settings.
pub fn program() -> Command {
    let mut command = Command::new(built("pithead-node"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PITHEAD_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A program of the workspace, beside the folder of the running test; it is built if it is not
/// there yet. Cargo builds a package's own programs before that package's tests.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--bin", name]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "{name} does not build");
    }
    path
}

/// Runs the program to its end; one that does not end is killed and fails the
/// test.
pub fn run_to_end(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(id, "KILL");
            panic!("the program was still running after {PATIENCE:?}");
        }
    }
}

/// The standard error of a run that has to fail.
pub fn failure_of(command: &mut Command) -> String {
    let output = run_to_end(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it succeeded: {text}");
    text
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Shows a token with every request.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection that shows a token, or none.
pub type Line = InterceptedService<Channel, Bearer>;

/// A running `pithead-node`; killed when dropped.
pub struct TestNode {
    child: Child,
    data_dir: PathBuf,
    address: String,
    log: Arc<Mutex<String>>,
    channel: Channel,
}

impl TestNode {
    /// Starts a node on `dir` and waits until it serves.
    pub fn start(network: &Network, dir: &Path) -> Self {
        Self::start_with(network, dir, &[])
    }

    /// The same with more flags.
    pub fn start_with(network: &Network, dir: &Path, flags: &[&str]) -> Self {
        let ready = dir.join("ready");
        // A leftover of the run before would name its address.
        let _ = std::fs::remove_file(&ready);
        let mut command = bare_node_command(network, dir);
        if !flags.contains(&"--listen") {
            command.arg("--offline");
        }
        // Tests ask often, and do not wait for a small fee to be worth a template.
        for default in [
            ["--rpc-requests-per-minute", "0"],
            ["--template-refresh-secs", "1"],
        ] {
            if !flags.contains(&default[0]) {
                command.args(default);
            }
        }
        command.arg("--ready-file").arg(&ready).args(flags);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                writer.lock().unwrap().push_str(&text);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break text.trim().to_owned();
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                panic!("the node does not start: {}", log.lock().unwrap());
            }
            std::thread::sleep(POLL);
        };
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            child,
            data_dir: dir.to_owned(),
            address,
            log,
            channel,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// IP:PORT of its API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its connection without a token.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The content of one of its token files.
    pub fn token(&self, role: &str) -> String {
        let path = self.data_dir.join(format!("{role}.token"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A connection that shows this token.
    pub fn line_with(&self, token: &str) -> Line {
        let value = format!("Bearer {token}").parse().unwrap();
        InterceptedService::new(self.channel(), Bearer(Some(value)))
    }

    fn line(&self, role: &str) -> Line {
        self.line_with(&self.token(role))
    }

    /// ChainService.
    pub fn chain(&self) -> ChainServiceClient<Channel> {
        ChainServiceClient::new(self.channel())
    }

    /// TransactionService.
    pub fn transactions(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.channel())
    }

    /// NetworkService.
    pub fn network(&self) -> NetworkServiceClient<Channel> {
        NetworkServiceClient::new(self.channel())
    }

    /// MiningService with the mine token.
    pub fn mining(&self) -> MiningServiceClient<Line> {
        MiningServiceClient::new(self.line("mine")).max_encoding_message_size(8 << 20)
    }

    /// AdminService with the admin token.
    pub fn admin(&self) -> AdminServiceClient<Line> {
        AdminServiceClient::new(self.line("admin"))
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end. Not by blocking: the test's own connections have to
    /// see that the node closes them.
    pub async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn terminate(mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait().await
    }

    /// Mines a block on the node's present template.
    pub async fn next_block(&self, reward: &Address, network: &Network) -> Block {
        let template = self
            .mining()
            .get_block_template(v1::GetBlockTemplateRequest {
                reward_address: network.text(reward),
                include_transactions: true,
            })
            .await
            .unwrap()
            .into_inner();
        let mut header = BlockHeader::decode(&template.header).unwrap();
        mine(&mut header);
        Block {
            header,
            commitment: BlockCommitment::decode(&template.commitment).unwrap(),
            transactions: template
                .transactions
                .iter()
                .map(|raw| SignedTransaction::decode(raw).unwrap())
                .collect(),
        }
    }

    /// Hands in a block.
    pub async fn submit_block(&self, block: &Block) -> v1::SubmitBlockResponse {
        self.mining()
            .submit_block(v1::SubmitBlockRequest {
                raw: block.encode().into(),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// Hands in a block that has to become the tip.
    pub async fn extend(&self, block: &Block) {
        let response = self.submit_block(block).await;
        assert_eq!(
            response.outcome(),
            v1::SubmitOutcome::AcceptedBlock,
            "{}",
            response.detail
        );
    }

    /// Waits until the template holds whatever could be mined.
    pub async fn settle(&self, network: &Network) {
        let pending = self
            .transactions()
            .list_pending_transactions(v1::ListPendingTransactionsRequest {
                page_size: 1_000,
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        let ready = pending
            .transactions
            .iter()
            .filter(|each| each.ready)
            .count();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = v1::GetBlockTemplateRequest {
                reward_address: network.address(7),
                include_transactions: false,
            };
            let template = self.mining().get_block_template(request).await.unwrap();
            if template.into_inner().transaction_count as usize >= ready {
                return;
            }
            assert!(Instant::now() < deadline, "the template does not follow");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Mines blocks with what is pending; returns the last one's hash.
    pub async fn mine(&self, network: &Network, count: usize) -> String {
        let mut hash = String::new();
        self.settle(network).await;
        for _ in 0..count {
            let block = self.next_block(&key(7).address, network).await;
            hash = block.header.hash().to_string();
            self.extend(&block).await;
        }
        hash
    }

    /// Submits a transaction.
    pub async fn submit(&self, transaction: &SignedTransaction) -> v1::SubmitTransactionResponse {
        self.submit_raw(transaction.encode()).await
    }

    /// Submits the bytes of a transaction.
    pub async fn submit_raw(&self, raw: Vec<u8>) -> v1::SubmitTransactionResponse {
        use v1::submit_transaction_request::Transaction;
        self.transactions()
            .submit_transaction(v1::SubmitTransactionRequest {
                transaction: Some(Transaction::Raw(raw.into())),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// Submits a transaction that has to be accepted; returns its txid.
    pub async fn accept(&self, transaction: &SignedTransaction) -> String {
        let response = self.submit(transaction).await;
        assert_eq!(
            response.outcome(),
            v1::SubmitTransactionOutcome::Accepted,
            "{:?}",
            response.rejection
        );
        response.txid
    }

    /// GetAccount of a test key.
    pub async fn account(&self, network: &Network, index: usize) -> v1::GetAccountResponse {
        self.chain()
            .get_account(v1::GetAccountRequest {
                address: network.address(index),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// GetChainInfo.
    pub async fn info(&self) -> v1::GetChainInfoResponse {
        self.chain()
            .get_chain_info(v1::GetChainInfoRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits until something holds that no stream tells of; `what` says what, if it
    /// never does.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        self.until_within(PATIENCE, what, look).await
    }

    /// The same, with a patience of its own.
    pub async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Follows the chain until a step of it is the awaited one.
    async fn until_step(&self, what: &str, is_it: impl Fn(&v1::BlockHeader) -> bool) {
        use v1::subscribe_chain_response::Event;
        let request = v1::SubscribeChainRequest::default();
        let stream = self.chain().subscribe_chain(request).await;
        let mut stream = stream.unwrap().into_inner();
        let following = async {
            loop {
                let step = stream.message().await.unwrap().expect("it goes on");
                let header = match step.event.unwrap() {
                    Event::Start(header) => header,
                    Event::Connected(block) => block.header.unwrap(),
                    _ => continue,
                };
                if is_it(&header) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, following).await.is_err() {
            panic!("{what}: {}", self.log());
        }
    }

    /// Waits until a block is the tip, or was meanwhile.
    pub async fn until_tip(&self, hash: &str) {
        self.until_step(&format!("the tip is {hash}"), |tip| tip.hash == hash)
            .await;
    }

    /// Waits until the chain has so many blocks.
    pub async fn until_height(&self, height: u64) {
        self.until_step(&format!("{height} blocks"), |tip| tip.height >= height)
            .await;
    }

    /// ListPeers, its first page.
    pub async fn peers(&self) -> Vec<v1::Peer> {
        let request = v1::ListPeersRequest::default();
        let response = self.network().list_peers(request).await;
        response.unwrap().into_inner().peers
    }

    /// Where it listens for other nodes, and who it is to them.
    pub async fn node_info(&self) -> v1::GetNodeInfoResponse {
        let info = self
            .network()
            .get_node_info(v1::GetNodeInfoRequest {})
            .await;
        info.unwrap().into_inner()
    }

    /// How many approvals it has of the checkpoint at a height; none if that is not there.
    pub async fn approvals_at(&self, height: u64) -> usize {
        let request = v1::ListApprovalsRequest {
            checkpoint: Some(v1::list_approvals_request::Checkpoint::Height(height)),
        };
        let listed = self.chain().list_approvals(request).await;
        listed.map_or(0, |listed| listed.into_inner().approvals.len())
    }

    /// Height of the tip.
    pub async fn height(&self) -> u64 {
        self.info().await.tip.unwrap().height
    }
}

/// Waits until every one of so many votes for the checkpoint at a height has come to each
/// node, or has approved it, and all have the same highest approved checkpoint: from there
/// each votes for the next block.
pub async fn until_settled(nodes: &[&TestNode], height: u64, votes: usize, patience: Duration) {
    for node in nodes {
        node.until_within(patience, "every vote comes", async || {
            let settled = node.info().await.approved_height >= height
                || node.approvals_at(height).await >= votes;
            settled.then_some(())
        })
        .await;
    }
    nodes[0]
        .until_within(patience, "all approve the same", async || {
            let mut approved = BTreeSet::new();
            for node in nodes {
                approved.insert(node.info().await.approved_height);
            }
            (approved.len() == 1).then_some(())
        })
        .await;
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program on a network and a directory, with a free port, keeping to itself.
pub fn node_command(network: &Network, dir: &Path) -> Command {
    let mut command = bare_node_command(network, dir);
    command.arg("--offline");
    command
}

fn bare_node_command(network: &Network, dir: &Path) -> Command {
    let mut command = program();
    command.arg("--genesis").arg(network.path());
    command.arg("--data-dir").arg(dir);
    command.args(["--rpc-listen", "127.0.0.1:0"]);
    command
}

/// Runs `--verify` on a directory; it has to find everything in order.
pub fn verify(network: &Network, dir: &Path) -> String {
    let output = run_to_end(node_command(network, dir).arg("--verify"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("everything agrees"), "{text}");
    text
}

/// A new directory for a node's data.
pub fn data_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The next item of a stream, awaited with patience.
pub async fn next<T>(stream: &mut tonic::Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("an item in time")
        .expect("no error")
        .expect("the stream goes on")
}

/// The end of a stream: nothing, or the error that it ended with.
pub async fn end_of<T>(stream: &mut tonic::Streaming<T>) -> Option<Status> {
    loop {
        let item = tokio::time::timeout(PATIENCE, stream.message()).await;
        match item.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// The reason in a status's ErrorInfo, whose domain has to be Pithead's.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "pithead");
    info.reason.clone()
}

/// The field of a status's only violation.
pub fn violated_field(status: &Status) -> String {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violations = &details
        .bad_request()
        .expect("a BadRequest")
        .field_violations;
    assert_eq!(violations.len(), 1);
    assert!(!violations[0].description.is_empty());
    violations[0].field.clone()
}
