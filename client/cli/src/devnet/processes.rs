//! The processes of a devnet: nodes and miners. Start with [`Devnet::start`].
//!
//! The first node is the bootnode of the others, and miners are spread over all
//! nodes. The standard input of each process is a pipe from this process, and it
//! stops when the pipe closes. No process outlives this one, even if this one is
//! killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use pithead_api::v1;
use pithead_client::Client;
use tokio::process::{Child, ChildStdin, Command};

use super::layout::Layout;
use super::plan::Plan;
use super::view::DevnetView;

/// The port that clients use if the user names none.
const DEFAULT_PORT: u16 = 7310;
/// How long a node may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks whether it does.
const START_POLL: Duration = Duration::from_millis(20);
/// Lines of a log to show when its process has failed.
const LOG_LINES_SHOWN: usize = 12;

/// A running node or miner.
struct Process {
    name: String,
    child: Child,
    /// The pipe that the process watches. It is kept apart from `child`, because
    /// `Child::wait` would close it.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

/// A connection to one node of the network.
pub(super) struct NodeConnection {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) client: Client,
}

impl NodeConnection {
    /// What node it is, and how many peers it has.
    pub(super) async fn info(&self) -> Result<v1::GetNodeInfoResponse> {
        Ok(self.client.node_info().await?)
    }
}

/// The running network: a connection to each of its nodes.
pub(super) struct Devnet {
    first: NodeConnection,
    others: Vec<NodeConnection>,
}

/// The node and miner processes of the network.
pub(super) struct Processes(Vec<Process>);

impl Devnet {
    /// Starts the nodes, waits until they serve, then starts the miners, whose
    /// rewards go to `miner_address`. `port` is that of the first node's API.
    pub(super) async fn start(
        layout: &Layout,
        port: Option<u16>,
        plan: &Plan,
        miner_address: &str,
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
        let devnet = Self { first, others };
        processes.extend(devnet.start_miners(layout, plan.miners, miner_address)?);
        Ok((devnet, Processes(processes)))
    }

    fn start_miners(&self, layout: &Layout, miners: u32, address: &str) -> Result<Vec<Process>> {
        let program = program("pithead-miner")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / miners as usize).max(1);
        let nodes = (1..).zip(self.nodes()).collect::<Vec<_>>();
        let mut processes = Vec::new();
        for (number, (node_number, node)) in (1..=miners).zip(nodes.iter().cycle()) {
            let name = format!("miner-{number}");
            let mut command = Command::new(&program);
            command
                .args(["--node", &node.url, "--address", address])
                .args(["--worker", &name, "--threads", &threads.to_string()])
                .arg("--token-file")
                .arg(layout.mine_token(*node_number))
                .arg("--stop-on-stdin-close");
            processes.push(spawn(&name, command, layout)?);
        }
        Ok(processes)
    }

    /// All nodes, the first one first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeConnection> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The URL of the first node's API.
    pub(super) fn url(&self) -> &str {
        &self.first.url
    }

    /// The connection to the first node.
    pub(super) fn client(&self) -> &Client {
        &self.first.client
    }
}

impl Processes {
    /// Waits until a process ends, which none should, and says which it was.
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
    pub(super) fn show_logs(&self, view: &DevnetView) {
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
                // A node may be killed: every block that it acknowledged is on disk.
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

/// The options by which a node finds the others, all on this machine.
fn connection(bootnode: Option<&String>) -> Vec<String> {
    let mut flags = vec!["--listen".to_owned(), "/ip4/127.0.0.1/tcp/0".to_owned()];
    if let Some(bootnode) = bootnode {
        flags.extend(["--bootnode".to_owned(), bootnode.clone()]);
    }
    flags
}

/// Starts nodes, and keeps their processes.
struct NodeStart<'a> {
    layout: &'a Layout,
    plan: &'a Plan,
    processes: &'a mut Vec<Process>,
}

impl NodeStart<'_> {
    /// Starts a node and waits until it serves.
    async fn node(
        &mut self,
        number: u32,
        port: u16,
        connection: &[String],
    ) -> Result<NodeConnection> {
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
        Ok(NodeConnection { name, url, client })
    }

    /// The options by which a node votes; empty for a node that is no validator.
    fn voting(&self, number: u32) -> Vec<std::ffi::OsString> {
        if number > self.plan.validators() {
            return Vec::new();
        }
        let key = self.layout.validator_key(number);
        let mut flags = vec!["--validator-key".into(), key.into()];
        // A node that never ran has never voted, so its record of votes is to be made.
        if !self.layout.node_data(number).exists() {
            flags.push("--init-vote-record".into());
        }
        flags
    }
}

/// Finds a program of this name in the folder of this program, else on the PATH.
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

/// The port that the user asks for; else the default one if it is free; else 0,
/// which takes any.
fn choose_port(asked: Option<u16>) -> u16 {
    match asked {
        Some(port) => port,
        None => match TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT)) {
            Ok(_) => DEFAULT_PORT,
            Err(_) => 0,
        },
    }
}

/// Starts a process whose log goes to the folder of logs.
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

/// Waits until a node serves and returns the address of its API.
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
