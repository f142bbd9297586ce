//! Failures on standard error: one `error:` line, a `hint:` line if the user can
//! do something about it, and the exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use pithead_client::{
    ChainError, ClientError, KeyError, KeyFileError, TransferError, ValidatorError, WaitError,
    WalletError,
};

use super::output::{BOLD, RED, YELLOW, paint};

/// Exit status of a command that was called wrongly; clap uses the same.
const EXIT_USAGE: u8 = 2;

/// A command line whose arguments contradict each other or lack something.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A failure of a command, with advice for this very case.
#[derive(Debug)]
pub(crate) struct ErrorWithHint {
    /// The line after `error:`.
    pub(crate) error: String,
    /// The line after `hint:`.
    pub(crate) hint: String,
}

impl fmt::Display for ErrorWithHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for ErrorWithHint {}

/// Writes a failure to standard error and returns the exit status.
pub(crate) fn failed(error: &anyhow::Error, color: bool) -> ExitCode {
    if is_broken_pipe(error) {
        // The reader of the output has ended, as `head` does once it has its lines.
        return ExitCode::SUCCESS;
    }
    let mut text = format!("{} {error}\n", paint(color, &[RED, BOLD], "error:"));
    if let Some(hint) = hint(error) {
        text.push_str(&format!(
            "{} {hint}\n",
            paint(color, &[YELLOW, BOLD], "hint:")
        ));
    }
    // If standard error is closed, too, the failure can't be shown anywhere.
    let _ = io::stderr().write_all(text.as_bytes());
    if error.is::<UsageError>() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ErrorWithHint>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<TransferError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<WalletError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<KeyFileError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ValidatorError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<WaitError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ChainError>() {
        return error.hint();
    }
    if let Some(KeyError::EmptyPassphrase) = error.downcast_ref::<KeyError>() {
        return Some("to keep a key unprotected on purpose, use --no-passphrase".to_owned());
    }
    if error.is::<UsageError>() {
        return Some("see --help".to_owned());
    }
    None
}
