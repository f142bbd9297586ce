//! Waiting for a transaction to be mined, over restarts of the node.

use std::str::FromStr;
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::TransactionState as State;
use pithead_client::{Client, ClientError};

use super::send::progress;
use crate::finality;
use crate::show::status_sentence;

/// How long a node may be away before waiting is given up.
const ABSENCE_MAX: Duration = Duration::from_secs(120);
/// Pause between two tries to reach it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How settled a transaction is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmations {
    /// This many blocks from its own to the tip.
    AtLeast(u64),
    /// The validators approved a block at or above its own.
    Approved,
    /// It can't be undone.
    Final,
}

impl Confirmations {
    /// Refuses to wait for approvals where nobody gives any.
    pub(crate) fn check_possible(self, info: &v1::GetChainInfoResponse) -> anyhow::Result<()> {
        match self {
            Self::AtLeast(_) => Ok(()),
            Self::Approved | Self::Final => finality::check_there_is_any(info),
        }
    }
}

impl FromStr for Confirmations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mined" => Ok(Self::AtLeast(1)),
            "approved" => Ok(Self::Approved),
            "final" => Ok(Self::Final),
            _ => match text.parse() {
                Ok(count) if count > 0 => Ok(Self::AtLeast(count)),
                _ => Err(
                    "expected mined, approved, final, or a number of confirmations from 1 on"
                        .to_owned(),
                ),
            },
        }
    }
}

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum WaitOutcome {
    /// It is as settled as was wanted.
    Reached(v1::TransactionStatus),
    /// It was replaced or dropped.
    Lost(v1::TransactionStatus),
}

/// Waits until a transaction is as settled as wanted, telling every step.
pub(crate) async fn wait_until(
    client: &Client,
    txid: &str,
    wanted: Confirmations,
    quiet: bool,
) -> anyhow::Result<WaitOutcome> {
    let mut last_answer = Instant::now();
    let mut told = String::new();
    loop {
        match follow(client, txid, wanted, quiet, &mut told, &mut last_answer).await {
            Ok(Some(outcome)) => return Ok(outcome),
            // The node ended the stream early: ask again.
            Ok(None) => {}
            Err(error) if error.is_disconnect() && last_answer.elapsed() < ABSENCE_MAX => {
                progress(quiet, &format!("waiting: {error}; trying again"));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn follow(
    client: &Client,
    txid: &str,
    wanted: Confirmations,
    quiet: bool,
    told: &mut String,
    last_answer: &mut Instant,
) -> Result<Option<WaitOutcome>, ClientError> {
    let confirmations = match wanted {
        Confirmations::AtLeast(count) => count,
        // Until it is final; this side may stop before.
        Confirmations::Approved | Confirmations::Final => 0,
    };
    let mut stream = client.watch_transaction(txid, confirmations).await?;
    while let Some(message) = client.next(&mut stream).await? {
        *last_answer = Instant::now();
        let status = message.status.unwrap_or_default();
        let sentence = status_sentence(&status);
        if *told != sentence {
            progress(quiet, &format!("waiting: {sentence}"));
            *told = sentence;
        }
        if is_reached(&status, wanted) {
            return Ok(Some(WaitOutcome::Reached(status)));
        }
        if matches!(status.state(), State::Replaced | State::Dropped) {
            return Ok(Some(WaitOutcome::Lost(status)));
        }
    }
    Ok(None)
}

fn is_reached(status: &v1::TransactionStatus, wanted: Confirmations) -> bool {
    match (status.state(), wanted) {
        (State::Final, _) | (State::Approved, Confirmations::Approved) => true,
        (State::Mined | State::Approved, Confirmations::AtLeast(count)) => {
            status.confirmations >= count
        }
        _ => false,
    }
}
