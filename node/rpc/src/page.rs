//! Pages of long answers: their sizes, and the tokens that lead from one page to the next. A
//! token means something to this server only; a client sends it back as it came.

use tonic::Status;

use crate::status;

/// Bytes of transactions after which a page ends.
pub(crate) const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The size of a page: `asked`, but `default` if that is 0, and at most `max`.
pub(crate) fn page_size(asked: u32, default: usize, max: usize) -> usize {
    match asked {
        0 => default,
        asked => (asked as usize).min(max),
    }
}

/// Makes a token of the bytes that say where the next page starts.
pub(crate) fn token(next: &[u8]) -> String {
    hex::encode(next)
}

/// Reads a token of exactly `N` bytes; `None` for the first page.
pub(crate) fn read_token<const N: usize>(token: &str) -> Result<Option<[u8; N]>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(token, &mut bytes).map_err(|_| {
        status::invalid(
            "page_token",
            "not a token of this method: send back next_page_token as it came, or none",
        )
    })?;
    Ok(Some(bytes))
}

/// One page of a short list, and the token of the next page; `after` is the token that the caller
/// sent.
pub(crate) fn slice<T>(all: Vec<T>, size: usize, after: &str) -> Result<(Vec<T>, String), Status> {
    let start = read_token::<4>(after)?.map_or(0, u32::from_be_bytes) as usize;
    let next = start.saturating_add(size);
    let next_page_token = match u32::try_from(next) {
        Ok(bytes) if next < all.len() => token(&bytes.to_be_bytes()),
        _ => String::new(),
    };
    Ok((
        all.into_iter().skip(start).take(size).collect(),
        next_page_token,
    ))
}

/// Bytes that a transaction of an encoded `size` takes in an answer: its readable fields and its
/// raw bytes together are about three times as long.
pub(crate) const fn shown_size(size: usize) -> usize {
    3 * size
}
