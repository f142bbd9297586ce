//! Streams that follow the chain: each subscriber walks from block to block at
//! its own pace, so none misses a step and a slow one costs no memory.

use std::time::Duration;

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::{BlockHash, Checkpoint};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::chain::{Answers, block_page, block_view, known_entries};
use super::reader::{Reader, internal};
use super::{Api, status, stopped};
use pithead_core::store::schema;
use pithead_engine::Stopped;

/// Events buffered for a subscriber (protocol §12).
const EVENTS_MAX: usize = 64;
/// The same where an event may be a whole block of some megabytes.
const BLOCK_EVENTS_MAX: usize = 4;
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
        Self::with_room_for(EVENTS_MAX)
    }

    /// The same with a buffer of this many answers.
    fn with_room_for(events_max: usize) -> (Self, Answers<T>) {
        let (sender, receiver) = mpsc::channel(events_max);
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
            "buffered events were not read within {} s; {resume}",
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
    let (outlet, answers) = Outlet::with_room_for(events_max(view));
    let (ending_sender, ending) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if follow(&api, view, start, &outlet).await.is_err() {
            let resume = "subscribe again with the last cursor as known hash";
            let _ = ending_sender.send(too_slow(resume));
        }
    });
    Ok(Response::new(with_ending(answers, ending)))
}

/// How many events of a view are buffered.
fn events_max(view: v1::BlockView) -> usize {
    match view {
        v1::BlockView::Full | v1::BlockView::Raw => BLOCK_EVENTS_MAX,
        v1::BlockView::Unspecified | v1::BlockView::Header | v1::BlockView::Txids => EVENTS_MAX,
    }
}

async fn follow(
    api: &Api,
    view: v1::BlockView,
    start: BlockHash,
    outlet: &Outlet<v1::SubscribeChainResponse>,
) -> Result<(), Closed> {
    let mut tip = api.engine.tip();
    let mut finality = api.engine.finality();
    let mut told = Told::default();
    let mut at = start;
    match started(api, &at) {
        Ok(event) => outlet.send(event).await?,
        Err(error) => {
            outlet.fail(error).await;
            return Ok(());
        }
    }
    loop {
        // Seen before the step is looked for: a tip that comes later wakes the
        // wait below.
        tip.borrow_and_update();
        finality.borrow_and_update();
        let api_of_query = api.clone();
        let step = api
            .query(
                move |reader| match next_step(&api_of_query, reader, view, &at)? {
                    Some((event, next)) => Ok(Some((event, next, told))),
                    None => next_secured(&api_of_query, reader, &at, told),
                },
            )
            .await;
        match step.map(Response::into_inner) {
            Ok(Some((event, next, telling))) => {
                outlet.send(event).await?;
                at = next;
                told = telling;
            }
            Ok(None) => tokio::select! {
                changed = tip.changed() => if changed.is_err() { return Ok(()) },
                changed = finality.changed() => if changed.is_err() { return Ok(()) },
                () = outlet.closed() => return Ok(()),
                () = api.until_stopping() => {
                    outlet.fail(stopped(Stopped)).await;
                    return Ok(());
                }
            },
            Err(error) => {
                outlet.fail(error).await;
                return Ok(());
            }
        }
    }
}

/// One step from a block towards the tip, and where the stream then stands;
/// `None` at the tip. Never the whole way at once: it may be as long as the
/// chain.
fn next_step(
    api: &Api,
    reader: &Reader<'_>,
    view: v1::BlockView,
    at: &BlockHash,
) -> Result<Option<(v1::SubscribeChainResponse, BlockHash)>, Status> {
    let entry = schema::expect_entry(reader.snapshot(), at).map_err(internal)?;
    if !schema::is_best(reader.snapshot(), at, entry.height).map_err(internal)? {
        let below = entry.header.prev;
        let block = reader.block(&entry)?;
        return Ok(Some((
            response(api, Event::Disconnected(block), &below),
            below,
        )));
    }
    if entry.height >= reader.tip().height {
        return Ok(None);
    }
    let entry = reader.entry_at(entry.height.next())?;
    let hash = entry.hash();
    let (block, _) = block_page(api, reader, &entry, view, 0, STREAMED_TRANSACTIONS_MAX)?;
    Ok(Some((response(api, Event::Connected(block), &hash), hash)))
}

