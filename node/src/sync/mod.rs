//! Chain sync and transaction relay, without sockets and without a clock.

mod message;
mod peer;

pub use message::{
    CONTENT_BYTES_MAX, HEADERS_MAX, IDS_MAX, LOCATOR_MAX, MEMPOOL_IDS_MAX, REQUEST_BYTES_MAX,
    Request, Response, Status, response_bytes_max,
};
pub use peer::{
    BAN_POINTS, Gossip, GossipId, Offence, PeerEvent, PeerKey, RequestFailure, RequestId,
    SyncStatus, Verdict,
};
