//! The command line of `pithead-miner`: flags, environment variables and their checks.
//! `main` turns them into the settings of a run.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::{Address, AddressPrefix};

use crate::endpoint::NodeAddress;
use crate::placement::{MachineUse, Processors};
use crate::workers::DEFAULT_NICE;

/// The longest worker name that nodes accept, in characters.
const WORKER_NAME_MAX: usize = 64;
/// An upper bound for `--threads`, above the number of processors of any machine.
const THREADS_MAX: usize = 4_096;
/// An upper bound for `--versions`, above the number that any kernel works best with.
const VERSIONS_MAX: u16 = 1_024;

/// Mines for a Pithead node: takes work from the node and searches for blocks on every
/// core
#[derive(Debug, Parser)]
#[command(
    name = "pithead-miner",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit status: 0 after Ctrl-C, SIGTERM or the number of blocks given by --blocks; \
                  2 if the command line, the kernel or the reward address is wrong; 1 after any \
                  other failure."
)]
pub struct MinerCli {
    /// The subcommand; `None`: mine.
    #[command(subcommand)]
    pub command: Option<MinerCommand>,
    /// The flags for mining.
    #[command(flatten)]
    pub mine: MinerArgs,
}

/// The subcommands. Without one, the program mines.
#[derive(Debug, Subcommand)]
pub enum MinerCommand {
    /// Measure the hash rate of this machine, without a node
    Bench(BenchArgs),
}

/// The flags for mining.
#[derive(Debug, Args)]
pub struct MinerArgs {
    /// Node to mine for. Repeat the flag, or separate addresses by commas, to name
    /// several: when a node is lost, the miner goes on to the next
    #[arg(
        long = "node",
        value_name = "URL",
        env = "PITHEAD_MINER_NODE",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7310"
    )]
    pub nodes: Vec<NodeAddress>,

    /// Address that found blocks pay
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PITHEAD_MINER_ADDRESS",
        required = true,
        value_parser = parse_reward_address
    )]
    pub address: Option<RewardAddress>,

    /// Name under which the node lists this miner [default: this machine's name]
    #[arg(long, value_name = "NAME", env = "PITHEAD_MINER_WORKER", value_parser = parse_worker)]
    pub worker: Option<String>,

    /// Threads, processors and kernel.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// Niceness of the mining threads: the higher it is, the more they yield to other
    /// programs
    #[arg(
        long,
        value_name = "0..19",
        env = "PITHEAD_MINER_NICE",
        default_value_t = DEFAULT_NICE,
        value_parser = clap::value_parser!(i32).range(0..=19)
    )]
    pub nice: i32,

    /// Token file that the node writes for its miners
    #[arg(long, value_name = "PATH", env = "PITHEAD_MINER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Stop after this many accepted blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub blocks: Option<u64>,

    /// Seconds between two reports in the log. A terminal shows a live line instead
    #[arg(
        long,
        value_name = "SECONDS",
        env = "PITHEAD_MINER_REPORT_SECS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub report_secs: u64,

    /// Format of the log, which goes to standard error
    #[arg(
        long,
        value_enum,
        env = "PITHEAD_MINER_LOG_FORMAT",
        default_value_t = MinerLogFormat::Human
    )]
    pub log_format: MinerLogFormat,

    /// Log only warnings and errors; show no live line and no reports
    #[arg(long, short)]
    pub quiet: bool,

    /// Write the summary at the end to standard output as one JSON object
    #[arg(long)]
    pub json_stats: bool,

    /// Record everything that is searched and handed in, in a new file. A test reads it
    /// to find out whether anything was searched twice or lost
    #[arg(long, value_name = "FILE", hide = true)]
    pub trace_ranges: Option<PathBuf>,

    /// Stop when standard input closes. A parent process that holds the other end never
    /// leaves the miner behind, even if it is killed
    #[arg(long)]
    pub stop_on_stdin_close: bool,
}

/// The flags for threads, processors and kernel, for mining and for measuring.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Number of mining threads, or "cores" for one thread per core, which leaves the
    /// other hyper-threads idle [default: one per processor]
    #[arg(long, value_name = "N|cores", env = "PITHEAD_MINER_THREADS", value_parser = parse_threads)]
    pub threads: Option<Threads>,

    /// Keep each mining thread on its own processor. All cores are used before any
    /// second hyper-thread of a core
    #[arg(long, env = "PITHEAD_MINER_PIN")]
    pub pin: bool,

    /// Kernel to hash with, a name from `bench --all-kernels` [default: the fastest on
    /// this machine, measured in 50 ms at the start]
    #[arg(long, value_name = "NAME", env = "PITHEAD_MINER_KERNEL")]
    pub kernel: Option<String>,
}

/// The value of `--threads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// A fixed number of threads.
    Count(usize),
    /// One thread per core.
    Cores,
}

impl MachineArgs {
    /// The flags as settings, for the processors that this process may use.
    #[must_use]
    pub fn machine_use(&self) -> MachineUse {
        let processors = Processors::of_this_process();
        let threads = match self.threads {
            Some(Threads::Count(count)) => count,
            Some(Threads::Cores) => processors.cores(),
            None => std::thread::available_parallelism().map_or(processors.count(), usize::from),
        };
        MachineUse {
            threads: threads.max(1),
            kernel: self.kernel.clone(),
            pinned: self.pin.then_some(processors),
        }
    }
}

