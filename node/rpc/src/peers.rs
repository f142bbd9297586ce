//! The calls of AdminService that are about peers and bans.

use std::time::Duration;

use libp2p::PeerId;
use pithead_api::{convert, v1};
use pithead_p2p::{AddPeerError, Handle, PeerAddress, Subject};
use tonic::Status;

use crate::api::{Api, network_stopped};
use crate::page::{page_size, slice};
use crate::status;

/// How long a ban lasts if the caller does not say.
const BAN_SECS: u64 = 86_400;
/// Bans of a page, unless the caller says otherwise.
const BANS_PAGE: usize = 100;
/// Most bans of a page.
const BANS_PAGE_MAX: usize = 10_000;

/// The running network; an error if the node runs without peers.
fn network(api: &Api) -> Result<&Handle, Status> {
    api.network.as_ref().ok_or_else(|| {
        status::failed_precondition(
            "OFFLINE",
            "this node keeps to itself: it was started with --offline",
        )
    })
}

fn peer_id(text: &str) -> Result<PeerId, Status> {
    text.parse().map_err(|_| {
        status::invalid(
            "peer_id",
            "not the identity of a peer, such as 12D3Koo…: ListPeers shows them",
        )
    })
}

fn subject(text: &str) -> Result<Subject, Status> {
    text.parse()
        .map_err(|error: pithead_p2p::policy::bans::SubjectError| {
            status::invalid("peer", error.to_string())
        })
}

/// Connects to a peer; the node keeps trying if the first attempt fails.
pub(crate) async fn add(
    api: &Api,
    request: v1::AddPeerRequest,
) -> Result<v1::AddPeerResponse, Status> {
    let network = network(api)?;
    let address: PeerAddress = request.address.parse().map_err(
        |error: pithead_p2p::policy::address::PeerAddressError| {
            status::invalid("address", error.to_string())
        },
    )?;
    match network.add_peer(address).await {
        Ok(peer) => Ok(v1::AddPeerResponse {
            peer_id: peer.to_string(),
        }),
        Err(AddPeerError::Stopped(stopped)) => Err(network_stopped(stopped)),
        Err(error @ AddPeerError::Full { .. }) => Err(status::resource_exhausted(
            "TOO_MANY_ADDED_PEERS",
            error.to_string(),
        )),
        Err(error @ AddPeerError::Busy { .. }) => Err(status::resource_exhausted(
            "TOO_MANY_PEERS_BEING_ADDED",
            error.to_string(),
        )),
        Err(error @ AddPeerError::Failed(_)) => Err(status::failed_precondition(
            "PEER_NOT_REACHED",
            format!("not connected yet, and tried again from time to time: {error}"),
        )),
    }
}

/// Disconnects a peer and forgets it.
pub(crate) async fn remove(
    api: &Api,
    request: v1::RemovePeerRequest,
) -> Result<v1::RemovePeerResponse, Status> {
    let network = network(api)?;
    let peer = peer_id(&request.peer_id)?;
    if network.remove_peer(peer).await.map_err(network_stopped)? {
        Ok(v1::RemovePeerResponse {})
    } else {
        Err(status::not_found(
            "PEER_NOT_FOUND",
            format!("{peer} is not known here"),
        ))
    }
}

/// Bans a peer or an address, for a day unless the caller says otherwise.
pub(crate) async fn ban(
    api: &Api,
    request: v1::BanPeerRequest,
) -> Result<v1::BanPeerResponse, Status> {
    let network = network(api)?;
    let subject = subject(&request.peer)?;
    let secs = match request.duration {
        None => BAN_SECS,
        Some(duration) => Duration::try_from(duration)
            .ok()
            .map(|duration| duration.as_secs())
            .filter(|secs| *secs > 0)
            .ok_or_else(|| status::invalid("duration", "at least a second is needed"))?,
    };
    network.ban(subject, secs).await.map_err(network_stopped)?;
    Ok(v1::BanPeerResponse {})
}

/// Lifts a ban.
pub(crate) async fn unban(
    api: &Api,
    request: v1::UnbanPeerRequest,
) -> Result<v1::UnbanPeerResponse, Status> {
    let network = network(api)?;
    let subject = subject(&request.peer)?;
    if network.unban(subject).await.map_err(network_stopped)? {
        Ok(v1::UnbanPeerResponse {})
    } else {
        Err(status::not_found(
            "BAN_NOT_FOUND",
            format!("{subject} is not banned"),
        ))
    }
}

/// Every ban with its end.
pub(crate) async fn list_bans(
    api: &Api,
    request: v1::ListBansRequest,
) -> Result<v1::ListBansResponse, Status> {
    let bans = match &api.network {
        Some(network) => network.bans().await.map_err(network_stopped)?,
        None => Vec::new(),
    };
    let size = page_size(request.page_size, BANS_PAGE, BANS_PAGE_MAX);
    let (page, next_page_token) = slice(bans, size, &request.page_token)?;
    let bans = page.into_iter().map(|(peer, until)| v1::Ban {
        peer,
        end_time: Some(convert::timestamp(until)),
    });
    Ok(v1::ListBansResponse {
        bans: bans.collect(),
        next_page_token,
    })
}
