//! The command line of `pithead-miner`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::{Address, AddressPrefix};

use crate::endpoint::NodeAddress;
use crate::placement::Processors;
use crate::workers::DEFAULT_NICE;

/// Longest name of a worker that nodes take.
const WORKER_NAME_MAX: usize = 64;
/// More threads than any machine has cores.
const THREADS_MAX: usize = 4_096;

/// More versions than any kernel tries together.
const VERSIONS_MAX: u16 = 1_024;

/// Mines for a Pithead node: takes work from it and looks for blocks on every
/// core.
#[derive(Debug, Parser)]
#[command(
    name = "pithead-miner",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit status: 0 after Ctrl-C, SIGTERM or the blocks asked for; 2 if the command \
                  line, the kernel or the reward address is wrong; 1 after any other failure."
)]
pub struct Cli {
    /// Another thing to do than to mine.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to mine.
    #[command(flatten)]
    pub mine: MineArgs,
}

/// Other things to do than to mine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure this machine's hash rate; needs no node
    Bench(BenchArgs),
}

/// How to mine.
#[derive(Debug, Args)]
pub struct MineArgs {
    /// Node to mine for; several, or separated by commas: the next one takes
    /// over when one is lost
    #[arg(
        long = "node",
        value_name = "URL",
        env = "PITHEAD_MINER_NODE",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7310"
    )]
    pub nodes: Vec<NodeAddress>,

    /// Address that blocks pay to
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PITHEAD_MINER_ADDRESS",
        required = true,
        value_parser = parse_reward_address
    )]
    pub address: Option<RewardAddress>,

    /// Name of this miner, as the node lists it [default: this machine's name]
    #[arg(long, value_name = "NAME", env = "PITHEAD_MINER_WORKER", value_parser = parse_worker)]
    pub worker: Option<String>,

    /// How to use this machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// Niceness of the mining threads: how much they yield to everything else
    #[arg(
        long,
        value_name = "0..19",
        env = "PITHEAD_MINER_NICE",
        default_value_t = DEFAULT_NICE,
        value_parser = clap::value_parser!(i32).range(0..=19)
    )]
    pub nice: i32,

    /// File with the token that the node writes for its miners
    #[arg(long, value_name = "PATH", env = "PITHEAD_MINER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Stop after so many accepted blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub blocks: Option<u64>,

    /// Seconds between two reports where there is no terminal
    #[arg(
        long,
        value_name = "SECONDS",
        env = "PITHEAD_MINER_REPORT_SECS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub report_secs: u64,

    /// Form of the log, which goes to standard error
    #[arg(
        long,
        value_enum,
        env = "PITHEAD_MINER_LOG_FORMAT",
        default_value_t = LogFormat::Human
    )]
    pub log_format: LogFormat,

    /// Only warnings and errors, no live line and no reports
    #[arg(long, short)]
    pub quiet: bool,

    /// Write the summary at the end as one JSON object to standard output
    #[arg(long)]
    pub json_stats: bool,

    /// Put everything that is searched and handed in on record in a new file, to
    /// find out whether anything was searched twice or lost
    #[arg(long, value_name = "FILE", hide = true)]
    pub trace_ranges: Option<PathBuf>,

    /// Stop when standard input closes: for a parent process that must not
    /// leave the miner behind, however it ends itself
    #[arg(long)]
    pub stop_on_stdin_close: bool,
}

/// How to use this machine, for mining and for measuring.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Mining threads: a number, or "cores" for one a core, leaving the
    /// hyper-threads of each idle [default: one a processor]
    #[arg(long, value_name = "N|cores", env = "PITHEAD_MINER_THREADS", value_parser = parse_threads)]
    pub threads: Option<Threads>,

    /// Keep each mining thread on a processor of its own, every core before any
    /// of its hyper-threads
    #[arg(long, env = "PITHEAD_MINER_PIN")]
    pub pin: bool,

    /// Kernel to hash with, as `bench --all-kernels` names them [default: the
    /// fastest here, found in 50 ms at the start]
    #[arg(long, value_name = "NAME", env = "PITHEAD_MINER_KERNEL")]
    pub kernel: Option<String>,
}

/// How many mining threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// So many.
    Count(usize),
    /// One a core.
    Cores,
}

impl MachineArgs {
    /// How many threads that makes, and where they are kept.
    #[must_use]
    pub fn placement(&self) -> (usize, Option<Processors>) {
        let processors = Processors::of_this_process();
        let threads = match self.threads {
            Some(Threads::Count(count)) => count,
            Some(Threads::Cores) => processors.cores(),
            None => std::thread::available_parallelism().map_or(processors.count(), usize::from),
        };
        (threads.max(1), self.pin.then_some(processors))
    }
}

/// How to measure.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Seconds for each number of threads
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = parse_seconds)]
    pub seconds: f64,

    /// How to use this machine: 1 to so many threads are measured.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// Compare all kernels that run here before
    #[arg(long)]
    pub all_kernels: bool,

    /// Versions of a header to try together, 1 being none but its own [default: as
    /// many as suit the kernel]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(VERSIONS_MAX))
    )]
    pub versions: Option<u16>,

    /// Ask this node for its difficulty, and tell how long a block would take
    #[arg(long, value_name = "URL")]
    pub node: Option<NodeAddress>,

    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text an event.
    Human,
    /// One JSON object an event.
    Json,
}

/// An address to be paid, as typed and decoded. Whether its network is the
/// node's is for the node to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewardAddress {
    /// As typed.
    pub text: String,
    /// Its payload.
    pub payload: Address,
}

impl MineArgs {
    /// The name of this miner.
    #[must_use]
    pub fn worker_name(&self) -> String {
        self.worker.clone().unwrap_or_else(host_name)
    }
}

fn parse_reward_address(text: &str) -> Result<RewardAddress, ParseAddressError> {
    let text = text.trim();
    // The last 1 of a bech32 text separates its prefix; without any, the
    // decoder says so itself.
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
        Cli::command().debug_assert();
    }

    #[test]
    fn nodes_come_in_any_mix() {
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
        let cli = Cli::try_parse_from(line).unwrap();
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
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{arguments:?}: {error}");
        }
        // The subcommand needs no address.
        Cli::try_parse_from(["m", "bench"]).unwrap();
    }

    #[test]
    fn threads_are_a_number_or_one_a_core() {
        let address = address();
        let threads = |value: &str| {
            let line = ["m", "--address", &address, "--threads", value, "--pin"];
            Cli::try_parse_from(line).unwrap().mine.machine
        };
        assert_eq!(threads("3").placement().0, 3);
        let (count, pinned) = threads("cores").placement();
        assert_eq!(count, pinned.unwrap().cores());
    }
}
