//! `pithead devnet`: its demonstrations hold, and it leaves no process behind.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use pithead_client::Client;

use crate::support::processes::{ONE_NETWORK, PATIENCE, POLL, Running, program};

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

/// The command for a devnet on a port that is free.
fn devnet() -> Command {
    // The command starts both programs.
    program("pithead-node");
    program("pithead-miner");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pithead"));
    command.args(["devnet", "--port", "0"]).stdin(Stdio::null());
    command
}

/// What a devnet prints, which must have ended well and said all of this.
fn shown(output: &Output, parts: &[&str]) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    text
}

#[test]
fn the_devnet_holds_every_step() {
    let _cores = ONE_NETWORK.blocking_lock();
    let output = devnet().arg("--exit").output().unwrap();
    let text = shown(&output, &["Every step held"]);
    assert_eq!(
        text.matches("every wallet has exactly what it should")
            .count(),
        2
    );
}

#[test]
fn a_devnet_of_three_nodes_agrees() {
    let _cores = ONE_NETWORK.blocking_lock();
    let output = devnet()
        .args(["--nodes", "3", "--miners", "3", "--exit"])
        .output()
        .unwrap();
    let parts = [
        "each has 2 peers or more",
        "is the tip of all 3",
        "Every step held",
    ];
    shown(&output, &parts);
}

#[test]
fn a_devnet_of_validators_makes_every_payment_final_and_goes_on() {
    let _cores = ONE_NETWORK.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("net");
    let output = devnet()
        .args(["--validators", "4", "--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let parts = [
        "Quorum: 3 of 4 validators: any two quorums share 2 of them, and 1 may be away",
        "all 26 payments are final",
        "from block to approved: p50 ",
        "from block to final: p50 ",
        "is final on all 4",
        "Every step held",
    ];
    shown(&output, &parts);

    // Each node goes on with its record of votes; without them nothing would be final.
    let again = devnet()
        .args(["--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let parts = [
        "Quorum: 3 of 4",
        "more is final than block",
        "is final on all 4",
    ];
    shown(&again, &parts);
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
async fn a_devnet_that_is_killed_leaves_no_process_behind() {
    let _cores = ONE_NETWORK.lock().await;
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
    let info = client.node_info().await.unwrap();
    running.signal("KILL");
    running.ended_well();
    wait_until_gone(info.process_id);

    // The network that it kept goes on.
    let again = devnet()
        .args(["--exit", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    shown(&again, &["The network goes on"]);
}
