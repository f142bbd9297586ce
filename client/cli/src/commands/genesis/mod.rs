//! `pithead genesis`: makes and shows the file that every node of a network
//! starts from (protocol §10). `show` reads and prints such files.

mod room;
mod show;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use pithead_client::key_file::write_public_file;
use pithead_client::{Quorum, ValidatorFile, WalletName};
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{AddressPrefix, Genesis};

pub(crate) use self::show::read;
use self::show::{print, show};
use super::arguments::{Payment, parse_prefix};
use super::context::Context;
use crate::terminal::output::note;
use crate::terminal::report::{ErrorWithHint, UsageError};

/// Subcommands of `pithead genesis`.
#[derive(Debug, Subcommand)]
pub(crate) enum GenesisCommand {
    /// Write the genesis file of a new network.
    New(Box<NewGenesisArgs>),
    /// Check a genesis file and show what it says, its hash first.
    Show {
        /// The genesis file to check.
        file: PathBuf,
    },
}

/// The built-in network whose parameters a new one starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// A block every 10 s, rewards after 100 blocks.
    Main,
    /// A block every 10 s, rewards after 10 blocks.
    Test,
    /// A block every 2 s, rewards at once, every block a checkpoint.
    Dev,
}

impl Preset {
    fn network(self) -> Network {
        match self {
            Self::Main => Network::Main,
            Self::Test => Network::Test,
            Self::Dev => Network::Dev,
        }
    }
}

/// Arguments of `genesis new`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pithead genesis new --name solo --allocation alice=1000
  pithead genesis new --name our-net --validators keys/ --quorum 20 --allocation alice=1000
  pithead genesis new --name our-net --preset test --address-prefix our \\
      --validators anna.public.toml ben.public.toml carl.public.toml --out our-net.toml

The same file makes the same network. To make the same file again, give --time, too, and the
validators in the same order.")]
pub(crate) struct NewGenesisArgs {
    /// Name of the network: 1 to 32 printable ASCII characters.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The built-in network whose parameters to start from.
    #[arg(long, value_name = "NETWORK", value_enum, default_value = "dev")]
    preset: Preset,
    /// Public files or key files of the validators, or folders of them; in this order.
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    validators: Vec<PathBuf>,
    /// How many validators must approve a checkpoint [default: four fifths, as 20 of 25].
    #[arg(long, value_name = "N")]
    quorum: Option<u32>,
    /// The balance of an account from the start, in PIT; the account is an address or a wallet. May
    /// be repeated.
    #[arg(long, value_name = "ADDRESS=AMOUNT", num_args = 1..)]
    allocation: Vec<Payment>,
    /// Prefix of the network's addresses: 1 to 16 lower-case letters and digits.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    address_prefix: Option<AddressPrefix>,
    /// Time of the genesis block, Unix seconds [default: now].
    #[arg(long, value_name = "SECS")]
    time: Option<u32>,
    /// Compact target of the first block, such as 0x1e0fffff.
    #[arg(long, value_name = "BITS")]
    bits: Option<Bits>,
    /// Easiest compact target.
    #[arg(long, value_name = "BITS")]
    pow_limit_bits: Option<Bits>,
    /// Intended mean time between blocks.
    #[arg(long, value_name = "SECS")]
    block_interval_secs: Option<u32>,
    /// Half-life of the difficulty rule.
    #[arg(long, value_name = "SECS")]
    half_life_secs: Option<u32>,
    /// How far a block's time may lie ahead of a node's clock.
    #[arg(long, value_name = "SECS")]
    max_future_secs: Option<u32>,
    /// Largest block.
    #[arg(long, value_name = "BYTES")]
    max_block_bytes: Option<u32>,
    /// Accounts that a block's transactions may change.
    #[arg(long, value_name = "COUNT")]
    max_account_changes: Option<u32>,
    /// Least amount of a payment that opens an account.
    #[arg(long, value_name = "GRAINS")]
    min_opening_amount: Option<u32>,
    /// Blocks until a reward is paid out; 0: at once.
    #[arg(long, value_name = "BLOCKS")]
    reward_maturity: Option<u32>,
    /// How many blocks from one checkpoint to the next; validators vote on checkpoints.
    #[arg(long, value_name = "BLOCKS")]
    checkpoint_interval: Option<u32>,
    /// Write to this file, which must not exist yet.
    #[arg(long, short, value_name = "FILE", default_value = "genesis.toml")]
    out: PathBuf,
}

/// A compact target, as 0x1e0fffff or as a plain number.
#[derive(Debug, Clone, Copy)]
struct Bits(u32);

impl FromStr for Bits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        read.map(Self)
            .map_err(|_| "expected a compact target, such as 0x1e0fffff".to_owned())
    }
}

pub(crate) async fn run(context: &Context, command: GenesisCommand) -> anyhow::Result<()> {
    match command {
        GenesisCommand::New(args) => new(context, &args),
        GenesisCommand::Show { file } => show(context, &file),
    }
}

