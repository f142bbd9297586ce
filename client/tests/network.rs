//! The whole chain as its users run it: a real node, two real miners, the real
//! `pithead` command, all as processes over sockets.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pithead_api::v1;
use pithead_api::v1::get_block_request;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::wallet::WalletName;
use pithead_client::{Client, ConnectOptions, Wallets};
use pithead_consensus::AddressPrefix;
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks at what can't be awaited.
const POLL: Duration = Duration::from_millis(20);
const PIT: u64 = 100_000_000;

/// A program of the workspace, built if it is not there yet.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_pithead")).with_file_name(name);
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", name])
            .status()
            .unwrap();
        assert!(built.success(), "{name} does not build");
    }
    path
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and says whether it was a success.
    fn ended_well(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the process does not end");
            std::thread::sleep(POLL);
        }
    }
}

/// A folder with a genesis, wallets and the port of a node.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        // A free port, kept the same over restarts so that miners find it again.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            port: listener.local_addr().unwrap().port(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn pithead(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_pithead"))
            .args(["--node", &self.url(), "--wallet-dir"])
            .arg(self.path("wallets"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_slice(&self.pithead(&all).stdout).unwrap()
    }

    /// Makes a wallet and returns its address.
    fn wallet(&self, name: &str) -> String {
        self.pithead(&["wallet", "new", name, "--no-passphrase"]);
        let name: WalletName = name.parse().unwrap();
        let wallet = Wallets::in_folder(self.path("wallets")).open(&name);
        let prefix = AddressPrefix::new("dpit").unwrap();
        wallet.unwrap().address().to_text(&prefix)
    }

    /// A genesis whose blocks take a debug miner a fraction of a second.
    fn write_genesis(&self, funded: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let file = GenesisFile {
            name: "e2e".to_owned(),
            time: u32::try_from(now.as_secs()).unwrap(),
            bits: 0x1f0f_ffff,
            half_life_secs: 3_600,
            allocations: vec![AllocationEntry {
                address: funded.to_owned(),
                amount: "100".to_owned(),
            }],
            ..Network::Dev.genesis_file()
        };
        std::fs::write(self.path("genesis.toml"), file.to_toml().unwrap()).unwrap();
    }

    fn node_command(&self) -> Command {
        let mut command = Command::new(program("pithead-node"));
        command
            .arg("--genesis")
            .arg(self.path("genesis.toml"))
            .arg("--data-dir")
            .arg(self.path("node"))
            .args(["--rpc-listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--rpc-requests-per-minute", "0"])
            .stdin(Stdio::null());
        command
    }

    /// Starts the node and waits until it serves.
    fn start_node(&self) -> Running {
        let mut command = self.node_command();
        command.arg("--offline");
        self.start(command)
    }

    fn start(&self, mut command: Command) -> Running {
        let ready = self.path("ready");
        let _ = std::fs::remove_file(&ready);
        let mut node = Running(
            command
                .arg("--ready-file")
                .arg(&ready)
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let deadline = Instant::now() + PATIENCE;
        while !ready.exists() {
            assert!(node.0.try_wait().unwrap().is_none(), "the node ended");
            assert!(Instant::now() < deadline, "the node does not serve");
            std::thread::sleep(POLL);
        }
        node
    }

    fn start_miner(&self, name: &str, address: &str) -> Running {
        let child = Command::new(program("pithead-miner"))
            .args(["--node", &self.url(), "--address", address])
            .args(["--worker", name, "--threads", "1", "--token-file"])
            .arg(self.path("node/mine.token"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    }

    async fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.path("node/mine.token")).unwrap();
        let options = ConnectOptions {
            token: Some(token),
            ..ConnectOptions::new(&self.url())
        };
        Client::connect_with(&options).await.unwrap()
    }
}

/// Follows the chain until so many blocks have joined it; returns the last.
async fn blocks(client: &Client, count: usize) -> v1::BlockHeader {
    let following = async {
        let mut events = client
            .subscribe_chain(Vec::new(), v1::BlockView::Header)
            .await
            .unwrap();
        let mut left = count;
        while let Some(event) = client.next(&mut events).await.unwrap() {
            if let Some(Event::Connected(block)) = event.event {
                left -= 1;
                if left == 0 {
                    return block.header.unwrap();
                }
            }
        }
        panic!("the stream of blocks ended");
    };
    tokio::time::timeout(PATIENCE, following).await.unwrap()
}

async fn workers(client: &Client) -> Vec<v1::Worker> {
    let request = client.mining();
    let mut mining = request;
    let answer = client
        .call(mining.list_workers(v1::ListWorkersRequest {}))
        .await;
    answer.unwrap().workers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_loses_nothing_when_its_node_is_killed() {
    let place = Place::new();
    let (alice, bob, pool) = (
        place.wallet("alice"),
        place.wallet("bob"),
        place.wallet("pool"),
    );
    place.write_genesis(&alice);
    let mut node = place.start_node();
    let mut miners = [
        place.start_miner("one", &pool),
        place.start_miner("two", &pool),
    ];
    let client = place.client().await;
    blocks(&client, 5).await;

    let sent = place.json(&[
        "send",
        "alice",
        "bob",
        "12.5",
        "--wait",
        "--yes",
        "--data",
        "for the tea",
    ]);
    let txid = sent["txid"].as_str().unwrap().to_owned();
    let paid = client.transaction(&txid).await.unwrap();
    let status = paid.status.unwrap();
    assert_eq!(status.state(), v1::TransactionState::Mined);
    let fee = paid.transaction.unwrap().fee;
    let before = blocks(&client, 1).await;

    // In the middle of mining, without any warning.
    node.signal("KILL");
    assert!(!node.ended_well());
    drop(client);
    let mut node = place.start_node();

    let client = place.client().await;
    let request = v1::GetBlockRequest {
        block: Some(get_block_request::Block::Hash(before.hash.clone())),
        ..v1::GetBlockRequest::default()
    };
    let kept = client.block(request).await.unwrap().block.unwrap();
    assert!(kept.best_chain, "an acknowledged block is gone");
    let mined = client.transaction(&txid).await.unwrap().status.unwrap();
    assert_eq!(mined.block_hash, status.block_hash);
    let balance = |address: String| {
        let client = client.clone();
        async move { client.account(&address).await.unwrap().balance }
    };
    assert_eq!(balance(bob).await, 1_250_000_000);
    assert_eq!(balance(alice).await, 100 * PIT - 1_250_000_000 - fee);

    // The miners come back by themselves and go on.
    let deadline = Instant::now() + PATIENCE;
    loop {
        blocks(&client, 1).await;
        let workers = workers(&client).await;
        let names: Vec<&str> = workers
            .iter()
            .filter(|worker| worker.connected && worker.accepted_blocks > 0)
            .map(|worker| worker.name.as_str())
            .collect();
        if names.contains(&"one") && names.contains(&"two") {
            break;
        }
        assert!(Instant::now() < deadline, "the miners do not come back");
    }

    for miner in &mut miners {
        miner.signal("TERM");
        assert!(miner.ended_well());
    }
    drop(client);
    node.signal("TERM");
    assert!(node.ended_well());
    let verified = place.node_command().arg("--verify").output().unwrap();
    let report = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{report}");
    assert!(report.contains("everything agrees"), "{report}");
}

/// The way that docs/operating.md shows, with a passphrase.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_the_command_makes_payments_final() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let alice = place.wallet("alice");
    place.wallet("bob");
    let text = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (key, public) = (text("anna.pem"), text("anna.public.toml"));
    let phrase = text("passphrase");
    std::fs::write(&phrase, "moss\n").unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let new = [
        "validator",
        "new",
        "--out",
        &key,
        "--passphrase-file",
        &phrase,
    ];
    place.pithead(&new);
    let mut new = vec!["genesis", "new", "--name", "solo", "--validators", &public];
    let out = text("genesis.toml");
    new.extend(["--allocation", "alice=100", "--bits", "0x1f0fffff"]);
    new.extend(["--half-life-secs", "3600", "--out", &out]);
    let made = place.json(&new);
    assert_eq!(made["approval_quorum"], 1);

    let voting = || {
        let mut command = place.node_command();
        command.arg("--offline");
        command.args([
            "--validator-key",
            &key,
            "--validator-passphrase-file",
            &phrase,
        ]);
        command
    };
    // Without a record of its votes it does not start, and says what to do.
    let refused = voting().output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--init-vote-record"), "{said}");
    let mut first = voting();
    first.arg("--init-vote-record");
    let mut node = place.start(first);
    let miner = place.start_miner("one", &alice);
    let pay = ["send", "alice", "bob", "1", "--yes", "--wait=final"];
    assert_eq!(place.json(&pay)["status"]["state"], "final");
    let listed = place.json(&["validators"]);
    assert_eq!(listed["validators"][0]["is_this_node"], true);
    assert_eq!(place.json(&["chain"])["genesis_hash"], made["genesis_hash"]);
    assert_eq!(place.json(&["evidence"])["evidence"], serde_json::json!([]));

    // Killed in the middle, it goes on with its record.
    node.signal("KILL");
    node.ended_well();
    let _node = place.start(voting());
    assert_eq!(place.json(&pay)["status"]["state"], "final");
    drop(miner);
}

/// Waits until a process is gone.
fn wait_until_gone(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let alive = || {
        Command::new("kill")
            .args(["-0", &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    while alive() {
        assert!(Instant::now() < deadline, "process {pid} was left behind");
        std::thread::sleep(POLL);
    }
}

fn devnet() -> Command {
    // They are started by the command itself.
    program("pithead-node");
    program("pithead-miner");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pithead"));
    command.args(["devnet", "--port", "0"]).stdin(Stdio::null());
    command
}

#[test]
fn the_devnet_holds_every_step() {
    let output = devnet().arg("--exit").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Every step held"), "{text}");
    assert_eq!(
        text.matches("every wallet has exactly what it should")
            .count(),
        2
    );
}

#[test]
fn a_devnet_of_three_nodes_agrees() {
    let output = devnet()
        .args(["--nodes", "3", "--miners", "3", "--exit"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("each has 2 peers or more"), "{text}");
    assert!(text.contains("is the tip of all 3"), "{text}");
    assert!(text.contains("Every step held"), "{text}");
}

#[test]
fn a_devnet_of_validators_makes_every_payment_final_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("net");
    let output = devnet()
        .args(["--validators", "4", "--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in [
        "Quorum: 3 of 4 validators: any two quorums share 2 of them, and 1 may be away",
        "all 26 payments are final",
        "from block to approved: p50 ",
        "from block to final: p50 ",
        "is final on all 4",
        "Every step held",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    // Each goes on with its record of votes; without them nothing would be final.
    let again = devnet()
        .args(["--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success(), "{text}");
    for part in [
        "Quorum: 3 of 4",
        "more is final than block",
        "is final on all 4",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_devnet_that_can_not_be_is_refused_before_anything_is_made() {
    for (arguments, parts) in [
        (
            ["--nodes", "2", "--validators", "3"],
            ["3 validators need as many nodes", "--nodes 3"],
        ),
        (
            ["--validators", "4", "--quorum", "2"],
            ["a quorum of 2 of 4", "least safe quorum is 3"],
        ),
    ] {
        let output = devnet().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_shown_to_people_and_to_programs() {
    let place = Place::new();
    place.write_genesis(&place.wallet("alice"));
    let mut node = place.start_node();
    let shown = |place: &Place| {
        let output = place.pithead(&["peers"]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(shown(&place).contains("--offline"));
    assert_eq!(place.json(&["peers"])["offline"], true);
    node.signal("TERM");
    assert!(node.ended_well());

    let mut command = place.node_command();
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let _node = place.start(command);
    assert!(shown(&place).contains("pithead peers add"));
    assert_eq!(place.json(&["peers"])["offline"], false);
    let token = place.path("node/admin.token");
    let token = ["--token-file", token.to_str().unwrap()];
    let ban = [&token[..], &["peers", "ban", "192.0.2.1", "--secs", "60"]].concat();
    let banned = place.json(&ban);
    assert_eq!(banned["action"], "ban");
    assert_eq!(banned["peer"], "192.0.2.1");
    assert_eq!(banned["secs"], 60);
    let bans = place.json(&[&token[..], &["peers", "bans"]].concat());
    assert_eq!(bans["bans"][0]["peer"], "192.0.2.1");
    let unban = place.json(&[&token[..], &["peers", "unban", "192.0.2.1"]].concat());
    assert_eq!(unban["action"], "unban");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_that_is_killed_leaves_no_process_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("net");
    let mut running = Running(
        devnet()
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let ready = data.join("node.address");
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        assert!(running.0.try_wait().unwrap().is_none(), "the devnet ended");
        assert!(Instant::now() < deadline, "the node does not serve");
        std::thread::sleep(POLL);
    }
    let url = format!("http://{}", std::fs::read_to_string(&ready).unwrap().trim());
    let client = Client::connect(&url).await.unwrap();
    let info = client
        .call(client.network().get_node_info(v1::GetNodeInfoRequest {}))
        .await
        .unwrap();
    running.signal("KILL");
    running.ended_well();
    wait_until_gone(info.process_id);

    // What it kept goes on where it was.
    let again = devnet()
        .args(["--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success(), "{text}");
    assert!(text.contains("The network goes on"), "{text}");
}
