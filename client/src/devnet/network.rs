//! The processes of a devnet: one node and its miners, with their folders and
//! logs. Each holds a pipe from this process as its standard input and stops
//! when that closes, so none outlives it, however it ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use pithead_client::{Client, DEFAULT_NODE_URL};
use tokio::process::{Child, ChildStdin, Command};

use super::scenario::Made;
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

    pub(super) fn node_data(&self) -> PathBuf {
        self.folder.join("node")
    }

    pub(super) fn wallets(&self) -> PathBuf {
        self.folder.join("wallets")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.join("node.address")
    }

    pub(super) fn mine_token(&self) -> PathBuf {
        self.node_data().join("mine.token")
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

/// The running network, as a client sees it.
pub(super) struct Network {
    url: String,
    client: Client,
}

/// The processes behind it.
pub(super) struct Processes(Vec<Process>);

impl Network {
    /// Starts the node, waits until it serves, then starts the miners.
    pub(super) async fn start(
        layout: &Layout,
        port: Option<u16>,
        miners: u32,
        made: &Made,
    ) -> Result<(Self, Processes)> {
        let node_program = program("pithead-node")?;
        let miner_program = program("pithead-miner")?;
        fs::create_dir_all(layout.folder().join("logs"))
            .with_context(|| format!("making {}", layout.folder().display()))?;
        // A file of an earlier run would name the wrong port.
        let _ = fs::remove_file(layout.ready_file());
        let mut command = Command::new(&node_program);
        command
            .arg("--genesis")
            .arg(layout.genesis())
            .arg("--data-dir")
            .arg(layout.node_data())
            .arg("--rpc-listen")
            .arg(format!("127.0.0.1:{}", choose_port(port)))
            .args(["--rpc-requests-per-minute", "0"])
            .arg("--ready-file")
            .arg(layout.ready_file())
            .arg("--stop-on-stdin-close");
        let mut node = spawn("node", command, layout)?;
        let address = wait_until_ready(&mut node, layout).await?;
        let url = format!("http://{address}");
        let client = Client::connect(&url).await?;

        let mut processes = vec![node];
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / miners as usize).max(1);
        for number in 1..=miners {
            let name = format!("miner-{number}");
            let mut command = Command::new(&miner_program);
            command
                .args(["--node", &url, "--address", &made.miner_address])
                .args(["--worker", &name, "--threads", &threads.to_string()])
                .arg("--token-file")
                .arg(layout.mine_token())
                .arg("--stop-on-stdin-close");
            processes.push(spawn(&name, command, layout)?);
        }
        Ok((Self { url, client }, Processes(processes)))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
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

async fn wait_until_ready(node: &mut Process, layout: &Layout) -> Result<String> {
    let path = layout.ready_file();
    let ready = async {
        loop {
            // The file appears whole.
            if let Ok(address) = fs::read_to_string(&path) {
                return address.trim().to_owned();
            }
            tokio::time::sleep(START_POLL).await;
        }
    };
    let explained = |what: String| {
        let text = fs::read_to_string(layout.log("node")).unwrap_or_default();
        let last = text.lines().next_back().unwrap_or("its log is empty");
        anyhow!("{what}; its log ends with: {last}")
    };
    tokio::select! {
        address = ready => Ok(address),
        status = node.child.wait() => Err(explained(describe_end("node", status).to_string())),
        () = tokio::time::sleep(START_TIMEOUT) => Err(explained(format!(
            "the node did not serve within {} s",
            START_TIMEOUT.as_secs()
        ))),
    }
}
