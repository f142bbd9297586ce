//! A network that splits and heals, in network namespaces. Both halves mine on; once they reach
//! each other again, all nodes have one chain, and the payments that only the losing half had
//! mined are pending again.
//!
//! Where the system allows no namespaces, this is left out; with `CI` set it fails instead.

use pithead_api::v1;
use pithead_testkit::process::{Network, PATIENCE, TestNode, data_dir};
use pithead_testkit::{FEE, PIT};

use super::namespaces::{Machine, Otherwise, enter, sh};

/// Nodes of each half. A node takes no more than two peers from one address.
const HALF: usize = 2;

/// The machine of half a network. Its link to this test is 10.9.N.0/24, and its address on the
/// link to the other half is 10.8.0.N.
struct Half {
    machine: Machine,
    number: usize,
}

impl Half {
    fn new(number: usize) -> Self {
        let machine = Machine::new();
        let pid = machine.pid();
        sh(&format!(
            "ip link add test{number} type veth peer name outer netns {pid}
             ip addr add 10.9.{number}.1/24 dev test{number}
             ip link set test{number} up"
        ));
        machine.sh(&format!(
            "ip addr add 10.9.{number}.2/24 dev outer
             ip link set outer up"
        ));
        Self { machine, number }
    }

    /// Connects the halves to each other.
    fn join(&self, other: &Self) {
        let (pid, other_pid) = (self.machine.pid(), other.machine.pid());
        sh(&format!(
            "ip link add between netns {pid} type veth peer name between netns {other_pid}"
        ));
        for half in [self, other] {
            half.machine.sh(&format!(
                "ip addr add 10.8.0.{}/24 dev between",
                half.number
            ));
        }
    }

    /// Whether packets get across to the other half.
    fn set_link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.machine.sh(&format!("ip link set between {state}"));
    }

    /// Starts a node of this half, with ports of its own.
    fn start(
        &self,
        port: u16,
        network: &Network,
        dir: &std::path::Path,
        bootnode: Option<&str>,
    ) -> TestNode {
        let rpc = format!("10.9.{}.2:{port}", self.number);
        let listen = format!("/ip4/10.8.0.{}/tcp/{}", self.number, port + 1_000);
        let mut flags = vec!["--listen", &listen, "--mdns=false", "--upnp=false"];
        if let Some(bootnode) = bootnode {
            flags.extend(["--bootnode", bootnode]);
        }
        self.machine.start_node(network, dir, &rpc, &flags)
    }
}

async fn tip(node: &TestNode) -> v1::BlockHeader {
    node.info().await.tip.unwrap()
}

async fn mine(node: &TestNode, count: u32, reward_address: String) {
    let request = v1::MineBlocksRequest {
        count,
        reward_address,
    };
    node.admin().mine_blocks(request).await.unwrap();
}

/// How far a transaction has come at a node; `None` if the node does not know it.
async fn state(node: &TestNode, txid: &str) -> Option<v1::TransactionState> {
    let txid = txid.to_owned();
    let request = v1::GetTransactionRequest { txid };
    let response = node.chain().get_transaction(request).await.ok()?;
    Some(response.into_inner().status?.state())
}

/// Waits longer than other tests do: nodes give up dead connections only after the ping's own
/// patience.
async fn until(nodes: &[TestNode], what: &str, mut holds: impl AsyncFnMut() -> bool) {
    nodes[0]
        .until_within(4 * PATIENCE, what, async || holds().await.then_some(()))
        .await;
}

async fn one_tip(nodes: &[TestNode]) -> bool {
    let first = tip(&nodes[0]).await.hash;
    for node in nodes {
        if tip(node).await.hash != first {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_halves_become_one_again() {
    let test = "partition::two_halves_become_one_again";
    if enter(test, &["ip", "link", "show"], Otherwise::FailInCi) {
        split_and_heal().await;
    }
}

/// Starts half of the nodes on each side; the first one is the bootnode of the others.
async fn start_halves(
    left: &Half,
    right: &Half,
    network: &Network,
    dirs: &[tempfile::TempDir],
) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    let mut bootnode = None;
    for (index, dir) in dirs.iter().enumerate() {
        let half = if index < HALF { left } else { right };
        let port = 9_000 + u16::try_from(index).unwrap();
        let node = half.start(port, network, dir.path(), bootnode.as_deref());
        if bootnode.is_none() {
            bootnode = Some(node.listen_address().await);
        }
        nodes.push(node);
    }
    nodes
}

async fn split_and_heal() {
    sh("ip link set lo up");
    let (left, right) = (Half::new(1), Half::new(2));
    left.join(&right);
    left.set_link(true);
    right.set_link(true);
    let network = Network::easy();
    let dirs: Vec<_> = (0..2 * HALF).map(|_| data_dir()).collect();
    let nodes = start_halves(&left, &right, &network, &dirs).await;
    let peers = async |count: u32| {
        for node in &nodes {
            if node.node_info().await.peer_count < count {
                return false;
            }
        }
        true
    };
    until(&nodes, "all find each other", async || peers(3).await).await;
    mine(&nodes[0], 10, network.address(6)).await;
    until(&nodes, "one chain", async || one_tip(&nodes).await).await;

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
    nodes[0].accept(&in_left).await;
    nodes[HALF].accept(&in_right).await;
    mine(&nodes[0], 5, network.address(6)).await;
    mine(&nodes[HALF], 8, network.address(7)).await;
    until(&nodes, "the halves follow their miners", async || {
        one_tip(&nodes[..HALF]).await && one_tip(&nodes[HALF..]).await
    })
    .await;
    assert_eq!(tip(&nodes[0]).await.height, 15);
    assert_eq!(tip(&nodes[HALF]).await.height, 18);
    let mined = Some(v1::TransactionState::Mined);
    assert_eq!(state(&nodes[0], &txid(&in_left)).await, mined);
    assert_eq!(state(&nodes[HALF], &txid(&in_left)).await, None);

    left.set_link(true);
    until(&nodes, "one chain again", async || one_tip(&nodes).await).await;
    assert_eq!(tip(&nodes[0]).await.height, 18, "the one with more work");
    let pending = Some(v1::TransactionState::Pending);
    for node in &nodes {
        assert_eq!(state(node, &txid(&in_right)).await, mined);
        until(
            &nodes,
            "the losing half's payment waits everywhere",
            async || state(node, &txid(&in_left)).await == pending,
        )
        .await;
    }
    mine(&nodes[HALF], 1, network.address(7)).await;
    until(&nodes, "it is mined", async || {
        one_tip(&nodes).await && state(&nodes[0], &txid(&in_left)).await == mined
    })
    .await;
}
