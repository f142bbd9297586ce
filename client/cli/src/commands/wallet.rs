//! `pithead wallet`: makes, lists, shows, imports and exports named keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pithead_client::chain::NETWORKS;
use pithead_client::key_file::{read_key_file, write_private_file};
use pithead_client::{KeyFileError, Passphrase, SigningKey, Wallet, WalletError, WalletName};
use pithead_consensus::AddressPrefix;
use serde::Serialize;

use super::context::Context;
use super::names::{address_label, on_each_network};
use super::passphrase::{PassphraseArgs, protection};
use crate::terminal::output::{Column, note, table};

/// Subcommands of `pithead wallet`.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new key, protected by a passphrase.
    New(NewWalletArgs),
    /// List the wallets; needs no passphrase.
    List,
    /// Show a wallet's addresses and its public key; needs no passphrase.
    Show {
        /// Its name.
        name: WalletName,
    },
    /// Take in a private key: PEM, PKCS#8 (encrypted or not) or PKCS#1.
    Import(ImportWalletArgs),
    /// Write the private key as PKCS#8 PEM, encrypted with the wallet's passphrase, for OpenSSL and
    /// other programs.
    Export(ExportWalletArgs),
}

/// Arguments of `wallet new`.
#[derive(Debug, Args)]
pub(crate) struct NewWalletArgs {
    /// Its name: letters, digits, `.`, `_` and `-`.
    name: WalletName,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Keep the key unencrypted: for play money only.
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
}

/// Arguments of `wallet import`.
#[derive(Debug, Args)]
pub(crate) struct ImportWalletArgs {
    /// The name for it here.
    name: WalletName,
    /// The key file, in PEM.
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Keep the key unencrypted: for play money only. An encrypted file still needs its passphrase.
    #[arg(long)]
    no_passphrase: bool,
}

/// Arguments of `wallet export`.
#[derive(Debug, Args)]
pub(crate) struct ExportWalletArgs {
    /// The wallet's name.
    name: WalletName,
    /// Write to this file, which must not exist yet, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Write the key unencrypted. Anyone who reads it can spend the money.
    #[arg(long)]
    no_passphrase: bool,
}

/// A wallet as JSON.
#[derive(Debug, Serialize)]
struct WalletJson {
    name: String,
    address: String,
    addresses: BTreeMap<&'static str, String>,
    encrypted: bool,
    public_key: String,
    path: String,
}

impl WalletJson {
    fn of(wallet: &Wallet, prefix: &AddressPrefix) -> Self {
        Self {
            name: wallet.name.to_string(),
            address: wallet.address().to_text(prefix),
            addresses: on_each_network(&wallet.address()),
            encrypted: wallet.encrypted,
            public_key: hex::encode(wallet.public_key.modulus()),
            path: wallet.path.display().to_string(),
        }
    }
}

pub(crate) async fn run(context: &Context, command: WalletCommand) -> anyhow::Result<()> {
    match command {
        WalletCommand::New(args) => new(context, &args).await,
        WalletCommand::List => list(context).await,
        WalletCommand::Show { name } => show(context, &name).await,
        WalletCommand::Import(args) => import(context, &args).await,
        WalletCommand::Export(args) => export(context, &args),
    }
}

async fn new(context: &Context, args: &NewWalletArgs) -> anyhow::Result<()> {
    let wallets = context.wallets()?;
    wallets.check_free(&args.name)?;
    let passphrase = if args.no_passphrase {
        None
    } else {
        Some(args.passphrase.for_new(&format!("wallet {}", args.name))?)
    };
    let key = SigningKey::generate()?;
    let wallet = wallets.add(&args.name, &key, passphrase.as_ref())?;
    added(context, &wallet).await
}

async fn import(context: &Context, args: &ImportWalletArgs) -> anyhow::Result<()> {
    let wallets = context.wallets()?;
    wallets.check_free(&args.name)?;
    let text = read_key_file(&args.file)?;
    let wrap = |source| KeyFileError::Key {
        path: args.file.clone(),
        source,
    };
    let (key, opened_with) = if SigningKey::is_encrypted_pem(&text) {
        let what = args.file.display().to_string();
        let open = |passphrase: &Passphrase| {
            let key = SigningKey::from_pem(&text, Some(passphrase)).map_err(wrap)?;
            Ok::<_, WalletError>(key)
        };
        let (key, passphrase) = args.passphrase.open_with(&what, open)?;
        (key, Some(passphrase))
    } else {
        (SigningKey::from_pem(&text, None).map_err(wrap)?, None)
    };
    let passphrase = match opened_with {
        _ if args.no_passphrase => None,
        Some(passphrase) => Some(passphrase),
        None => Some(args.passphrase.for_new(&format!("wallet {}", args.name))?),
    };
    let wallet = wallets.add(&args.name, &key, passphrase.as_ref())?;
    added(context, &wallet).await
}

