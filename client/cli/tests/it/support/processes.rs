//! Real processes on sockets: the programs of the workspace, and a folder with
//! what a node and its miners need.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pithead_client::{Client, ConnectOptions, WalletName, Wallets};
use pithead_consensus::AddressPrefix;
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network};

/// Held by a test while its miners run. Each of them wants every core, and the difficulty follows
/// the hash rate: with two networks at once the blocks of both would come too late.
pub static ONE_NETWORK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at what can't be awaited.
pub const POLL: Duration = Duration::from_millis(20);

/// A program of the workspace, built if it is not there yet.
pub fn program(name: &str) -> PathBuf {
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
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and says whether it was a success.
    pub fn ended_well(&mut self) -> bool {
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
pub struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    pub fn new() -> Self {
        // A free port, kept the same over restarts so that miners find it again.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            port: listener.local_addr().unwrap().port(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pithead(&self, arguments: &[&str]) -> Output {
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

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_slice(&self.pithead(&all).stdout).unwrap()
    }

    /// Makes a wallet and returns its address.
    pub fn wallet(&self, name: &str) -> String {
        self.pithead(&["wallet", "new", name, "--no-passphrase"]);
        let name: WalletName = name.parse().unwrap();
        let wallet = Wallets::in_folder(self.path("wallets")).open(&name);
        let prefix = AddressPrefix::new("dpit").unwrap();
        wallet.unwrap().address().to_text(&prefix)
    }

    /// A genesis whose blocks take a debug miner a fraction of a second.
    pub fn write_genesis(&self, funded: &str) {
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

    pub fn node_command(&self) -> Command {
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
    pub fn start_node(&self) -> Running {
        let mut command = self.node_command();
        command.arg("--offline");
        self.start(command)
    }

    pub fn start(&self, mut command: Command) -> Running {
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

    pub fn start_miner(&self, name: &str, address: &str) -> Running {
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

    pub async fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.path("node/mine.token")).unwrap();
        let options = ConnectOptions {
            token: Some(token),
            ..ConnectOptions::new(&self.url())
        };
        Client::connect_with(&options).await.unwrap()
    }
}
