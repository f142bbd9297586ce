//! Streams that follow the chain: each subscriber walks from block to block at
//! its own pace, so none misses a step and a slow one costs no memory.

use std::time::Duration;

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::BlockHash;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::chain::{Answers, block_page, block_view, known_entries};
use super::read::{Reader, internal};
use super::{Api, status, stopped};
use crate::chain::path_between;
use crate::engine::Stopped;
use crate::store::schema;

/// Events buffered for a subscriber (protocol §12).
pub(super) const EVENTS_MAX: usize = 64;
/// How long a subscriber may leave its buffer full (protocol §12).
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Most transactions or txids shown in a streamed block; GetBlock has the rest.
const STREAMED_TRANSACTIONS_MAX: usize = 10_000;

/// The sending end of a stream of answers.
pub(super) struct Outlet<T>(mpsc::Sender<Result<T, Status>>);

/// The subscriber is gone, or was dropped for being slow.
pub(super) struct Closed;

impl<T: Send + 'static> Outlet<T> {
    /// A bounded stream and its sending end.
    pub(super) fn new() -> (Self, Answers<T>) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        (Self(sender), Box::pin(ReceiverStream::new(receiver)))
    }

    /// Sends one answer; waits while the buffer is full, but not for ever.
    pub(super) async fn send(&self, answer: T) -> Result<(), Closed> {
        match self.0.send_timeout(Ok(answer), DRAIN_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    /// Ends the stream with an error, if anyone is listening.
    pub(super) async fn fail(&self, error: Status) {
        let _ = self.0.send_timeout(Err(error), DRAIN_TIMEOUT).await;
    }

    /// Waits until the subscriber is gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Ends `answers` with a status that says why when the subscriber was dropped
/// for being slow: the channel is then closed without a word of its own.
pub(super) fn with_ending<T: Send + 'static>(
    answers: Answers<T>,
    ending: tokio::sync::oneshot::Receiver<Status>,
) -> Answers<T> {
    let last = tokio_stream::once(());
    let ending = std::sync::Mutex::new(Some(ending));
    let last = last.filter_map(move |()| {
        let receiver = ending.lock().ok()?.take()?;
        let mut receiver = receiver;
        receiver.try_recv().ok().map(Err)
    });
    Box::pin(answers.chain(last))
}

/// The status of a subscriber that did not keep up.
pub(super) fn too_slow(resume: &str) -> Status {
    status::resource_exhausted(
        "SUBSCRIBER_TOO_SLOW",
        format!(
            "{EVENTS_MAX} events were not read within {} s; {resume}",
            DRAIN_TIMEOUT.as_secs()
        ),
    )
}

pub(super) async fn subscribe_chain(
    api: Api,
    request: v1::SubscribeChainRequest,
) -> Result<Response<Answers<v1::SubscribeChainResponse>>, Status> {
    let view = block_view(request.view)?;
    let start = {
        let reader = Reader::new(&api)?;
        let known = known_entries(&reader, &request.known_hashes)?;
        match (known.first(), request.known_hashes.is_empty()) {
            (Some(entry), _) => entry.hash(),
            (None, true) => reader.tip().hash(),
            (None, false) => {
                return Err(status::not_found(
                    "CURSOR_NOT_FOUND",
                    "none of known_hashes is a block of this node: send older ones too, or none to start at the tip",
                ));
            }
        }
    };
    let (outlet, answers) = Outlet::new();
    let (ending_sender, ending) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if follow(&api, view, start, &outlet).await.is_err() {
            let resume = "subscribe again with the last cursor as known hash";
            let _ = ending_sender.send(too_slow(resume));
        }
    });
    Ok(Response::new(with_ending(answers, ending)))
}

async fn follow(
    api: &Api,
    view: v1::BlockView,
    start: BlockHash,
    outlet: &Outlet<v1::SubscribeChainResponse>,
) -> Result<(), Closed> {
    let mut tip = api.engine.tip();
    let mut at = start;
    match started(api, &at) {
        Ok(event) => outlet.send(event).await?,
        Err(error) => {
            outlet.fail(error).await;
            return Ok(());
        }
    }
    loop {
        let target = tip.borrow_and_update().hash;
        if target != at {
            let steps = match steps(api, &at, &target) {
                Ok(steps) => steps,
                Err(error) => {
                    outlet.fail(error).await;
                    return Ok(());
                }
            };
            for step in steps {
                let (event, next) = match step_event(api, view, &step) {
                    Ok(event) => event,
                    Err(error) => {
                        outlet.fail(error).await;
                        return Ok(());
                    }
                };
                outlet.send(event).await?;
                at = next;
            }
            continue;
        }
        tokio::select! {
            changed = tip.changed() => if changed.is_err() { return Ok(()) },
            () = outlet.closed() => return Ok(()),
            () = api.until_stopping() => {
                outlet.fail(stopped(Stopped)).await;
                return Ok(());
            }
        }
    }
}

enum Step {
    Down(BlockHash),
    Up(BlockHash),
}

/// The way from one block to another: blocks to leave, then blocks to join.
fn steps(api: &Api, from: &BlockHash, to: &BlockHash) -> Result<Vec<Step>, Status> {
    let reader = Reader::new(api)?;
    let entry = |hash| schema::expect_entry(reader.snapshot(), hash).map_err(internal);
    let path = path_between(reader.snapshot(), &entry(from)?, &entry(to)?).map_err(internal)?;
    let down = path.down.iter().map(|entry| Step::Down(entry.hash()));
    let up = path.up.iter().map(|entry| Step::Up(entry.hash()));
    Ok(down.chain(up).collect())
}

fn started(api: &Api, at: &BlockHash) -> Result<v1::SubscribeChainResponse, Status> {
    let reader = Reader::new(api)?;
    let entry = schema::expect_entry(reader.snapshot(), at).map_err(internal)?;
    Ok(response(api, Event::Start(reader.header(&entry)), at))
}

/// The event of a step, and the block at which the stream then stands.
fn step_event(
    api: &Api,
    view: v1::BlockView,
    step: &Step,
) -> Result<(v1::SubscribeChainResponse, BlockHash), Status> {
    let reader = Reader::new(api)?;
    let (Step::Down(hash) | Step::Up(hash)) = step;
    let entry = schema::expect_entry(reader.snapshot(), hash).map_err(internal)?;
    Ok(match step {
        Step::Down(_) => {
            let block = reader.block(&entry)?;
            let at = entry.header.prev;
            (response(api, Event::Disconnected(block), &at), at)
        }
        Step::Up(_) => {
            let (block, _) = block_page(api, &reader, &entry, view, 0, STREAMED_TRANSACTIONS_MAX)?;
            (response(api, Event::Connected(block), hash), *hash)
        }
    })
}

fn response(api: &Api, event: Event, cursor: &BlockHash) -> v1::SubscribeChainResponse {
    v1::SubscribeChainResponse {
        event: Some(event),
        cursor: cursor.to_string(),
        sent_time: Some(convert::timestamp(api.engine.now())),
    }
}