async fn added(context: &Context, wallet: &Wallet) -> anyhow::Result<()> {
    print(context, wallet, false).await?;
    if !context.json() {
        note(if wallet.encrypted {
            "Without the passphrase and this file the money is lost: keep copies of both."
        } else {
            "This key is not encrypted: anyone who reads the file can spend the money."
        });
    }
    Ok(())
}

async fn show(context: &Context, name: &WalletName) -> anyhow::Result<()> {
    let wallet = context.wallets()?.open(name)?;
    print(context, &wallet, true).await
}

async fn print(context: &Context, wallet: &Wallet, with_key: bool) -> anyhow::Result<()> {
    if context.json() {
        let prefix = context.shown_prefix().await?;
        return context.out.json(&WalletJson::of(wallet, &prefix));
    }
    let mut fields = vec![("wallet", wallet.name.to_string())];
    let mut addresses = on_each_network(&wallet.address());
    for network in NETWORKS {
        let text = addresses.remove(network.name()).unwrap_or_default();
        fields.push((address_label(network.name()), text));
    }
    fields.push(("protection", protection(wallet.encrypted).to_owned()));
    fields.push(("file", wallet.path.display().to_string()));
    if with_key {
        fields.push(("public key", hex::encode(wallet.public_key.modulus())));
    }
    Ok(context.out.fields(&fields)?)
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let wallets = context.all_wallets()?;
    if wallets.is_empty() && !context.json() {
        let folder = context.wallets()?.folder().display().to_string();
        return Ok(context.out.line(format!(
            "no wallets in {folder} yet: make one with `pithead wallet new NAME`"
        ))?);
    }
    let prefix = context.shown_prefix().await?;
    if context.json() {
        let wallets = wallets.iter().map(|wallet| WalletJson::of(wallet, &prefix));
        return context.out.json(&serde_json::json!({
            "folder": context.wallets()?.folder().display().to_string(),
            "wallets": wallets.collect::<Vec<_>>(),
        }));
    }
    let columns = [
        Column::Left("wallet"),
        Column::Left("address"),
        Column::Left("protection"),
    ];
    let rows = wallets.iter().map(|wallet| {
        vec![
            wallet.name.to_string(),
            wallet.address().to_text(&prefix),
            protection(wallet.encrypted).to_owned(),
        ]
    });
    Ok(context.out.line(table(&columns, rows))?)
}

fn export(context: &Context, args: &ExportWalletArgs) -> anyhow::Result<()> {
    let wallet = context.wallets()?.open(&args.name)?;
    let what = format!("wallet {}", wallet.name);
    let (key, opened_with) = if wallet.encrypted {
        let open = |passphrase: &Passphrase| wallet.unlock(Some(passphrase));
        let (key, passphrase) = args.passphrase.open_with(&what, open)?;
        (key, Some(passphrase))
    } else {
        (wallet.unlock(None)?, None)
    };
    let passphrase = match opened_with {
        _ if args.no_passphrase => None,
        Some(passphrase) => Some(passphrase),
        None => Some(args.passphrase.for_new("the exported file")?),
    };
    let text = key.to_portable_pem(passphrase.as_ref())?;
    match &args.out {
        Some(path) => write_export(context, path, &wallet, text.as_bytes()),
        None => Ok(context.out.line(text.trim_end())?),
    }
}

fn write_export(
    context: &Context,
    path: &Path,
    wallet: &Wallet,
    text: &[u8],
) -> anyhow::Result<()> {
    write_private_file(path, text)?;
    if context.json() {
        return context.out.json(&serde_json::json!({
            "name": wallet.name.as_str(),
            "path": path.display().to_string(),
        }));
    }
    let said = format!("wallet {} written to {}", wallet.name, path.display());
    Ok(context.out.line(said)?)
}
