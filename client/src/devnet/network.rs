//! The processes of a devnet: nodes and miners, with their folders and logs. The
//! first node is the others' bootnode; miners are spread over all of them. Each holds a pipe from this process as its standard input and stops
//! when that closes, so none outlives it, however it ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use pithead_api::v1;
use pithead_client::{Client, DEFAULT_NODE_URL};
use pithead_consensus::genesis::GenesisFile;
use tokio::process::{Child, ChildStdin, Command};

use super::made::Made;
use super::plan::Plan;
use super::view::View;

/// The port that clients try by themselves.
const DEFAULT_PORT: u16 = 7310;
/// How long the node may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether it does.
const START_POLL: Duration = Duration::from_millis(20);
/// Lines of a log to show when its process has failed.
const LOG_LINES_SHOWN: usize = 12;

/// Where things are in a devnet's folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn genesis(&self) -> PathBuf {
        self.folder.join("genesis.toml")
    }

    /// The name of a node, from 1 on: of its folder and of its log.
    pub(super) fn node_name(number: u32) -> String {
        match number {
            1 => "node".to_owned(),
            _ => format!("node-{number}"),
        }
    }

    fn node_data(&self, number: u32) -> PathBuf {
        self.folder.join(Self::node_name(number))
    }

    pub(super) fn wallets(&self) -> PathBuf {
        self.folder.join("wallets")
    }

    /// The key that a node votes with.
    pub(super) fn validator_key(&self, number: u32) -> PathBuf {
        let name = format!("validator-{number:02}.pem");
        self.validators().join(name)
    }

    /// Of the validators' keys.
    pub(super) fn validators(&self) -> PathBuf {
        self.folder.join("validators")
    }

    /// The genesis of a network that is there.
    pub(super) fn read_genesis(&self) -> Result<GenesisFile> {
        let path = self.genesis();
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(GenesisFile::from_toml(&text)?)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    fn ready_file(&self, number: u32) -> PathBuf {
        let name = Self::node_name(number);
        self.folder.join(format!("{name}.address"))
    }

    /// Of the first node.
    pub(super) fn mine_token(&self) -> PathBuf {
        self.mine_token_of(1)
    }

    fn mine_token_of(&self, number: u32) -> PathBuf {
        self.node_data(number).join("mine.token")
    }

    /// Whether a devnet is there already.
    pub(super) fn exists(&self) -> bool {
        self.genesis().is_file()
    }

    /// Refuses a folder that holds something else.
    pub(super) fn check_free(&self) -> Result<()> {
        match fs::read_dir(&self.folder) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => bail!(
                    "{} is not empty and holds no devnet: name a new or empty folder",
                    self.folder.display()
                ),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("looking into {}", self.folder.display()))
            }
        }
    }
}

/// A running process of the network.
struct Process {
    name: String,
    child: Child,
    /// Held open; kept apart from the child, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

/// A node, as a client sees it.
pub(super) struct NodeLink {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) client: Client,
}

impl NodeLink {
    /// What node it is, and how many peers it has.
    pub(super) async fn info(&self) -> Result<v1::GetNodeInfoResponse> {
        let mut network = self.client.network();
        let request = network.get_node_info(v1::GetNodeInfoRequest {});
        Ok(self.client.call(request).await?)
    }
}

/// The running network, as a client sees it.
pub(super) struct Network {
    first: NodeLink,
    others: Vec<NodeLink>,
}

/// The processes behind it.
pub(super) struct Processes(Vec<Process>);

impl Network {
    /// Starts the nodes, waits until they serve, then starts the miners.
    pub(super) async fn start(
        layout: &Layout,
        port: Option<u16>,
        plan: &Plan,
        made: &Made,
    ) -> Result<(Self, Processes)> {
        fs::create_dir_all(layout.folder().join("logs"))
            .with_context(|| format!("making {}", layout.folder().display()))?;
        let mut processes = Vec::new();
        let alone = plan.nodes == 1;
        let port = choose_port(port);
        let flags = if alone {
            vec!["--offline".to_owned()]
        } else {
            connection(None)
        };
        let mut start = NodeStart {
            layout,
            plan,
            processes: &mut processes,
        };
        let first = start.node(1, port, &flags).await?;
        let mut others = Vec::new();
        if !alone {
            let info = first.info().await?;
            let bootnode = info.listen_addresses.first();
            let bootnode = bootnode.context("the first node listens nowhere")?;
            let flags = connection(Some(bootnode));
            for number in 2..=plan.nodes {
                others.push(start.node(number, 0, &flags).await?);
            }
        }
        let network = Self { first, others };
        network.start_miners(layout, plan.miners, made, &mut processes)?;
        Ok((network, Processes(processes)))
    }

    fn start_miners(
        &self,
        layout: &Layout,
        miners: u32,
        made: &Made,
        processes: &mut Vec<Process>,
    ) -> Result<()> {
        let program = program("pithead-miner")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / miners as usize).max(1);
        let nodes = (1..).zip(self.nodes()).collect::<Vec<_>>();
        for (number, (node_number, node)) in (1..=miners).zip(nodes.iter().cycle()) {
            let name = format!("miner-{number}");
            let mut command = Command::new(&program);
            command
                .args(["--node", &node.url, "--address", &made.miner_address])
                .args(["--worker", &name, "--threads", &threads.to_string()])
                .arg("--token-file")
                .arg(layout.mine_token_of(*node_number))
                .arg("--stop-on-stdin-close");
            processes.push(spawn(&name, command, layout)?);
        }
        Ok(())
    }

    /// All nodes, the first one first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeLink> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Of the first node.
    pub(super) fn url(&self) -> &str {
        &self.first.url
    }

    /// Of the first node.
    pub(super) fn client(&self) -> &Client {
        &self.first.client
    }

    /// What `--node` must say to reach it; nothing if that is the default.
    pub(super) fn node_flag(url: &str) -> String {
        if url == DEFAULT_NODE_URL {
            String::new()
        } else {
            format!(" --node {url}")
        }
    }
}

