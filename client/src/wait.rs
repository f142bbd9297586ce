//! Waiting until a transaction is mined, approved or final. The wait goes on
//! while the node restarts, and ends when the transaction can't be mined any
//! more or finality has stopped.
//!
//! Start with [`wait_until`]. It knows no terminal: it hands every step to the
//! caller as a [`WaitEvent`].

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::TransactionState as State;
use thiserror::Error;

use crate::connection::Client;
use crate::error::ClientError;
use crate::finality::FinalityProgress;

/// How long a node may be away before the wait fails.
const ABSENCE_MAX: Duration = Duration::from_secs(120);
/// Pause between two attempts to reach a node that is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two requests for the approvals of a checkpoint.
const APPROVALS_PAUSE: Duration = Duration::from_secs(2);

/// How settled a transaction must be before the wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmations {
    /// The best chain has at least this many blocks from the transaction's own
    /// to its tip, both included.
    AtLeast(u64),
    /// The validators approved a block at or above the transaction's own.
    Approved,
    /// The transaction can't be undone.
    Final,
}

impl Confirmations {
    /// Refuses a wait that can't end well. Worth asking before the transaction
    /// is sent: finality may have stopped for good.
    ///
    /// # Errors
    /// [`WaitError::NoValidators`] and [`WaitError::FinalityStopped`].
    pub fn check_before_sending(self, info: &v1::GetChainInfoResponse) -> Result<(), WaitError> {
        self.check_possible(info)?;
        match self {
            Self::AtLeast(_) => Ok(()),
            Self::Approved | Self::Final => check_advances(info),
        }
    }

    /// Refuses a wait for approvals on a network without validators. Where
    /// finality has stopped the wait is allowed: what was final before stays so.
    ///
    /// # Errors
    /// [`WaitError::NoValidators`].
    pub fn check_possible(self, info: &v1::GetChainInfoResponse) -> Result<(), WaitError> {
        let needs_validators = !matches!(self, Self::AtLeast(_));
        if needs_validators && FinalityProgress::of(info) == FinalityProgress::NoValidators {
            return Err(WaitError::NoValidators {
                network: info.network.clone(),
            });
        }
        Ok(())
    }
}

impl FromStr for Confirmations {
    type Err = String;

    /// `mined`, `approved`, `final`, or a number of confirmations from 1 on.
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

/// Why a wait failed.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The caller wants approvals on a network without validators.
    #[error("the network {network} has no validators: nothing on it is ever approved or final")]
    NoValidators {
        /// The network's name, as the node tells it.
        network: String,
    },
    /// Two certificates conflict, so no further block becomes approved or final.
    #[error(
        "finality on the network {network} has stopped at height {final_height}: two certificates conflict, and nothing more becomes approved or final"
    )]
    FinalityStopped {
        /// The network's name, as the node tells it.
        network: String,
        /// Height of the last final block.
        final_height: u64,
    },
    /// The node refused a request, or was away for longer than two minutes.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl WaitError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoValidators { .. } => Some(
                "wait for a number of confirmations instead, such as --wait=6".to_owned(),
            ),
            Self::FinalityStopped { .. } => Some(
                "see `pithead evidence`; the chain goes on by proof of work: wait for a number of confirmations instead, such as --wait=6".to_owned(),
            ),
            Self::Client(error) => error.hint(),
        }
    }
}

