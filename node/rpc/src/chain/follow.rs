//! SubscribeChain: a stream that follows the best chain.
//!
//! Each subscriber walks from block to block at its own pace, on snapshots of its own. So no
//! subscriber misses a step, and a slow one costs the node no memory. Start at [`follow`].

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::{BlockHash, Checkpoint};
use pithead_core::store::schema;
use tonic::{Response, Status};

use crate::api::{Api, internal};
use crate::blocks::{TransactionPage, block_page, block_view, known_entries};
use crate::outlet::{EVENTS_MAX, Outlet, ResponseStream, StreamEnd, open_stream};
use crate::reader::ChainReader;
use crate::status;

/// Events buffered for a subscriber where an event may be a block of some megabytes.
const BLOCK_EVENTS_MAX: usize = 4;
/// The transactions or txids of a streamed block; GetBlock has those beyond.
const STREAMED_TRANSACTIONS: TransactionPage = TransactionPage {
    first: 0,
    size: 10_000,
};

/// Opens the stream at the newest block that the subscriber and this node both know.
pub(super) fn subscribe_chain(
    api: Api,
    request: &v1::SubscribeChainRequest,
) -> Result<Response<ResponseStream<v1::SubscribeChainResponse>>, Status> {
    let view = block_view(request.view)?;
    let start = {
        let reader = ChainReader::new(&api)?;
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
    let resume = "subscribe again with the last cursor as known hash";
    Ok(open_stream(events_max(view), resume, |outlet| {
        follow(api, view, start, outlet)
    }))
}

/// Events that are buffered for a subscriber, by how large an event can be.
fn events_max(view: v1::BlockView) -> usize {
    match view {
        v1::BlockView::Full | v1::BlockView::Raw => BLOCK_EVENTS_MAX,
        v1::BlockView::Unspecified | v1::BlockView::Header | v1::BlockView::Txids => EVENTS_MAX,
    }
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy)]
struct StreamPosition {
    /// The last block that the subscriber was told of as part of the best chain.
    block: BlockHash,
    /// The approved checkpoint that the subscriber was told of last.
    approved: Option<BlockHash>,
    /// The final checkpoint that the subscriber was told of last.
    last_final: Option<BlockHash>,
}

/// One event, and where the stream stands once the event is sent.
type Step = (v1::SubscribeChainResponse, StreamPosition);

/// Sends steps from `start` to the tip, and then each step as the chain makes it.
async fn follow(
    api: Api,
    view: v1::BlockView,
    start: BlockHash,
    outlet: Outlet<v1::SubscribeChainResponse>,
) -> Result<(), StreamEnd> {
    let mut tip = api.engine.tip();
    let mut finality = api.engine.finality();
    let mut position = StreamPosition {
        block: start,
        approved: None,
        last_final: None,
    };
    outlet.send(started(&api, &start)?).await?;
    loop {
        // Marked as seen before the step is looked for: a later change then wakes the wait below.
        tip.borrow_and_update();
        finality.borrow_and_update();
        let step = api
            .query(move |reader| match next_block(reader, view, position)? {
                Some(step) => Ok(Some(step)),
                None => next_checkpoint(reader, position),
            })
            .await?
            .into_inner();
        if let Some((event, next)) = step {
            outlet.send(event).await?;
            position = next;
            continue;
        }
        tokio::select! {
            changed = tip.changed() => if changed.is_err() { return Ok(()) },
            changed = finality.changed() => if changed.is_err() { return Ok(()) },
            end = outlet.until_over(&api) => return Err(end),
        }
    }
}

/// The first event: the block at which the stream starts.
fn started(api: &Api, start: &BlockHash) -> Result<v1::SubscribeChainResponse, Status> {
    let reader = ChainReader::new(api)?;
    let entry = schema::expect_entry(reader.snapshot(), start).map_err(internal)?;
    Ok(response(
        &reader,
        Event::Start(reader.header(&entry)),
        start,
    ))
}

/// One step towards the tip; `None` at the tip. Never several steps at once: the way to the tip
/// may be as long as the chain.
///
/// If the last block was left by a reorganisation, the step goes down to its parent. Otherwise
/// the step goes up to the next block of the best chain.
fn next_block(
    reader: &ChainReader<'_>,
    view: v1::BlockView,
    at: StreamPosition,
) -> Result<Option<Step>, Status> {
    let entry = schema::expect_entry(reader.snapshot(), &at.block).map_err(internal)?;
    let (event, block) = if !reader.is_best(&at.block, entry.height)? {
        (
            Event::Disconnected(reader.block(&entry)?),
            entry.header.prev,
        )
    } else if entry.height >= reader.tip().height {
        return Ok(None);
    } else {
        let next = reader.entry_at(entry.height.next())?;
        let (block, _) = block_page(reader, &next, view, STREAMED_TRANSACTIONS)?;
        (Event::Connected(block), next.hash())
    };
    let event = response(reader, event, &block);
    Ok(Some((event, StreamPosition { block, ..at })))
}

/// At the tip: the approved or the final checkpoint, if the subscriber was not told of it yet.
fn next_checkpoint(reader: &ChainReader<'_>, at: StreamPosition) -> Result<Option<Step>, Status> {
    let finality = reader.finality();
    if !finality.active {
        return Ok(None);
    }
    let (approved, last_final) = (finality.status.approved, finality.status.last_final);
    if let Some(header) = new_checkpoint(reader, &approved, at.approved)? {
        let next = StreamPosition {
            approved: Some(approved.hash),
            ..at
        };
        let event = response(reader, Event::Approved(header), &at.block);
        return Ok(Some((event, next)));
    }
    if let Some(header) = new_checkpoint(reader, &last_final, at.last_final)? {
        let next = StreamPosition {
            last_final: Some(last_final.hash),
            ..at
        };
        let event = response(reader, Event::Final(header), &at.block);
        return Ok(Some((event, next)));
    }
    Ok(None)
}

/// The header of a checkpoint on the best chain, unless the subscriber knows the checkpoint.
fn new_checkpoint(
    reader: &ChainReader<'_>,
    checkpoint: &Checkpoint,
    known: Option<BlockHash>,
) -> Result<Option<v1::BlockHeader>, Status> {
    if known == Some(checkpoint.hash) || !reader.is_best(&checkpoint.hash, checkpoint.height)? {
        return Ok(None);
    }
    let entry = schema::expect_entry(reader.snapshot(), &checkpoint.hash).map_err(internal)?;
    Ok(Some(reader.header(&entry)))
}

fn response(
    reader: &ChainReader<'_>,
    event: Event,
    cursor: &BlockHash,
) -> v1::SubscribeChainResponse {
    v1::SubscribeChainResponse {
        event: Some(event),
        cursor: cursor.to_string(),
        sent_time: Some(convert::timestamp(reader.api().engine.now())),
    }
}
