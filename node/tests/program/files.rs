//! The data directory as an operator meets it: a first start that was cut short, data that is
//! missing, half there or damaged, and `--verify`, which never changes what it looks at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pithead_testkit::process::{
    Network, TestNode, data_dir, failure_of, node_command, run_to_end, verify,
};

const BLOCK: usize = 4_096;

/// Every file in a folder, with its bytes.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(listing(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

/// What `--verify` says of a folder that it must not call sound, and must not change.
fn refused_by_verify(network: &Network, dir: &Path) -> String {
    let before = listing(dir);
    let said = failure_of(node_command(network, dir).arg("--verify"));
    assert!(listing(dir) == before, "--verify changed the data: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A node that starts, mines two blocks and stops.
async fn with_two_blocks(network: &Network, dir: &Path) {
    let node = TestNode::start(network, dir);
    node.mine(network, 2).await;
    assert!(node.terminate().await.success());
}

/// Starts a node and stops it at once, on a disk where no file can grow beyond some KiB. A write
/// beyond that fails, or kills the process.
fn start_with_room(network: &Network, dir: &Path, kib: u32, kills: bool) -> bool {
    let node = node_command(network, dir);
    let trap = if kills { "" } else { "trap '' XFSZ; " };
    let script = format!("{trap}ulimit -c 0; ulimit -f {kib}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(node.get_program());
    command.args(node.get_args()).arg("--stop-on-stdin-close");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PITHEAD_")) {
        command.env_remove(name);
    }
    command.stdin(std::process::Stdio::null());
    let output = run_to_end(&mut command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    output.status.success()
}

#[test]
fn a_first_start_that_is_cut_short_anywhere_is_completed_by_the_next() {
    let network = Network::easy();
    let mut cut_short = 0;
    for kib in [0, 1, 2, 4, 8, 64, 300, 600, 1_000, 1_400, 1_800, 10_000] {
        for kills in [false, true] {
            let dir = data_dir();
            let complete = start_with_room(&network, dir.path(), kib, kills);
            cut_short += u32::from(!complete);
            let mut again = node_command(&network, dir.path());
            let output = run_to_end(again.arg("--stop-on-stdin-close"));
            assert!(
                output.status.success(),
                "{kib} KiB, killed: {kills}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            verify(&network, dir.path());
        }
    }
    assert!(cut_short >= 10, "{cut_short}");
}

#[test]
fn what_a_first_start_of_an_earlier_version_left_does_no_harm() {
    let network = Network::easy();
    let dir = data_dir();
    // Its database had its length, and not yet its first bytes.
    fs::write(dir.path().join("chain.redb"), vec![0; 1_589_248]).unwrap();
    let mut command = node_command(&network, dir.path());
    let output = run_to_end(command.arg("--stop-on-stdin-close"));
    assert!(output.status.success());
    verify(&network, dir.path());
}

#[test]
fn no_data_to_verify_is_a_failure() {
    let network = Network::easy();
    let dir = data_dir();
    // A database without a chain, as a first start leaves it that ends before the genesis.
    drop(pithead_core::store::RedbStore::open(dir.path(), 4 << 20).unwrap());
    let said = refused_by_verify(&network, dir.path());
    assert!(said.contains("there is no chain"), "{said}");
}

#[tokio::test]
async fn a_missing_half_is_refused_with_what_to_do() {
    let network = Network::easy();
    let dir = data_dir();
    with_two_blocks(&network, dir.path()).await;
    for name in ["chain.redb", "blocks/bodies-00000.dat"] {
        let (path, aside) = (dir.path().join(name), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let said = refused_by_verify(&network, dir.path());
        assert!(said.contains(&format!("{name} is missing")), "{said}");
        let said = failure_of(&mut node_command(&network, dir.path()));
        assert!(said.contains(&format!("{name} is missing")), "{said}");
        assert!(said.contains("put it back, restore a backup"), "{said}");
        fs::rename(&aside, &path).unwrap();
    }
    assert!(verify(&network, dir.path()).contains("verified 2 blocks"));
}

#[tokio::test]
async fn what_an_interrupted_backup_left_is_no_data_directory() {
    let network = Network::easy();
    let dir = data_dir();
    with_two_blocks(&network, dir.path()).await;
    let left = dir.path().join("copy.unfinished-backup");
    fs::create_dir_all(left.join("blocks")).unwrap();
    let bodies = "blocks/bodies-00000.dat";
    fs::copy(dir.path().join(bodies), left.join(bodies)).unwrap();
    let said = refused_by_verify(&network, &left);
    assert!(said.contains("a backup that did not end"), "{said}");
    // Under any other name one half is missing.
    let renamed = dir.path().join("copy");
    fs::rename(&left, &renamed).unwrap();
    let said = refused_by_verify(&network, &renamed);
    assert!(said.contains("chain.redb is missing"), "{said}");
}

#[tokio::test]
async fn verify_only_reads_and_keeps_its_replay_where_it_is_told() {
    let network = Network::easy();
    let dir = data_dir();
    with_two_blocks(&network, dir.path()).await;
    // What a crash left behind the last body is not cut off either.
    let bodies = dir.path().join("blocks/bodies-00000.dat");
    let mut bytes = fs::read(&bodies).unwrap();
    bytes.extend([7; 100]);
    fs::write(&bodies, bytes).unwrap();
    let before = listing(dir.path());
    assert!(verify(&network, dir.path()).contains("verified 2 blocks"));
    assert!(listing(dir.path()) == before);
    let scratch = data_dir();
    let mut command = node_command(&network, dir.path());
    command.arg("--verify").arg("--scratch").arg(scratch.path());
    assert!(run_to_end(&mut command).status.success());
    assert!(listing(scratch.path()).is_empty());
    let nowhere = dir.path().join("chain.redb/below");
    let mut command = node_command(&network, dir.path());
    let said = failure_of(command.arg("--verify").arg("--scratch").arg(nowhere));
    assert!(said.contains("choose another with --scratch"), "{said}");
}

#[tokio::test]
async fn a_zeroed_page_is_an_error_with_a_way_out() {
    let network = Network::easy();
    let dir = data_dir();
    with_two_blocks(&network, dir.path()).await;
    let path = dir.path().join("chain.redb");
    let mut bytes = fs::read(&path).unwrap();
    // Every used block but the first three: format, checksums and header.
    for block in bytes.chunks_mut(BLOCK).skip(3) {
        block.fill(0);
    }
    fs::write(&path, bytes).unwrap();
    let verified = refused_by_verify(&network, dir.path());
    let started = failure_of(&mut node_command(&network, dir.path()));
    for said in [verified, started] {
        assert!(said.contains("damaged data"), "{said}");
        assert!(said.contains("restore a backup"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
