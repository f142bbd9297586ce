//! Passphrases: read from a file, the environment, or a prompt.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use pithead_client::{Passphrase, SigningKey, Wallet, WalletError};
use zeroize::Zeroizing;

use crate::terminal::output::note;
use crate::terminal::report::ErrorWithHint;

/// Environment variable with the passphrase.
const VARIABLE: &str = "PITHEAD_PASSPHRASE";
/// How often a wrong passphrase may be corrected at the prompt.
const ATTEMPTS: u32 = 3;

/// How a key is protected, in one word.
pub(crate) fn protection(encrypted: bool) -> &'static str {
    if encrypted { "passphrase" } else { "none" }
}

/// Options of the commands that open or protect a key.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase from the first line of this file [env: PITHEAD_PASSPHRASE holds the
    /// passphrase itself; without either it is asked for].
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase from the file or the environment.
    fn given(&self) -> anyhow::Result<Option<Passphrase>> {
        if let Some(path) = &self.passphrase_file {
            let text = std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| {
                    anyhow::anyhow!(
                        "the passphrase file {} can't be read: {error}",
                        path.display()
                    )
                })?;
            let line = text.lines().next().unwrap_or_default().to_owned();
            return Ok(Some(Passphrase::new(line)?));
        }
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Ok(Some(Passphrase::new(text)?)),
            _ => Ok(None),
        }
    }

    /// The passphrase that will protect a new key. At the prompt the user types it
    /// twice.
    pub(crate) fn for_new(&self, what: &str) -> anyhow::Result<Passphrase> {
        if let Some(passphrase) = self.given()? {
            return Ok(passphrase);
        }
        check_terminal(", or go without one with --no-passphrase")?;
        for _ in 0..ATTEMPTS {
            let first = prompt(&format!("New passphrase for {what}: "))?;
            let Ok(first) = Passphrase::new(first) else {
                note("an empty passphrase protects nothing; use --no-passphrase if you mean that");
                continue;
            };
            let second = prompt("The same again: ")?;
            if Passphrase::new(second).is_ok_and(|second| second == first) {
                return Ok(first);
            }
            note("the two differ; try again");
        }
        anyhow::bail!("no passphrase was given")
    }

    /// Opens a key with the passphrase of the file or the environment, or else with
    /// one that the user types, in at most three attempts. `what` names the key.
    pub(crate) fn open_with<T>(
        &self,
        what: &str,
        open: impl Fn(&Passphrase) -> Result<T, WalletError>,
    ) -> anyhow::Result<(T, Passphrase)> {
        if let Some(passphrase) = self.given()? {
            return Ok((open(&passphrase)?, passphrase));
        }
        check_terminal("")?;
        for attempt in 1.. {
            let typed = prompt(&format!("Passphrase of {what}: "))?;
            let Ok(passphrase) = Passphrase::new(typed) else {
                anyhow::bail!("no passphrase was given");
            };
            match open(&passphrase) {
                Err(error) if error.is_wrong_passphrase() && attempt < ATTEMPTS => {
                    note("wrong passphrase; try again");
                }
                opened => return Ok((opened?, passphrase)),
            }
        }
        anyhow::bail!("no passphrase was given")
    }

    /// Opens a wallet's private key.
    pub(crate) fn unlock(&self, wallet: &Wallet) -> anyhow::Result<SigningKey> {
        if !wallet.encrypted {
            return Ok(wallet.unlock(None)?);
        }
        let what = format!("wallet {}", wallet.name);
        let (key, _) = self.open_with(&what, |passphrase| wallet.unlock(Some(passphrase)))?;
        Ok(key)
    }
}

/// Refuses to prompt without a terminal, and says what else the user can do.
fn check_terminal(other_way: &str) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(ErrorWithHint {
        error: "a passphrase is needed, and there is no terminal to ask for it".to_owned(),
        hint: format!("give it with --passphrase-file FILE or {VARIABLE}{other_way}"),
    }
    .into())
}

fn prompt(text: &str) -> anyhow::Result<String> {
    Ok(rpassword::prompt_password(text)?)
}
