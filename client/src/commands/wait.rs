//! Waiting for a transaction to be mined, approved or final, over restarts of the
//! node.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::str::FromStr;
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::TransactionState as State;
use pithead_client::{Client, ClientError};

use super::send::progress;
use crate::finality::{self, check_advances};
use crate::show::status_sentence;

/// How long a node may be away before waiting is given up.
const ABSENCE_MAX: Duration = Duration::from_secs(120);
/// Pause between two tries to reach it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at the approvals that are being waited for.
const APPROVALS_PAUSE: Duration = Duration::from_secs(2);
/// What `--wait` may be followed by as a word of its own. A number may not: it
/// could as well be an amount.
const WORDS: [&str; 3] = ["mined", "approved", "final"];

/// The command line with `--wait final` as `--wait=final`. The parser can't tell:
/// `--wait` alone is complete, so that the next word might be a recipient. A
/// wallet of such a name goes before `--wait`, or after `--wait=mined`.
pub(crate) fn joined(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut options = true;
    for arg in args {
        options &= arg != "--";
        match joined.last_mut() {
            Some(last) if options && *last == "--wait" && WORDS.iter().any(|word| arg == *word) => {
                last.push("=");
                last.push(arg);
            }
            _ => joined.push(arg),
        }
    }
    joined
}

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
    /// Refuses to wait for what can't come any more, before anything is sent.
    pub(crate) fn check_before_sending(
        self,
        info: &v1::GetChainInfoResponse,
    ) -> anyhow::Result<()> {
        self.check_possible(info)?;
        match self {
            Self::AtLeast(_) => Ok(()),
            Self::Approved | Self::Final => check_advances(info),
        }
    }

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
    let mut wait = Wait {
        client,
        wanted,
        quiet,
        told: String::new(),
        last_answer: Instant::now(),
    };
    loop {
        match wait.follow(txid).await {
            Ok(Some(outcome)) => return Ok(outcome),
            // The node ended the stream early: ask again.
            Ok(None) => {}
            Err(error) => match error.downcast::<ClientError>()? {
                lost if lost.is_disconnect() && wait.last_answer.elapsed() < ABSENCE_MAX => {
                    progress(quiet, &format!("waiting: {lost}; trying again"));
                }
                other => return Err(other.into()),
            },
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

struct Wait<'a> {
    client: &'a Client,
    wanted: Confirmations,
    quiet: bool,
    /// What was said last.
    told: String,
    last_answer: Instant,
}

impl Wait<'_> {
    async fn follow(&mut self, txid: &str) -> anyhow::Result<Option<WaitOutcome>> {
        let confirmations = match self.wanted {
            Confirmations::AtLeast(count) => count,
            // Until it is final; this side may stop before.
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
                progress(self.quiet, &status_sentence(&status));
                return Ok(Some(WaitOutcome::Reached(status)));
            }
            self.tell(status_sentence(&status));
            if matches!(status.state(), State::Replaced | State::Dropped) {
                return Ok(Some(WaitOutcome::Lost(status)));
            }
            self.tell_approvals(&status).await?;
        }
    }

    fn tell(&mut self, sentence: String) {
        if self.told != sentence {
            progress(self.quiet, &format!("waiting: {sentence}"));
            self.told = sentence;
        }
    }

    /// Tells how many have approved what has to be approved next; fails if nothing
    /// will be any more.
    async fn tell_approvals(&mut self, status: &v1::TransactionStatus) -> anyhow::Result<()> {
        let wants_approvals = !matches!(self.wanted, Confirmations::AtLeast(_));
        if !wants_approvals || !matches!(status.state(), State::Mined | State::Approved) {
            return Ok(());
        }
        // A node that is away is told of by the stream.
        let Ok(info) = self.client.chain_info().await else {
            return Ok(());
        };
        check_advances(&info)?;
        let parameters = info.parameters.unwrap_or_default();
        let interval = u64::from(parameters.checkpoint_interval.max(1));
        let own = status.block_height.div_ceil(interval).max(1);
        // It is final once the checkpoint after the approved one is approved.
        let next = match status.state() {
            State::Approved if info.final_height >= status.block_height => return Ok(()),
            State::Approved => (info.approved_height / interval).max(own).saturating_add(1),
            _ => own,
        };
        let tip = info.tip.unwrap_or_default().height;
        let checkpoint = next.saturating_mul(interval);
        let sentence = if tip < checkpoint {
            format!("for block {checkpoint}, the next checkpoint; the tip is {tip}")
        } else {
            let Some((checkpoint, listed)) = self.most_approved(next, tip, interval).await else {
                return Ok(());
            };
            if listed.approvals.len() as u64 >= u64::from(listed.approval_quorum) {
                // The stream is about to say so.
                return Ok(());
            }
            format!(
                "for approvals of block {checkpoint}: {} of {}",
                listed.approvals.len(),
                listed.approval_quorum
            )
        };
        if self.told != sentence {
            progress(self.quiet, &format!("waiting {sentence}"));
            self.told = sentence;
        }
        Ok(())
    }

    /// The checkpoint that is nearest to being approved: the first that would do, unless
    /// the last ones have more approvals. Votes that came too late for one go to those.
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
            // A node that is away is told of by the stream.
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

fn is_reached(status: &v1::TransactionStatus, wanted: Confirmations) -> bool {
    match (status.state(), wanted) {
        (State::Final, _) | (State::Approved, Confirmations::Approved) => true,
        (State::Mined | State::Approved, Confirmations::AtLeast(count)) => {
            status.confirmations >= count
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn a_word_after_wait_belongs_to_it_only_if_it_can() {
        for (written, meant) in [
            ("send a b 1 --wait final", "send a b 1 --wait=final"),
            ("send --wait approved a b 1", "send --wait=approved a b 1"),
            ("tx --wait mined ab", "tx --wait=mined ab"),
            ("send --wait a b 1", "send --wait a b 1"),
            ("send a b --wait 1", "send a b --wait 1"),
            ("send --wait=mined final b 1", "send --wait=mined final b 1"),
            ("send -- --wait final", "send -- --wait final"),
            ("send a b 1 --wait", "send a b 1 --wait"),
        ] {
            let args = written.split(' ').map(Into::into);
            let expected: Vec<std::ffi::OsString> = meant.split(' ').map(Into::into).collect();
            assert_eq!(joined(args), expected, "{written}");
        }
    }
}