fn new(context: &Context, args: &NewGenesisArgs) -> anyhow::Result<()> {
    // Said before anything is read, so that no work is lost.
    if args.out.symlink_metadata().is_ok() {
        return Err(exists(&args.out));
    }
    let preset = args.preset.network().genesis_file();
    let prefix = match &args.address_prefix {
        Some(prefix) => prefix.clone(),
        None => AddressPrefix::new(&preset.address_prefix)?,
    };
    let validators = validators(args, &prefix)?;
    let (quorum, why) = quorum(args, validators.len())?;
    let file = GenesisFile {
        name: args.name.clone(),
        address_prefix: prefix.to_string(),
        time: match args.time {
            Some(time) => time,
            None => now()?,
        },
        bits: args.bits.map_or(preset.bits, |bits| bits.0),
        pow_limit_bits: args
            .pow_limit_bits
            .map_or(preset.pow_limit_bits, |bits| bits.0),
        block_interval_secs: args
            .block_interval_secs
            .unwrap_or(preset.block_interval_secs),
        half_life_secs: args.half_life_secs.unwrap_or(preset.half_life_secs),
        max_future_secs: args.max_future_secs.unwrap_or(preset.max_future_secs),
        max_block_bytes: args.max_block_bytes.unwrap_or(preset.max_block_bytes),
        max_account_changes: args
            .max_account_changes
            .unwrap_or(preset.max_account_changes),
        min_opening_amount: args.min_opening_amount.unwrap_or(preset.min_opening_amount),
        reward_maturity: args.reward_maturity.unwrap_or(preset.reward_maturity),
        checkpoint_interval: args
            .checkpoint_interval
            .unwrap_or(preset.checkpoint_interval),
        approval_quorum: quorum.map_or(0, Quorum::get),
        allocations: allocations(context, args, &prefix)?,
        validators,
    };
    let genesis = file.check()?;
    room::check(&file, &genesis)?;
    write_public_file(&args.out, file.to_toml()?.as_bytes()).map_err(|error| {
        if error.is_already_there() {
            exists(&args.out)
        } else {
            error.into()
        }
    })?;
    print(context, &args.out, &file, &genesis)?;
    if !context.json() {
        advise(args, &genesis, why);
    }
    Ok(())
}

fn exists(path: &Path) -> anyhow::Error {
    ErrorWithHint {
        error: format!(
            "{} is there already; another file would make another network",
            path.display()
        ),
        hint: "choose another file with --out".to_owned(),
    }
    .into()
}

fn now() -> anyhow::Result<u32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    u32::try_from(now).context("the clock is beyond 2106")
}

fn validators(
    args: &NewGenesisArgs,
    prefix: &AddressPrefix,
) -> anyhow::Result<Vec<ValidatorEntry>> {
    let mut entries = Vec::new();
    for path in &args.validators {
        let files = ValidatorFile::read_all(path)?;
        entries.extend(files.iter().map(|file| file.entry(prefix)));
    }
    Ok(entries)
}

/// The quorum, and the reason for it if the user did not choose it.
fn quorum(args: &NewGenesisArgs, count: usize) -> anyhow::Result<(Option<Quorum>, Option<String>)> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    match args.quorum {
        Some(0) if count == 0 => Ok((None, None)),
        Some(quorum) => match Quorum::new(count, quorum) {
            Ok(quorum) => Ok((Some(quorum), None)),
            Err(error) => Err(UsageError(format!("--quorum: {error}")).into()),
        },
        None => {
            let chosen = Quorum::default_of(count);
            Ok((chosen, chosen.map(Quorum::why_default)))
        }
    }
}

fn allocations(
    context: &Context,
    args: &NewGenesisArgs,
    prefix: &AddressPrefix,
) -> anyhow::Result<Vec<AllocationEntry>> {
    let mut entries = Vec::with_capacity(args.allocation.len());
    for Payment { to, amount } in &args.allocation {
        // Addresses are longer than any wallet's name.
        let address = match to.parse::<WalletName>() {
            Ok(name) => context.wallets()?.open(&name)?.address().to_text(prefix),
            Err(_) => to.clone(),
        };
        entries.push(AllocationEntry {
            address,
            amount: amount.to_string(),
        });
    }
    Ok(entries)
}

/// Notes what the user should know before others join the network.
fn advise(args: &NewGenesisArgs, genesis: &Genesis, why: Option<String>) {
    if let Some(why) = why {
        note(format!(
            "The quorum is {}: {why} (choose with --quorum).",
            genesis.params.approval_quorum
        ));
    }
    if genesis.validators.is_empty() {
        note(
            "There are no validators: the chain is plain proof of work, and nothing is ever final.",
        );
    }
    // A client takes main's and test's prefix for those networks themselves.
    if ["pit", "tpit"].contains(&genesis.prefix.as_str()) {
        note(format!(
            "Addresses that start with {}1 are known as another network's: wallets ask for --network {} here. Another --address-prefix avoids that.",
            genesis.prefix, genesis.params.genesis_hash
        ));
    }
    note(format!(
        "Every node needs this very file: pithead-node --genesis {} --data-dir DIR",
        args.out.display()
    ));
}