/// What a subscriber was told of finality.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    approved: Option<BlockHash>,
    last_final: Option<BlockHash>,
}

/// At the tip: what is approved and what is final, if that is news.
#[allow(clippy::type_complexity)]
fn next_secured(
    api: &Api,
    reader: &Reader<'_>,
    at: &BlockHash,
    told: Told,
) -> Result<Option<(v1::SubscribeChainResponse, BlockHash, Told)>, Status> {
    let secured = reader.secured();
    if !secured.active {
        return Ok(None);
    }
    let (approved, last_final) = (secured.status.approved, secured.status.last_final);
    let news = |checkpoint: &Checkpoint, known: Option<BlockHash>| {
        if known == Some(checkpoint.hash) {
            return Ok(None);
        }
        let best = schema::is_best(reader.snapshot(), &checkpoint.hash, checkpoint.height);
        if !best.map_err(internal)? {
            return Ok(None);
        }
        let entry = schema::expect_entry(reader.snapshot(), &checkpoint.hash);
        Ok::<_, Status>(Some(reader.header(&entry.map_err(internal)?)))
    };
    if let Some(header) = news(&approved, told.approved)? {
        let told = Told {
            approved: Some(approved.hash),
            ..told
        };
        return Ok(Some((
            response(api, Event::Approved(header), at),
            *at,
            told,
        )));
    }
    if let Some(header) = news(&last_final, told.last_final)? {
        let told = Told {
            last_final: Some(last_final.hash),
            ..told
        };
        return Ok(Some((response(api, Event::Final(header), at), *at, told)));
    }
    Ok(None)
}

fn started(api: &Api, at: &BlockHash) -> Result<v1::SubscribeChainResponse, Status> {
    let reader = Reader::new(api)?;
    let entry = schema::expect_entry(reader.snapshot(), at).map_err(internal)?;
    Ok(response(api, Event::Start(reader.header(&entry)), at))
}

fn response(api: &Api, event: Event, cursor: &BlockHash) -> v1::SubscribeChainResponse {
    v1::SubscribeChainResponse {
        event: Some(event),
        cursor: cursor.to_string(),
        sent_time: Some(convert::timestamp(api.engine.now())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tonic_types::StatusExt as _;

    /// The clock is the test's: a minute passes as soon as all wait for it.
    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_does_not_read_is_dropped_with_a_reason() {
        let (outlet, answers) = Outlet::new();
        let (ending_sender, ending) = tokio::sync::oneshot::channel();
        let mut answers = with_ending(answers, ending);
        let began = tokio::time::Instant::now();
        let sending = tokio::spawn(async move {
            let mut sent = 0u32;
            while outlet.send(sent).await.is_ok() {
                sent += 1;
            }
            let _ = ending_sender.send(too_slow("subscribe again"));
            sent
        });
        let sent = sending.await.unwrap();
        assert_eq!(sent as usize, EVENTS_MAX, "what the buffer holds");
        assert_eq!(began.elapsed(), DRAIN_TIMEOUT);
        // What was buffered still arrives, then the reason, then the end.
        for number in 0..sent {
            assert_eq!(answers.next().await.unwrap().unwrap(), number);
        }
        let status = answers.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "SUBSCRIBER_TOO_SLOW");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_that_reads_slowly_but_steadily_stays() {
        let (outlet, mut answers) = Outlet::with_room_for(1);
        let sending = tokio::spawn(async move {
            for number in 0..5 {
                assert!(outlet.send(number).await.is_ok());
            }
        });
        for number in 0..5 {
            tokio::time::sleep(DRAIN_TIMEOUT - Duration::from_secs(1)).await;
            assert_eq!(answers.next().await.unwrap().unwrap(), number);
        }
        sending.await.unwrap();
        assert!(answers.next().await.is_none());
    }
}
