//! Certificates in the store: how they are written and read back. Knows nothing of
//! their effect. Start reading at [`put_certificate`].

use pithead_consensus::{Certificate, Decode as _, Encode as _, Height, Link};

use crate::store::schema;
use crate::store::{Batch, Snapshot, StoreError, Table};

/// Links that a start reads from the store at a time.
const LINKS_PER_READ: usize = 10_000;
/// Bytes of the length in front of each certificate in an answer (protocol §13).
const LENGTH_BYTES: usize = 4;

/// Adds the changes to a batch that put a certificate on record. Its link is kept a second time, by itself,
/// so that a start reads 80 bytes a checkpoint instead of all signatures.
pub fn put_certificate(batch: &mut Batch, certificate: &Certificate) {
    let link = certificate.link();
    let key = link.target.height.0.to_be_bytes();
    batch.put(Table::Certificates, key, certificate.encode());
    batch.put(Table::Links, key, link.encode());
}

/// The certificate of the checkpoint at a height.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn certificate_at(
    from: &dyn Snapshot,
    height: Height,
) -> Result<Option<Certificate>, StoreError> {
    from.get(Table::Certificates, &height.0.to_be_bytes())?
        .map(|bytes| decode_certificate(&bytes))
        .transpose()
}

/// The certificates above a height, ascending: at most `max`, and none that does not fit into
/// `bytes_max`, each with its length of four bytes. The first is given whatever its size. No more
/// is read than that and one certificate.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn certificates_above(
    from: &dyn Snapshot,
    height: Height,
    max: usize,
    bytes_max: usize,
) -> Result<Vec<Certificate>, StoreError> {
    let mut found = Vec::new();
    let mut left = bytes_max;
    let mut start = height.0.saturating_add(1).to_be_bytes().to_vec();
    while found.len() < max {
        // One at a time: a certificate has 6 kB with twenty approvals, and 288 kB with a thousand.
        let rows = from.range(Table::Certificates, &start, &[0xff; 9], 1, false)?;
        let Some((key, raw)) = rows.into_iter().next() else {
            break;
        };
        match left.checked_sub(raw.len().saturating_add(LENGTH_BYTES)) {
            Some(rest) => left = rest,
            None if found.is_empty() => left = 0,
            None => break,
        }
        found.push(decode_certificate(&raw)?);
        start = [key.as_slice(), &[0]].concat();
    }
    Ok(found)
}

/// Hands over the last certificates, at most `max`, oldest first and one at a time.
pub(super) fn for_each_of_last(
    from: &dyn Snapshot,
    max: usize,
    mut take: impl FnMut(&Certificate) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // The links tell the heights without the signatures.
    let links = from.range(Table::Links, &[], &[0xff; 9], max, true)?;
    for (key, _) in links.iter().rev() {
        let raw = from
            .get(Table::Certificates, key)?
            .ok_or_else(|| StoreError::Damaged("a link without its certificate".to_owned()))?;
        take(&decode_certificate(&raw)?)?;
    }
    Ok(())
}

/// Hands over the links of all certificates, by ascending height.
pub(super) fn for_each_link(
    from: &dyn Snapshot,
    mut take: impl FnMut(Link) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut start = Vec::new();
    loop {
        let found = from.range(Table::Links, &start, &[0xff; 9], LINKS_PER_READ, false)?;
        let Some((last, _)) = found.last() else {
            return Ok(());
        };
        start = [last.as_slice(), &[0]].concat();
        for (_, bytes) in found {
            let link = Link::decode(&bytes)
                .map_err(|error| StoreError::Damaged(format!("link: {error}")))?;
            take(link)?;
        }
    }
}

/// The time of the block that a certificate approves, Unix seconds; `None` if this node lacks
/// the block.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn block_time(
    from: &dyn Snapshot,
    certificate: &Certificate,
) -> Result<Option<u64>, StoreError> {
    let entry = schema::entry(from, &certificate.link().target.hash)?;
    Ok(entry.map(|entry| u64::from(entry.header.time)))
}

fn decode_certificate(bytes: &[u8]) -> Result<Certificate, StoreError> {
    Certificate::decode(bytes).map_err(|error| StoreError::Damaged(format!("certificate: {error}")))
}
