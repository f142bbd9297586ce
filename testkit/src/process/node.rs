//! A running `pithead-node`: its start, its end, its log, and connections to its API. What
//! tests ask it is in `requests`, what they wait for in `wait`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use pithead_api::bearer::BearerToken;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_api::v1::transaction_service_client::TransactionServiceClient;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::network::Network;
use super::program::{PATIENCE, POLL, bare_node_command, signal};

/// Shows a role token with every request.
#[derive(Clone)]
pub struct ShownToken(BearerToken);

impl Interceptor for ShownToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.0.authorize(&mut request);
        Ok(request)
    }
}

/// A connection that shows a role token with every request.
pub type AuthorizedChannel = InterceptedService<Channel, ShownToken>;

/// A running `pithead-node`; killed when dropped.
pub struct TestNode {
    child: Child,
    data_dir: PathBuf,
    address: String,
    log: Arc<Mutex<String>>,
    /// Ends once the process has closed its log.
    log_reader: Option<JoinHandle<()>>,
    channel: Channel,
}

impl TestNode {
    /// Starts a node on `dir` and waits until it serves.
    pub fn start(network: &Network, dir: &Path) -> Self {
        Self::start_with(network, dir, &[])
    }

    /// The same with more flags. Without `--listen` among them the node is offline.
    pub fn start_with(network: &Network, dir: &Path, flags: &[&str]) -> Self {
        let mut command = bare_node_command(network, dir);
        if !flags.contains(&"--listen") {
            command.arg("--offline");
        }
        // Tests send many requests, and want every payment in the next template at once.
        for default in [
            ["--rpc-requests-per-minute", "0"],
            ["--template-refresh-secs", "1"],
        ] {
            if !flags.contains(&default[0]) {
                command.args(default);
            }
        }
        command.args(flags);
        Self::start_command(command, dir)
    }

    /// Runs a command that starts a node on `dir`, and waits until the node serves. The
    /// command names everything but the ready file.
    pub fn start_command(mut command: Command, dir: &Path) -> Self {
        let ready = dir.join("ready");
        // A file of the run before would name an address of that run.
        let _ = std::fs::remove_file(&ready);
        command.arg("--ready-file").arg(&ready);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, log_reader) = collect(child.stderr.take().unwrap());
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
            log_reader: Some(log_reader),
            channel,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// IP:PORT of its API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The log so far. While the node runs, its last lines may be missing yet.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The connection that all clients of this node share. It shows no token.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The token of a role, `mine` or `admin`, from the node's file.
    pub fn token(&self, role: &str) -> String {
        let path = self.data_dir.join(format!("{role}.token"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A connection that shows this token.
    pub fn channel_with(&self, token: &str) -> AuthorizedChannel {
        let token = BearerToken::new(token).unwrap();
        InterceptedService::new(self.channel(), ShownToken(token))
    }

    pub fn chain(&self) -> ChainServiceClient<Channel> {
        ChainServiceClient::new(self.channel())
    }

    pub fn transactions(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.channel())
    }

    pub fn network(&self) -> NetworkServiceClient<Channel> {
        NetworkServiceClient::new(self.channel())
    }

    /// A client that shows the token of the role mine.
    pub fn mining(&self) -> MiningServiceClient<AuthorizedChannel> {
        MiningServiceClient::new(self.channel_with(&self.token("mine")))
            .max_encoding_message_size(8 << 20)
    }

    /// A client that shows the token of the role admin.
    pub fn admin(&self) -> AdminServiceClient<AuthorizedChannel> {
        AdminServiceClient::new(self.channel_with(&self.token("admin")))
    }

    /// Kills the node without warning, as the kernel would that runs out of memory.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process without blocking the thread: the test's own connections
    /// have to notice that the node closes them. The log is complete afterwards.
    pub async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.log_reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops the node with SIGTERM and waits for its end.
    pub async fn terminate(mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait().await
    }
}

/// Reads a pipe to its end on a thread of its own, so that the process never waits for room.
fn collect(mut pipe: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let more = String::from_utf8_lossy(&buffer[..count]);
            writer.lock().unwrap().push_str(&more);
        }
    });
    (text, reader)
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
