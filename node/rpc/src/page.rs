//! Pages: sizes within limits, and tokens that only this server reads.

use tonic::Status;

use super::status;

/// The size of a page: `asked`, `default` if that is 0, at most `max`.
pub(super) fn page_size(asked: u32, default: usize, max: usize) -> usize {
    match asked {
        0 => default,
        asked => (asked as usize).min(max),
    }
}

/// Makes a token of where the next page starts.
pub(super) fn token(next: &[u8]) -> String {
    hex::encode(next)
}

/// Reads a token of exactly `N` bytes; `None` for the first page.
pub(super) fn read_token<const N: usize>(token: &str) -> Result<Option<[u8; N]>, Status> {
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

/// One page of a short list, and the token of the next; `after` is the token that
/// the caller sent.
pub(super) fn slice<T>(all: Vec<T>, size: usize, after: &str) -> Result<(Vec<T>, String), Status> {
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