/// One step of a wait. The same step may be told several times in a row.
#[derive(Debug)]
pub enum WaitEvent<'a> {
    /// The node is away; the wait tries again after a second.
    NodeLost(&'a ClientError),
    /// The transaction stands here, which is not enough yet.
    Status(&'a v1::TransactionStatus),
    /// The transaction is as settled as the caller wants.
    Reached(&'a v1::TransactionStatus),
    /// The validators can't vote yet: the next checkpoint is not mined.
    CheckpointAhead {
        /// Height of the next checkpoint that would settle the transaction.
        checkpoint: u64,
        /// Height of the best chain's tip.
        tip: u64,
    },
    /// The validators are voting on a checkpoint that would settle the transaction.
    Approvals {
        /// Height of the checkpoint.
        checkpoint: u64,
        /// How many validators have approved it.
        count: usize,
        /// How many must approve it.
        quorum: u32,
    },
}

/// How a wait ended.
#[derive(Debug)]
pub enum WaitOutcome {
    /// The transaction is as settled as the caller wants.
    Reached(v1::TransactionStatus),
    /// The transaction was replaced or dropped, and can't be mined any more.
    Lost(v1::TransactionStatus),
}

/// Waits until a transaction is as settled as `wanted`, and tells every step to
/// `on_event`.
///
/// # Errors
/// [`WaitError::FinalityStopped`] if approvals are wanted and none can come;
/// [`WaitError::Client`] if the node refuses, or is away for two minutes.
pub async fn wait_until(
    client: &Client,
    txid: &str,
    wanted: Confirmations,
    on_event: impl FnMut(WaitEvent<'_>),
) -> Result<WaitOutcome, WaitError> {
    let mut wait = Wait {
        client,
        wanted,
        on_event,
        last_answer: Instant::now(),
    };
    loop {
        match wait.follow(txid).await {
            Ok(Some(outcome)) => return Ok(outcome),
            // The node ended the stream early: ask again.
            Ok(None) => {}
            Err(WaitError::Client(lost))
                if lost.is_disconnect() && wait.last_answer.elapsed() < ABSENCE_MAX =>
            {
                (wait.on_event)(WaitEvent::NodeLost(&lost));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A wait in progress.
struct Wait<'a, F> {
    client: &'a Client,
    wanted: Confirmations,
    on_event: F,
    /// When the node last said something of the transaction.
    last_answer: Instant,
}

impl<F: FnMut(WaitEvent<'_>)> Wait<'_, F> {
    /// Follows the transaction over one stream; `None` if the stream ends first.
    async fn follow(&mut self, txid: &str) -> Result<Option<WaitOutcome>, WaitError> {
        let confirmations = match self.wanted {
            Confirmations::AtLeast(count) => count,
            // 0 means until it is final. For Approved this side stops earlier.
            Confirmations::Approved | Confirmations::Final => 0,
        };
        let mut stream = self.client.watch_transaction(txid, confirmations).await?;
        let mut status = v1::TransactionStatus::default();
        loop {
            let message = tokio::select! {
                message = self.client.next(&mut stream) => message?,
                () = tokio::time::sleep(APPROVALS_PAUSE) => {
                    self.tell_approvals(&status).await?;
                    continue;
                }
            };
            let Some(message) = message else {
                return Ok(None);
            };
            self.last_answer = Instant::now();
            status = message.status.unwrap_or_default();
            if is_reached(&status, self.wanted) {
                (self.on_event)(WaitEvent::Reached(&status));
                return Ok(Some(WaitOutcome::Reached(status)));
            }
            (self.on_event)(WaitEvent::Status(&status));
            if matches!(status.state(), State::Replaced | State::Dropped) {
                return Ok(Some(WaitOutcome::Lost(status)));
            }
            self.tell_approvals(&status).await?;
        }
    }

    /// Tells how many validators have approved the checkpoint that comes next for
    /// this transaction. Fails if finality has stopped.
    async fn tell_approvals(&mut self, status: &v1::TransactionStatus) -> Result<(), WaitError> {
        let wants_approvals = !matches!(self.wanted, Confirmations::AtLeast(_));
        if !wants_approvals || !matches!(status.state(), State::Mined | State::Approved) {
            return Ok(());
        }
        // If the node is away, the stream ends and says so.
        let Ok(info) = self.client.chain_info().await else {
            return Ok(());
        };
        check_advances(&info)?;
        let parameters = info.parameters.unwrap_or_default();
        let interval = u64::from(parameters.checkpoint_interval.max(1));
        // Checkpoints are counted from the genesis: number 2 has the height 2 × interval.
        let own = status.block_height.div_ceil(interval).max(1);
        // A block is final once the checkpoint after the approved one is approved.
        let next = match status.state() {
            State::Approved if info.final_height >= status.block_height => return Ok(()),
            State::Approved => (info.approved_height / interval).max(own).saturating_add(1),
            _ => own,
        };
        let tip = info.tip.unwrap_or_default().height;
        let checkpoint = next.saturating_mul(interval);
        if tip < checkpoint {
            (self.on_event)(WaitEvent::CheckpointAhead { checkpoint, tip });
            return Ok(());
        }
        let Some((checkpoint, listed)) = self.most_approved(next, tip, interval).await else {
            return Ok(());
        };
        let count = listed.approvals.len();
        // With a full quorum the stream is about to say more.
        if (count as u64) < u64::from(listed.approval_quorum) {
            (self.on_event)(WaitEvent::Approvals {
                checkpoint,
                count,
                quorum: listed.approval_quorum,
            });
        }
        Ok(())
    }

    /// The checkpoint that is nearest to being approved: number `first`, unless one of
    /// the last two has more approvals. A vote that comes too late for one checkpoint
    /// goes to the next. `None` if the node does not answer.
    async fn most_approved(
        &self,
        first: u64,
        tip: u64,
        interval: u64,
    ) -> Option<(u64, v1::ListApprovalsResponse)> {
        let top = tip / interval;
        let mut most: Option<(u64, v1::ListApprovalsResponse)> = None;
        for number in BTreeSet::from([first, top.saturating_sub(1), top]).range(first..) {
            let checkpoint = number.saturating_mul(interval);
            let listed = self.client.approvals(checkpoint).await.ok()?;
            let more = |(_, least): &(u64, v1::ListApprovalsResponse)| {
                listed.approvals.len() > least.approvals.len()
            };
            if most.as_ref().is_none_or(more) {
                most = Some((checkpoint, listed));
            }
        }
        most
    }
}

/// Refuses to wait for approvals once two certificates conflict.
fn check_advances(info: &v1::GetChainInfoResponse) -> Result<(), WaitError> {
    if FinalityProgress::of(info) != FinalityProgress::Stopped {
        return Ok(());
    }
    Err(WaitError::FinalityStopped {
        network: info.network.clone(),
        final_height: info.final_height,
    })
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
