//! `--wait`: how the command line writes it, and what people read while the
//! library waits.

use std::ffi::OsString;

use pithead_client::{Client, Confirmations, WaitError, WaitEvent, WaitOutcome, wait_until};

use crate::terminal::output::note;
use crate::terminal::show::status_sentence;

/// The words that `--wait` takes as an argument of its own. A number is not one
/// of them: it could as well be an amount.
const WORDS: [&str; 3] = ["mined", "approved", "final"];

/// The command line with `--wait final` written as `--wait=final`.
///
/// The parser can't join the two: `--wait` alone is complete, and the next word
/// may be a recipient. To pay a wallet named `final`, write it before `--wait`
/// or write `--wait=mined`.
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

/// Waits until a transaction is as settled as `wanted`. Unless `quiet`, notes
/// each step on standard error, but no step twice in a row.
pub(crate) async fn wait_and_tell(
    client: &Client,
    txid: &str,
    wanted: Confirmations,
    quiet: bool,
) -> Result<WaitOutcome, WaitError> {
    let mut last_told = String::new();
    let on_event = |event: WaitEvent<'_>| {
        if quiet {
            return;
        }
        let sentence = sentence(&event);
        let is_new = sentence != last_told;
        match event {
            WaitEvent::NodeLost(_) | WaitEvent::Reached(_) => note(sentence),
            _ if is_new => {
                note(&sentence);
                last_told = sentence;
            }
            _ => {}
        }
    };
    wait_until(client, txid, wanted, on_event).await
}

/// A step of a wait in words.
fn sentence(event: &WaitEvent<'_>) -> String {
    match event {
        WaitEvent::NodeLost(lost) => format!("waiting: {lost}; trying again"),
        WaitEvent::Status(status) => format!("waiting: {}", status_sentence(status)),
        WaitEvent::Reached(status) => status_sentence(status),
        WaitEvent::CheckpointAhead { checkpoint, tip } => {
            format!("waiting for block {checkpoint}, the next checkpoint; the tip is {tip}")
        }
        WaitEvent::Approvals {
            checkpoint,
            count,
            quorum,
        } => format!("waiting for approvals of block {checkpoint}: {count} of {quorum}"),
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