impl Processes {
    /// Waits until a process ends that should not, and says which.
    pub(super) async fn died(&mut self) -> anyhow::Error {
        let waits = self.0.iter_mut().map(|process| {
            Box::pin(async move {
                let status = process.child.wait().await;
                describe_end(&process.name, status)
            })
        });
        first(waits.collect()).await
    }

    /// Shows the ends of the logs.
    pub(super) fn show_logs(&self, view: &View) {
        for process in &self.0 {
            if let Ok(text) = fs::read_to_string(&process.log) {
                let lines: Vec<&str> = text.lines().collect();
                let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
                view.log_end(&process.name, lines.get(from..).unwrap_or_default());
            }
        }
    }

    /// Closes the pipes, miners first, and waits for the processes to end.
    pub(super) async fn end(mut self, timeout: Duration) {
        self.0.reverse();
        for process in &mut self.0 {
            drop(process.stdin.take());
        }
        for process in &mut self.0 {
            if tokio::time::timeout(timeout, process.child.wait())
                .await
                .is_err()
            {
                // It had its time; what it acknowledged is on disk.
                let _ = process.child.kill().await;
            }
        }
    }
}

/// The first of several futures to complete.
async fn first<T>(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    std::future::poll_fn(move |context| {
        for future in &mut futures {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn describe_end(name: &str, status: std::io::Result<ExitStatus>) -> anyhow::Error {
    match status {
        Ok(status) => anyhow!("{name} ended unexpectedly: {status}"),
        Err(error) => anyhow!("{name} can't be watched: {error}"),
    }
}

/// How a node of several is to find the others, all on this machine.
fn connection(bootnode: Option<&String>) -> Vec<String> {
    let mut flags = vec!["--listen".to_owned(), "/ip4/127.0.0.1/tcp/0".to_owned()];
    if let Some(bootnode) = bootnode {
        flags.extend(["--bootnode".to_owned(), bootnode.clone()]);
    }
    flags
}

/// What starting any node needs.
struct NodeStart<'a> {
    layout: &'a Layout,
    plan: &'a Plan,
    processes: &'a mut Vec<Process>,
}

impl NodeStart<'_> {
    /// Starts a node and waits until it serves.
    async fn node(&mut self, number: u32, port: u16, connection: &[String]) -> Result<NodeLink> {
        let layout = self.layout;
        let name = Layout::node_name(number);
        let ready_file = layout.ready_file(number);
        // A file of an earlier run would name the wrong port.
        let _ = fs::remove_file(&ready_file);
        let mut command = Command::new(program("pithead-node")?);
        command
            .arg("--genesis")
            .arg(layout.genesis())
            .arg("--data-dir")
            .arg(layout.node_data(number))
            .arg("--rpc-listen")
            .arg(format!("127.0.0.1:{port}"))
            .args(["--rpc-requests-per-minute", "0"])
            .args(connection)
            .args(self.voting(number))
            .arg("--ready-file")
            .arg(&ready_file)
            .arg("--stop-on-stdin-close");
        let mut node = spawn(&name, command, layout)?;
        let address = wait_until_ready(&mut node, &ready_file).await?;
        self.processes.push(node);
        let url = format!("http://{address}");
        let client = Client::connect(&url).await?;
        Ok(NodeLink { name, url, client })
    }

    /// How a node votes, if it does.
    fn voting(&self, number: u32) -> Vec<std::ffi::OsString> {
        if number > self.plan.validators() {
            return Vec::new();
        }
        let key = self.layout.validator_key(number);
        let mut flags = vec!["--validator-key".into(), key.into()];
        // Only a node that never ran can have a key that never voted.
        if !self.layout.node_data(number).exists() {
            flags.push("--init-vote-record".into());
        }
        flags
    }
}

/// The program of this name beside this one, or on the PATH.
fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's folder")?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let beside = folder.join(name);
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| {
            format!(
                "{name} is neither in {} nor on the PATH; in a clone of the project, `cargo devnet` builds all programs first",
                folder.display()
            )
        })
}

/// The port asked for; else the default one if it is free; else any.
fn choose_port(asked: Option<u16>) -> u16 {
    match asked {
        Some(port) => port,
        None => match TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT)) {
            Ok(_) => DEFAULT_PORT,
            Err(_) => 0,
        },
    }
}

fn spawn(name: &str, mut command: Command, layout: &Layout) -> Result<Process> {
    let log = layout.log(name);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("writing {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(file)
        // A Ctrl-C at the terminal is for this process to pass on.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    Ok(Process {
        name: name.to_owned(),
        stdin: child.stdin.take(),
        child,
        log,
    })
}

async fn wait_until_ready(node: &mut Process, path: &Path) -> Result<String> {
    let ready = async {
        loop {
            // The file appears whole.
            if let Ok(address) = fs::read_to_string(path) {
                return address.trim().to_owned();
            }
            tokio::time::sleep(START_POLL).await;
        }
    };
    let log = node.log.clone();
    let explained = |what: String| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().next_back().unwrap_or("its log is empty");
        anyhow!("{what}; its log ends with: {last}")
    };
    tokio::select! {
        address = ready => Ok(address),
        status = node.child.wait() => Err(explained(describe_end(&node.name, status).to_string())),
        () = tokio::time::sleep(START_TIMEOUT) => Err(explained(format!(
            "the node did not serve within {} s",
            START_TIMEOUT.as_secs()
        ))),
    }
}
