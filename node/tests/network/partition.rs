//! A network that is split and heals, in network namespaces: two halves that
//! can't reach each other both mine; once they can, they have one chain, and what
//! only the losing half had mined waits in the mempools again.
//!
//! The namespaces are this test's own: it starts itself anew inside them, by
//! `unshare`, without any privileges. Where the system does not allow that, it says
//! so and ends; with `CI` set it fails, so that it is never left out unseen.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_api::v1::transaction_service_client::TransactionServiceClient;
use pithead_consensus::Encode as _;
use pithead_testkit::process::{Network, PATIENCE, data_dir};
use pithead_testkit::{FEE, PIT};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// Set within the namespaces.
const INSIDE: &str = "PARTITION_TEST_INSIDE";
/// Nodes of each half; from one address, two are taken as peers.
const HALF: usize = 2;

/// Runs a line of shell.
fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
}

/// A half's namespace is held by a process that sleeps; its link to this test is
/// 10.9.N.0/24, and that to the other half 10.8.0.N.
struct Half {
    holder: Child,
    number: usize,
}

impl Half {
    fn new(number: usize) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo here; exec sleep 1000"]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        // It is in its namespace once it can speak.
        let mut word = [0; 4];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
        let half = Self { holder, number };
        let pid = half.holder.id();
        sh(&format!(
            "ip link add test{number} type veth peer name outer netns {pid}
             ip addr add 10.9.{number}.1/24 dev test{number}
             ip link set test{number} up"
        ));
        half.sh(&format!(
            "ip link set lo up
             ip addr add 10.9.{number}.2/24 dev outer
             ip link set outer up"
        ));
        half
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.arg(program);
        command
    }

    fn sh(&self, line: &str) {
        let output = self.enter("sh").args(["-ec", line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }

    /// Connects the halves to each other.
    fn join(&self, other: &Self) {
        let (pid, other_pid) = (self.holder.id(), other.holder.id());
        sh(&format!(
            "ip link add between netns {pid} type veth peer name between netns {other_pid}"
        ));
        for half in [self, other] {
            half.sh(&format!(
                "ip addr add 10.8.0.{}/24 dev between",
                half.number
            ));
        }
    }

    /// Whether packets get across.
    fn set_link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.sh(&format!("ip link set between {state}"));
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A node in a half.
struct Node {
    child: Child,
    channel: Channel,
    admin_token: String,
}

impl Node {
    fn start(
        half: &Half,
        port: u16,
        network: &Network,
        dir: &Path,
        bootnode: Option<&str>,
    ) -> Self {
        let rpc = format!("10.9.{}.2:{port}", half.number);
        let listen = format!("/ip4/10.8.0.{}/tcp/{}", half.number, port + 1_000);
        let ready = dir.join("ready");
        let mut command = half.enter(env!("CARGO_BIN_EXE_pithead-node"));
        command
            .arg("--genesis")
            .arg(network.path())
            .arg("--data-dir")
            .arg(dir)
            .args(["--rpc-listen", &rpc, "--rpc-allow-insecure"])
            .args(["--rpc-requests-per-minute", "0"])
            .args(["--listen", &listen, "--mdns=false", "--upnp=false"])
            .arg("--ready-file")
            .arg(&ready);
        if let Some(bootnode) = bootnode {
            command.args(["--bootnode", bootnode]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !ready.exists() {
            assert!(Instant::now() < deadline, "the node does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let token = std::fs::read_to_string(dir.join("admin.token")).unwrap();
        Self {
            child,
            channel: Endpoint::from_shared(format!("http://{rpc}"))
                .unwrap()
                .connect_lazy(),
            admin_token: token.trim().to_owned(),
        }
    }

    async fn info(&self) -> v1::GetNodeInfoResponse {
        let mut client = NetworkServiceClient::new(self.channel.clone());
        let response = client.get_node_info(v1::GetNodeInfoRequest {}).await;
        response.unwrap().into_inner()
    }

    async fn tip(&self) -> v1::BlockHeader {
        let mut client = ChainServiceClient::new(self.channel.clone());
        let response = client.get_chain_info(v1::GetChainInfoRequest {}).await;
        response.unwrap().into_inner().tip.unwrap()
    }

    async fn mine(&self, count: u32, reward_address: String) {
        let mut client = AdminServiceClient::new(self.channel.clone());
        let request = v1::MineBlocksRequest {
            count,
            reward_address,
        };
        let mut request = Request::new(request);
        let bearer = format!("Bearer {}", self.admin_token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        client.mine_blocks(request).await.unwrap();
    }

    async fn submit(&self, raw: Vec<u8>) {
        use v1::submit_transaction_request::Transaction;
        let mut client = TransactionServiceClient::new(self.channel.clone());
        let request = v1::SubmitTransactionRequest {
            transaction: Some(Transaction::Raw(raw.into())),
        };
        client.submit_transaction(request).await.unwrap();
    }

    async fn state(&self, txid: &str) -> Option<v1::TransactionState> {
        let mut client = ChainServiceClient::new(self.channel.clone());
        let txid = txid.to_owned();
        let request = v1::GetTransactionRequest { txid };
        let response = client.get_transaction(request).await.ok()?.into_inner();
        Some(response.status?.state())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    // Dead connections are given up only after the ping's patience.
    let deadline = Instant::now() + 4 * PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn one_tip(nodes: &[Node]) -> bool {
    let first = nodes[0].tip().await.hash;
    for node in nodes {
        if node.tip().await.hash != first {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_halves_become_one_again() {
    if std::env::var_os(INSIDE).is_some() {
        return split_and_heal().await;
    }
    let allowed = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "ip", "link", "show"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no network namespaces: CI has to allow them, or this goes untested"
        );
        eprintln!("left out: this system gives no network namespaces");
        return;
    }
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--kill-child",
            "--fork",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "partition::two_halves_become_one_again",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let reported = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(reported.contains("1 passed"), "it has not run: {reported}");
}

async fn split_and_heal() {
    sh("ip link set lo up");
    let (left, right) = (Half::new(1), Half::new(2));
    left.join(&right);
    left.set_link(true);
    right.set_link(true);
    let network = Network::easy();
    let dirs: Vec<_> = (0..2 * HALF).map(|_| data_dir()).collect();
    let mut nodes = Vec::new();
    let mut bootnode = None;
    for (index, dir) in dirs.iter().enumerate() {
        let half = if index < HALF { &left } else { &right };
        let port = 9_000 + u16::try_from(index).unwrap();
        let node = Node::start(half, port, &network, dir.path(), bootnode.as_deref());
        if bootnode.is_none() {
            bootnode = Some(node.info().await.listen_addresses.remove(0));
        }
        nodes.push(node);
    }
    let peers = async |count: u32| {
        for node in &nodes {
            if node.info().await.peer_count < count {
                return false;
            }
        }
        true
    };
    until("all find each other", async || peers(3).await).await;
    nodes[0].mine(10, network.address(6)).await;
    until("one chain", async || one_tip(&nodes).await).await;

    left.set_link(false);
    // Each half mines a payment of its own; the right one mines more.
    let (in_left, in_right) = (
        network.pay(0, 0, 5, PIT, FEE),
        network.pay(1, 0, 5, PIT, FEE),
    );
    let txid = |payment: &pithead_consensus::SignedTransaction| {
        let txid = payment.txid(&network.hash());
        txid.to_string()
    };
    nodes[0].submit(in_left.encode()).await;
    nodes[HALF].submit(in_right.encode()).await;
    nodes[0].mine(5, network.address(6)).await;
    nodes[HALF].mine(8, network.address(7)).await;
    until("the halves follow their miners", async || {
        one_tip(&nodes[..HALF]).await && one_tip(&nodes[HALF..]).await
    })
    .await;
    assert_eq!(nodes[0].tip().await.height, 15);
    assert_eq!(nodes[HALF].tip().await.height, 18);
    let mined = Some(v1::TransactionState::Mined);
    assert_eq!(nodes[0].state(&txid(&in_left)).await, mined);
    assert_eq!(nodes[HALF].state(&txid(&in_left)).await, None);

    left.set_link(true);
    until("one chain again", async || one_tip(&nodes).await).await;
    assert_eq!(nodes[0].tip().await.height, 18, "the one with more work");
    let pending = Some(v1::TransactionState::Pending);
    for node in &nodes {
        assert_eq!(node.state(&txid(&in_right)).await, mined);
        until("the losing half's payment waits everywhere", async || {
            node.state(&txid(&in_left)).await == pending
        })
        .await;
    }
    nodes[HALF].mine(1, network.address(7)).await;
    until("it is mined", async || {
        one_tip(&nodes).await && nodes[0].state(&txid(&in_left)).await == mined
    })
    .await;
}
