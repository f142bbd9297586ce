//! The node as a process. A crash loses nothing that was acknowledged, a stop ends cleanly, and a
//! node that can't start says why and what to do.

use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_testkit::process::{
    Network, TestNode, data_dir, end_of, failure_of, next, node_command, program, run_to_end,
    signal, verify, violated_field,
};
use pithead_testkit::{FEE, PIT, key};
use tokio::sync::watch;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::config::assert_has_lines;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_mining_loses_nothing_acknowledged() {
    let network = std::sync::Arc::new(Network::easy());
    let dir = data_dir();
    let node = std::sync::Arc::new(TestNode::start(&network, dir.path()));

    // Two clients remember every block and payment that the node has acknowledged.
    let (block_sender, mut blocks) = watch::channel(Vec::new());
    let mining = tokio::spawn({
        let (node, network) = (node.clone(), network.clone());
        async move {
            loop {
                let block = node.next_block(&key(7).address, &network).await;
                let response = node.submit_block(&block).await;
                assert_eq!(response.outcome(), v1::SubmitOutcome::AcceptedBlock);
                block_sender.send_modify(|all| all.push(response.block_hash));
            }
        }
    });
    let (txid_sender, mut txids) = watch::channel(Vec::new());
    let paying = tokio::spawn({
        let (node, network) = (node.clone(), network.clone());
        async move {
            for sequence in 0.. {
                let payment = network.pay(0, sequence, 5, PIT, FEE);
                let response = node.submit(&payment).await;
                if response.outcome() == v1::SubmitTransactionOutcome::Accepted {
                    txid_sender.send_modify(|all| all.push(response.txid));
                } else {
                    // 64 pending: wait for a block.
                    return;
                }
            }
        }
    });
    blocks.wait_for(|all| all.len() >= 10).await.unwrap();
    txids.wait_for(|all| all.len() >= 10).await.unwrap();
    signal(node.pid(), "KILL");
    assert!(mining.await.is_err(), "mining fails once the node is gone");
    let _ = paying.await;
    let (blocks, txids) = (blocks.borrow().clone(), txids.borrow().clone());
    drop(node);

    let node = TestNode::start(&network, dir.path());
    assert!(node.height().await >= blocks.len() as u64);
    for (index, hash) in blocks.iter().enumerate() {
        let block = node
            .chain()
            .get_block(v1::GetBlockRequest {
                block: Some(v1::get_block_request::Block::Height(index as u64 + 1)),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner()
            .block
            .unwrap();
        assert_eq!(block.header.unwrap().hash, *hash);
    }
    for txid in &txids {
        node.chain()
            .get_transaction(v1::GetTransactionRequest { txid: txid.clone() })
            .await
            .expect("mined or pending");
    }
    // The payments that are still pending are mined now, and the sums are right.
    node.mine(&network, 1).await;
    let paid = node.account(&network, 5).await.balance;
    assert!(paid >= txids.len() as u64 * PIT);
    let sender = node.account(&network, 0).await;
    assert_eq!(sender.sequence * PIT, paid);
    assert_eq!(
        sender.balance,
        pithead_testkit::ALLOCATION - paid - sender.sequence * FEE
    );
    assert!(node.terminate().await.success());
    verify(&network, dir.path());
}

#[tokio::test]
async fn pending_transactions_survive_a_kill_and_a_clean_stop() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let first = node.accept(&network.pay(0, 0, 1, PIT, FEE)).await;
    node.mine(&network, 1).await;
    let second = node.accept(&network.pay(0, 1, 1, PIT, FEE)).await;
    let waiting = node.accept(&network.pay(0, 3, 1, PIT, FEE)).await;
    node.kill();
    let node = TestNode::start(&network, dir.path());
    let pending = |node: &TestNode| {
        let mut client = node.transactions();
        async move {
            let answer =
                client.list_pending_transactions(v1::ListPendingTransactionsRequest::default());
            let mut txids: Vec<_> = answer
                .await
                .unwrap()
                .into_inner()
                .transactions
                .into_iter()
                .map(|pending| pending.transaction.unwrap().txid)
                .collect();
            txids.sort();
            txids
        }
    };
    let mut expected = vec![second, waiting];
    expected.sort();
    assert_eq!(pending(&node).await, expected);
    assert!(node.terminate().await.success());
    let node = TestNode::start(&network, dir.path());
    assert_eq!(pending(&node).await, expected);
    assert!(!expected.contains(&first));
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let said = failure_of(&mut node_command(&network, dir.path()));
    assert!(said.contains("in use by another pithead-node"), "{said}");
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
    assert!(said.contains("--data-dir"), "says what to do: {said}");
    assert_eq!(node.height().await, 0, "the first one goes on");
}

#[tokio::test]
async fn another_networks_directory_is_refused() {
    let dir = data_dir();
    let first = Network::easy();
    assert!(
        TestNode::start(&first, dir.path())
            .terminate()
            .await
            .success()
    );
    let other = Network::with(|file| file.name = "another".to_owned());
    let said = failure_of(&mut node_command(&other, dir.path()));
    assert!(said.contains("holds the chain with genesis"), "{said}");
    assert!(said.contains(&first.hash().to_string()), "{said}");
    assert!(said.contains(&other.hash().to_string()), "{said}");
}

#[tokio::test]
async fn sigterm_ends_open_streams_and_exits_with_success() {
    let network = Network::easy();
    let dir = data_dir();
    let mut node = TestNode::start(&network, dir.path());
    let mut chain = node
        .chain()
        .subscribe_chain(v1::SubscribeChainRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut work = node
        .mining()
        .subscribe_work(v1::SubscribeWorkRequest {
            reward_address: network.address(7),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let mut pending = node
        .transactions()
        .subscribe_pending_transactions(v1::SubscribePendingTransactionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    next(&mut chain).await;
    next(&mut work).await;
    let asked = Instant::now();
    signal(node.pid(), "TERM");
    for status in [
        end_of(&mut chain).await.unwrap(),
        end_of(&mut work).await.unwrap(),
        end_of(&mut pending).await.unwrap(),
    ] {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert_eq!(pithead_testkit::process::reason(&status), "NODE_STOPPING");
    }
    assert!(node.wait().await.success(), "{}", node.log());
    // Streams that end by themselves need no drain time, which is 5 s.
    assert!(asked.elapsed() < Duration::from_secs(4));
    assert!(node.log().contains("stopped"));
}

#[tokio::test]
async fn sigterm_cuts_off_streams_that_never_end() {
    let network = Network::easy();
    let dir = data_dir();
    let mut node = TestNode::start_with(&network, dir.path(), &["--rpc-drain-secs", "1"]);
    // Health watches end only when their clients do.
    let mut health = HealthClient::new(node.channel())
        .watch(HealthCheckRequest {
            service: "pithead.v1.ChainService".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    next(&mut health).await;
    signal(node.pid(), "TERM");
    assert!(node.wait().await.success(), "{}", node.log());
}

#[test]
fn addresses_beyond_loopback_are_refused_unless_forced() {
    let network = Network::easy();
    let dir = data_dir();
    let mut command = program();
    command.arg("--genesis").arg(network.path());
    command.arg("--data-dir").arg(dir.path());
    command.args(["--rpc-listen", "0.0.0.0:0"]);
    let said = failure_of(&mut command);
    assert!(said.contains("not a loopback address"), "{said}");
    assert!(said.contains("--rpc-allow-insecure"), "{said}");
    // With the flag, the same configuration is valid …
    let output = run_to_end(command.args(["--rpc-allow-insecure", "config"]));
    assert!(output.status.success());
    // … but not together with open mining.
    let said = failure_of(command.arg("--mine-without-token"));
    assert!(said.contains("mine_without_token"), "{said}");
}

#[test]
fn unknown_and_malformed_settings_are_refused() {
    let dir = data_dir();
    let file = dir.path().join("node.toml");
    let with_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        failure_of(program().arg("config").arg("--config").arg(&file))
    };
    let said = with_file("rpc_port = 5\n");
    assert!(said.contains("there is no setting \"rpc_port\""), "{said}");
    assert!(said.contains("did you mean"), "{said}");
    let said = with_file("rpc_burst = \"many\"\n");
    assert!(
        said.contains("rpc_burst") && said.contains("node.toml"),
        "{said}"
    );
    let said = with_file("rpc_burst = = 1\n");
    assert!(said.contains("node.toml"), "{said}");
    let said = with_file("rpc_burst = 0\n");
    assert!(
        said.contains("rpc_burst is 0, at least 1 expected"),
        "{said}"
    );
    let said = with_file("network = \"dev\"\ngenesis = \"g.toml\"\ndata_dir = \"d\"\n");
    assert!(said.contains("exclude each other"), "{said}");
    let said = failure_of(program().args(["config", "--config", "/nonexistent/node.toml"]));
    assert!(said.contains("/nonexistent/node.toml"), "{said}");
    let said = failure_of(program().arg("config").env("PITHEAD_NODE_RPC_BRUST", "5"));
    assert!(said.contains("PITHEAD_NODE_RPC_BRUST"), "{said}");
    let said = failure_of(program().args(["--no-such-flag"]));
    assert!(said.contains("--no-such-flag"), "{said}");
    let said = failure_of(program().args(["--genesis", "x.toml", "config"]));
    assert!(said.contains("give --data-dir"), "{said}");
}

#[test]
fn the_nearest_source_of_a_setting_wins() {
    let dir = data_dir();
    let file = dir.path().join("node.toml");
    let text = "rpc_burst = 1\nrpc_max_streams = 1\nrpc_max_connections = 1\n";
    std::fs::write(&file, text).unwrap();
    let output = run_to_end(
        program()
            .args(["config", "--network", "test", "--rpc-burst", "3"])
            .arg("--data-dir")
            .arg(dir.path())
            .arg("--config")
            .arg(&file)
            .env("PITHEAD_NODE_RPC_BURST", "2")
            .env("PITHEAD_NODE_RPC_MAX_STREAMS", "2"),
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_has_lines(
        &printed,
        &[
            "network = \"test\" # flag",
            "rpc_burst = 3 # flag",
            "rpc_max_streams = 2 # environment",
            "rpc_max_connections = 1 # file",
            "rpc_drain_secs = 5 # default",
        ],
    );
    // The printed configuration is a file with the same settings.
    let again = dir.path().join("printed.toml");
    std::fs::write(&again, &printed).unwrap();
    let output = run_to_end(program().arg("config").arg("--config").arg(&again));
    let values = |text: &str| -> Vec<String> {
        let line = |line: &str| line.split(" # ").next().unwrap().to_owned();
        text.lines().map(line).collect()
    };
    let second = String::from_utf8(output.stdout).unwrap();
    assert_eq!(values(&second), values(&printed));
}

#[test]
fn bad_genesis_files_are_refused() {
    let network = Network::easy();
    let dir = data_dir();
    let path = dir.path().join("bad.toml");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = program();
        command.arg("--genesis").arg(&path);
        command.arg("--data-dir").arg(dir.path().join("data"));
        let said = failure_of(command.args(["--rpc-listen", "127.0.0.1:0"]));
        assert!(said.contains("bad.toml"), "names the file: {said}");
        said
    };
    assert!(refused("name = 5").contains("can't be read"));
    let good = network.file.to_toml().unwrap();
    let said = refused(&good.replace("block_interval_secs = 2", "block_interval_secs = 0"));
    assert!(said.contains("block_interval_secs"), "{said}");
    let said = refused(&format!("surprise = 1\n{good}"));
    assert!(said.contains("surprise"), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing was created");
}

#[tokio::test]
async fn the_admin_service_stops_the_node() {
    let network = Network::easy();
    let dir = data_dir();
    let mut node = TestNode::start(&network, dir.path());
    node.mine(&network, 2).await;
    node.admin().stop(v1::StopRequest {}).await.unwrap();
    assert!(node.wait().await.success(), "{}", node.log());
    assert!(verify(&network, dir.path()).contains("verified 2 blocks"));
}

#[tokio::test]
async fn the_log_filter_changes_while_the_node_runs() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let set = |filter: &str| {
        let filter = filter.to_owned();
        let mut admin = node.admin();
        async move {
            admin
                .set_log_filter(v1::SetLogFilterRequest { filter })
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let quiet = set("error").await.unwrap();
    assert_eq!(quiet.filter, "error");
    let hidden = node.mine(&network, 1).await;
    set("info,pithead_node=debug").await.unwrap();
    let shown = node.mine(&network, 1).await;
    let status = set("info,pithead_node=nonsense").await.unwrap_err();
    assert_eq!(violated_field(&status), "filter");
    assert!(node.admin().stop(v1::StopRequest {}).await.is_ok());
    let mut node = node;
    node.wait().await;
    let log = node.log();
    assert!(!log.contains(&hidden), "{log}");
    assert!(log.contains(&shown), "{log}");
    assert!(log.contains("new template"), "debug lines show: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_mining_is_a_chain_of_its_own() {
    let network = std::sync::Arc::new(Network::easy());
    let dir = data_dir();
    let node = std::sync::Arc::new(TestNode::start(&network, dir.path()));
    node.accept(&network.pay(0, 0, 5, PIT, FEE)).await;
    node.mine(&network, 3).await;
    let mining = tokio::spawn({
        let (node, network) = (node.clone(), network.clone());
        async move {
            node.mine(&network, 10).await;
        }
    });
    let copies = data_dir();
    let path = copies.path().join("deep/copy");
    let create = |path: String| {
        let mut admin = node.admin();
        async move { admin.create_backup(v1::CreateBackupRequest { path }).await }
    };
    let shown = path.display().to_string();
    let backup = create(shown.clone()).await.unwrap().into_inner();
    assert_eq!(backup.path, shown);
    assert!(backup.height >= 3 && backup.size_bytes > 0);
    mining.await.unwrap();

    let status = create(shown).await.unwrap_err();
    assert_eq!(violated_field(&status), "path");
    let status = create("relative/copy".to_owned()).await.unwrap_err();
    assert_eq!(violated_field(&status), "path");

    verify(&network, &path);
    let copy = TestNode::start(&network, &path);
    let tip = copy.info().await.tip.unwrap();
    assert_eq!((tip.height, tip.hash), (backup.height, backup.block_hash));
    assert_eq!(copy.account(&network, 5).await.balance, PIT);
    assert_ne!(
        copy.token("mine"),
        node.token("mine"),
        "tokens are not copied"
    );
    copy.mine(&network, 1).await;
}

#[test]
fn a_directory_without_a_chain_is_not_verified_and_stays_empty() {
    let network = Network::easy();
    let dir = data_dir();
    let output = run_to_end(node_command(&network, dir.path()).arg("--verify"));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there is no chain"), "{text}");
    assert!(text.contains("--data-dir"), "{text}");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "a store was made only to be looked at");
}

#[tokio::test]
async fn verify_fails_on_altered_data_and_says_what_to_do() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    node.mine(&network, 2).await;
    assert!(node.terminate().await.success());
    {
        use pithead_core::store::{Batch, RedbStore, Store as _, Table};
        let store = RedbStore::open(dir.path(), 4 << 20).unwrap();
        let mut batch = Batch::default();
        batch.delete(Table::Accounts, key(7).address.0);
        store.commit(&batch).unwrap();
    }
    let said = failure_of(node_command(&network, dir.path()).arg("--verify"));
    assert!(said.contains("accounts differ"), "{said}");
    assert!(said.contains("hint: restore a backup"), "{said}");
}

#[test]
fn an_environment_that_is_not_utf_8_does_no_harm() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let mut command = program();
    command
        .args(["config", "--data-dir", "d"])
        .env("UNRELATED", odd);
    assert!(run_to_end(&mut command).status.success());
    let said = failure_of(command.env("PITHEAD_NODE_RPC_BURST", odd));
    assert!(said.contains("PITHEAD_NODE_RPC_BURST"), "{said}");
}

#[tokio::test]
async fn logs_are_lines_of_json_when_asked_for() {
    let network = Network::easy();
    let dir = data_dir();
    let mut node = TestNode::start_with(&network, dir.path(), &["--log-format", "json"]);
    let hash = node.mine(&network, 1).await;
    signal(node.pid(), "TERM");
    assert!(node.wait().await.success());
    let log = node.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let tip = lines
        .iter()
        .find(|line| line["message"] == "new tip")
        .unwrap();
    assert_eq!((&tip["height"], &tip["hash"]), (&1.into(), &hash.into()));
    assert_eq!(tip["level"], "INFO");
}

#[test]
fn a_node_whose_parent_is_gone_stops_if_told_to() {
    let network = Network::easy();
    let dir = data_dir();
    // Standard input is at its end from the start.
    let mut command = node_command(&network, dir.path());
    let output = run_to_end(command.arg("--stop-on-stdin-close"));
    assert!(output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("standard input closed"), "{log}");
}