/// The flags of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Length of each measurement in seconds; there is one for each number of threads
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = parse_seconds)]
    pub seconds: f64,

    /// Threads, processors and kernel. Every number of threads from 1 on is measured.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// First compare all kernels that run on this machine
    #[arg(long)]
    pub all_kernels: bool,

    /// Number of header versions to try together; 1 tries only the header's own
    /// [default: the number that the kernel works best with]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(VERSIONS_MAX))
    )]
    pub versions: Option<u16>,

    /// Ask this node for its difficulty and estimate the time to find a block
    #[arg(long, value_name = "URL")]
    pub node: Option<NodeAddress>,

    /// Write JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MinerLogFormat {
    /// One line of text per event
    Human,
    /// One JSON object per event
    Json,
}

/// The address that found blocks pay. The node checks that it is of its own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewardAddress {
    /// The address as the user typed it.
    pub text: String,
    /// The decoded address.
    pub payload: Address,
}

impl MinerArgs {
    /// The value of `--worker`, or this machine's name.
    #[must_use]
    pub fn worker_name(&self) -> String {
        self.worker.clone().unwrap_or_else(host_name)
    }
}

fn parse_reward_address(text: &str) -> Result<RewardAddress, ParseAddressError> {
    let text = text.trim();
    // In a bech32 text, the last 1 ends the prefix. For a text without any 1, the
    // decoder reports the error.
    let prefix = text.rsplit_once('1').map_or(text, |(prefix, _)| prefix);
    let prefix = AddressPrefix::new(&prefix.to_lowercase())?;
    Ok(RewardAddress {
        text: text.to_owned(),
        payload: Address::from_text(text, &prefix)?,
    })
}

fn parse_worker(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length == 0 || length > WORKER_NAME_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "a name has 1 to {WORKER_NAME_MAX} characters, none of them a control character"
        ));
    }
    Ok(text.to_owned())
}

fn parse_threads(text: &str) -> Result<Threads, String> {
    if text == "cores" {
        return Ok(Threads::Cores);
    }
    match text.parse() {
        Ok(threads) if (1..=THREADS_MAX).contains(&threads) => Ok(Threads::Count(threads)),
        _ => Err(format!(
            "expected a number from 1 to {THREADS_MAX}, or cores"
        )),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number from 0.01 to 3600".to_owned()),
    }
}

fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|character| !character.is_control())
        .take(WORKER_NAME_MAX)
        .collect();
    if name.is_empty() {
        "miner".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    const ADDRESS: [u8; 32] = [7; 32];

    fn address() -> String {
        Address(ADDRESS).to_text(&AddressPrefix::new("dpit").unwrap())
    }

    #[test]
    fn the_command_line_holds_together() {
        MinerCli::command().debug_assert();
    }

    #[test]
    fn several_nodes_are_named_by_flags_and_commas() {
        let address = address();
        let line = [
            "m",
            "--address",
            &address,
            "--node",
            "a:1,http://b:2",
            "--node",
            "c",
        ];
        let cli = MinerCli::try_parse_from(line).unwrap();
        let nodes: Vec<String> = cli.mine.nodes.iter().map(ToString::to_string).collect();
        assert_eq!(nodes, ["a:1", "b:2", "c:7310"]);
        assert_eq!(cli.mine.address.unwrap().payload, Address(ADDRESS));
        assert_eq!(cli.mine.report_secs, 10);
    }

    #[test]
    fn refuses_what_can_not_work() {
        let address = address();
        let address = address.as_str();
        let typo = address.replace("dpit1q", "dpit1p");
        for (arguments, said) in [
            (vec![], "--address"),
            (vec!["--address", "nonsense"], "not an address"),
            (vec!["--address", &typo], "not an address"),
            (vec!["--address", address, "--threads", "0"], "1 to 4096"),
            (vec!["--address", address, "--nice", "20"], "0..=19"),
            (vec!["--address", address, "--blocks", "0"], "0 is not in"),
            (vec!["--address", address, "--worker", ""], "1 to 64"),
            (vec!["--address", address, "--node", "https://x"], "not TLS"),
            (vec!["bench", "--seconds", "nan"], "0.01 to 3600"),
            (vec!["bench", "--versions", "0"], "0 is not in"),
        ] {
            let line = std::iter::once("m").chain(arguments.iter().copied());
            let error = MinerCli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{arguments:?}: {error}");
        }
        // The subcommand `bench` needs no address.
        MinerCli::try_parse_from(["m", "bench"]).unwrap();
    }

    #[test]
    fn threads_are_a_number_or_one_per_core() {
        let address = address();
        let threads = |value: &str| {
            let line = ["m", "--address", &address, "--threads", value, "--pin"];
            MinerCli::try_parse_from(line)
                .unwrap()
                .mine
                .machine
                .machine_use()
        };
        assert_eq!(threads("3").threads, 3);
        let cores = threads("cores");
        assert_eq!(cores.threads, cores.pinned.unwrap().cores());
    }
}
