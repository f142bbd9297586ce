//! `pithead validator`: the key of a validator, and the lines about it that a
//! genesis needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use pithead_client::validator::{PUBLIC_SUFFIX, public_path};
use pithead_client::{SigningKey, ValidatorFile};
use pithead_consensus::AddressPrefix;
use serde::Serialize;

use super::arguments::parse_prefix;
use super::context::Context;
use super::names::{address_label, on_each_network};
use super::passphrase::{PassphraseArgs, protection};
use crate::terminal::output::note;

/// Subcommands of `pithead validator`.
#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Make a validator's key, and the public file that goes into a genesis.
    New(NewValidatorArgs),
    /// Show a validator's addresses, its public key and its lines for a genesis file; needs no
    /// passphrase.
    Show(ShowValidatorArgs),
}

/// Arguments of `validator new`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pithead validator new --out anna.pem --address-prefix dpit
  pithead genesis new --name our-net --validators anna.public.toml ben.public.toml …")]
pub(crate) struct NewValidatorArgs {
    /// The key file; the public file comes beside it, its name ending in .public.toml.
    #[arg(long, short, value_name = "FILE", default_value = "validator.pem")]
    out: PathBuf,
    /// Prefix of the network's addresses, for the public file [default: that of --network, else of
    /// the node]. The key is the same on every network.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    address_prefix: Option<AddressPrefix>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Keep the key unencrypted: anyone who reads the file can vote with it.
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
}

/// Arguments of `validator show`.
#[derive(Debug, Args)]
pub(crate) struct ShowValidatorArgs {
    /// A key file or a public file.
    file: PathBuf,
    /// Prefix of the network's addresses [default: that of --network, else of the node].
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    address_prefix: Option<AddressPrefix>,
}

/// A validator as one of its files shows it, as JSON.
#[derive(Debug, Serialize)]
struct ValidatorFileJson {
    address: String,
    addresses: BTreeMap<&'static str, String>,
    public_key: String,
    encrypted: Option<bool>,
    path: String,
    public_path: Option<String>,
    genesis_lines: String,
}

impl ValidatorFileJson {
    fn of(file: &ValidatorFile, prefix: &AddressPrefix) -> Self {
        let entry = file.entry(prefix);
        Self {
            address: entry.address,
            addresses: on_each_network(&file.address()),
            public_key: entry.public_key,
            encrypted: file.encrypted,
            path: file.path.display().to_string(),
            public_path: file
                .encrypted
                .map(|_| public_path(&file.path).display().to_string()),
            genesis_lines: file.genesis_lines(prefix),
        }
    }
}

pub(crate) async fn run(context: &Context, command: ValidatorCommand) -> anyhow::Result<()> {
    match command {
        ValidatorCommand::New(args) => new(context, args).await,
        ValidatorCommand::Show(args) => show(context, args).await,
    }
}

async fn prefix(context: &Context, given: Option<AddressPrefix>) -> anyhow::Result<AddressPrefix> {
    match given {
        Some(prefix) => Ok(prefix),
        None => context.shown_prefix().await,
    }
}

async fn new(context: &Context, args: NewValidatorArgs) -> anyhow::Result<()> {
    ValidatorFile::check_free(&args.out)?;
    let prefix = prefix(context, args.address_prefix).await?;
    let passphrase = if args.no_passphrase {
        None
    } else {
        let what = format!("the validator's key {}", args.out.display());
        Some(args.passphrase.for_new(&what)?)
    };
    let key = SigningKey::generate()?;
    let file = ValidatorFile::create(&args.out, &key, passphrase.as_ref(), &prefix)?;
    if context.json() {
        return context.out.json(&ValidatorFileJson::of(&file, &prefix));
    }
    context.out.fields(&fields(&file, &prefix))?;
    note(format!(
        "Give the public file to the maker of the genesis: pithead genesis new --validators *{PUBLIC_SUFFIX} …"
    ));
    note(format!(
        "The key file stays with the one node that votes: pithead-node --validator-key {}",
        args.out.display()
    ));
    note(
        "Never let two nodes have it: two different votes for one height are proof against you, for ever.",
    );
    if passphrase.is_none() {
        note("This key is not encrypted: anyone who reads the file can vote in your name.");
    }
    Ok(())
}

async fn show(context: &Context, args: ShowValidatorArgs) -> anyhow::Result<()> {
    let files = ValidatorFile::read(&args.file)?;
    let prefix = prefix(context, args.address_prefix).await?;
    if context.json() {
        let all = files
            .iter()
            .map(|file| ValidatorFileJson::of(file, &prefix));
        return context.out.json(&all.collect::<Vec<_>>());
    }
    for file in &files {
        context.out.fields(&fields(file, &prefix))?;
        let lines = file.genesis_lines(&prefix);
        context.out.line(format!("\n{}", lines.trim_end()))?;
    }
    Ok(())
}

fn fields(file: &ValidatorFile, prefix: &AddressPrefix) -> Vec<(&'static str, String)> {
    let mut fields = vec![("validator", file.entry(prefix).address)];
    for (network, text) in on_each_network(&file.address()) {
        if fields.iter().all(|(_, shown)| *shown != text) {
            fields.push((address_label(network), text));
        }
    }
    match file.encrypted {
        Some(encrypted) => fields.extend([
            ("protection", protection(encrypted).to_owned()),
            ("key file", file.path.display().to_string()),
            ("public file", public_path(&file.path).display().to_string()),
        ]),
        None => fields.push(("public file", file.path.display().to_string())),
    }
    fields
}
