//! Blocks as requests name them and as answers show them.

use pithead_api::convert;
use pithead_api::v1;
use pithead_core::store::schema::{self, BlockStatus, ChainEntry};
use tonic::Status;

use crate::api::{bad_field, internal};
use crate::page::{PAGE_BYTES_MAX, shown_size};
use crate::reader::ChainReader;
use crate::status;

/// Most hashes of a locator (protocol §13).
const LOCATOR_MAX: usize = 101;

/// Which transactions of a block to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransactionPage {
    /// Position of the first transaction.
    pub(crate) first: usize,
    /// Most transactions.
    pub(crate) size: usize,
}

/// The entry of the block whose hash a request's `field` holds as `text`. An invalid block counts
/// as unknown.
pub(crate) fn entry_by_hash(
    reader: &ChainReader<'_>,
    field: &str,
    text: &str,
) -> Result<ChainEntry, Status> {
    let hash = convert::block_hash(field, text).map_err(bad_field)?;
    reader
        .entry(&hash)?
        .filter(|entry| entry.status != BlockStatus::Invalid)
        .ok_or_else(|| status::not_found("BLOCK_NOT_FOUND", format!("no block with hash {text}")))
}

/// The entry of the block that a request's tag stands for; `head` gives that of the head.
pub(crate) fn entry_by_tag(
    reader: &ChainReader<'_>,
    tag: i32,
    head: impl FnOnce() -> Result<ChainEntry, Status>,
) -> Result<ChainEntry, Status> {
    match v1::BlockTag::try_from(tag) {
        Ok(v1::BlockTag::Head | v1::BlockTag::Unspecified) => head(),
        Ok(v1::BlockTag::Approved) => reader.approved(),
        Ok(v1::BlockTag::Final) => reader.last_final(),
        Err(_) => Err(status::invalid(
            "tag",
            format!("{tag} is no tag: use BLOCK_TAG_HEAD, _APPROVED or _FINAL"),
        )),
    }
}

/// Reads how much of a block to return; unspecified means the txids.
pub(crate) fn block_view(view: i32) -> Result<v1::BlockView, Status> {
    match v1::BlockView::try_from(view) {
        Ok(v1::BlockView::Unspecified) => Ok(v1::BlockView::Txids),
        Ok(view) => Ok(view),
        Err(_) => Err(status::invalid(
            "view",
            format!("{view} is no view: use BLOCK_VIEW_HEADER, _TXIDS, _FULL or _RAW"),
        )),
    }
}

/// A block with one page of its transactions, and the position at which the next page starts.
pub(crate) fn block_page(
    reader: &ChainReader<'_>,
    entry: &ChainEntry,
    view: v1::BlockView,
    page: TransactionPage,
) -> Result<(v1::Block, Option<u32>), Status> {
    let chain = &reader.api().chain;
    let mut shown = reader.block(entry)?;
    if view == v1::BlockView::Header {
        return Ok((shown, None));
    }
    if view == v1::BlockView::Raw {
        let body = reader
            .snapshot()
            .body(&entry.hash())
            .map_err(internal)?
            .unwrap_or_default();
        shown.raw = body.into();
        return Ok((shown, None));
    }
    if entry.transaction_count == 0 {
        return Ok((shown, None));
    }
    let block = schema::expect_block(reader.snapshot(), &entry.hash()).map_err(internal)?;
    let mut bytes = 0;
    let mut next = None;
    for (index, transaction) in block.transactions.iter().enumerate().skip(page.first) {
        if index - page.first >= page.size || bytes > PAGE_BYTES_MAX {
            next = u32::try_from(index).ok();
            break;
        }
        let txid = transaction.txid(&chain.genesis_hash);
        shown.txids.push(txid.to_string());
        if view == v1::BlockView::Full {
            bytes += shown_size(transaction.size());
            shown
                .transactions
                .push(chain.transaction(transaction, &txid));
        }
    }
    Ok((shown, next))
}

/// The entries of those hashes of a locator that the node knows, in the locator's order.
pub(crate) fn known_entries(
    reader: &ChainReader<'_>,
    hashes: &[String],
) -> Result<Vec<ChainEntry>, Status> {
    if hashes.len() > LOCATOR_MAX {
        return Err(status::invalid(
            "known_hashes",
            format!("{} hashes, at most {LOCATOR_MAX} allowed", hashes.len()),
        ));
    }
    let mut known = Vec::new();
    for (index, text) in hashes.iter().enumerate() {
        let hash =
            convert::block_hash(&format!("known_hashes[{index}]"), text).map_err(bad_field)?;
        known.extend(
            reader
                .entry(&hash)?
                .filter(|entry| entry.status == BlockStatus::Connected),
        );
    }
    Ok(known)
}
