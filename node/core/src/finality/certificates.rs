//! Certificates in the store: how they are written and read back. Knows nothing of
//! their effect. Start reading at [`put_certificate`].

use pithead_consensus::{Certificate, Decode as _, Encode as _, Height, Link};

use crate::store::schema;
use crate::store::{Batch, Snapshot, StoreError, Table};

/// Links that a start reads from the store at a time.
const LINKS_PER_READ: usize = 10_000;

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

/// The certificates above a height, ascending: at most `max`, and none after the one that
/// exceeds `bytes_max`. The first is given whatever its size.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn certificates_above(
    from: &dyn Snapshot,
    height: Height,
    max: usize,
    bytes_max: usize,
) -> Result<Vec<Certificate>, StoreError> {
    let start = height.0.saturating_add(1).to_be_bytes();
    let mut found = Vec::new();
    let mut bytes = 0;
    for (_, raw) in from.range(Table::Certificates, &start, &[0xff; 9], max, false)? {
        bytes += raw.len();
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        found.push(decode_certificate(&raw)?);
    }
    Ok(found)
}

/// The last certificates, at most `max`, oldest first.
pub(super) fn last_certificates(
    from: &dyn Snapshot,
    max: usize,
) -> Result<Vec<Certificate>, StoreError> {
    let found = from.range(Table::Certificates, &[], &[0xff; 9], max, true)?;
    let raw = found.iter().rev();
    raw.map(|(_, bytes)| decode_certificate(bytes)).collect()
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
