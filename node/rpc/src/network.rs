//! NetworkService: this node, its peers, and the validators of its network.

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::network_service_server::NetworkService;
use pithead_p2p::PeerReport;
use tonic::{Request, Response, Status};

use crate::api::{AGENT, Api, network_stopped};
use crate::finality::{list_evidence, list_validators};
use crate::page::{page_size, slice};

/// Version of the protocol that this node follows.
const PROTOCOL_VERSION: u32 = 1;

/// Peers of a page, unless the caller says otherwise.
const PEERS_PAGE: usize = 100;
/// Most peers of a page.
const PEERS_PAGE_MAX: usize = 1_000;

/// Answers the calls of NetworkService.
#[derive(Clone)]
pub(crate) struct NetworkHandler(pub(crate) Api);

#[tonic::async_trait]
impl NetworkService for NetworkHandler {
    async fn get_node_info(
        &self,
        _request: Request<v1::GetNodeInfoRequest>,
    ) -> Result<Response<v1::GetNodeInfoResponse>, Status> {
        let genesis = self.0.engine.genesis();
        let worker_count = self.0.work_book().connected();
        let uptime = self.0.started.elapsed();
        let peers = self.0.network.as_ref();
        let peer_id = peers.map(|peers| peers.peer_id());
        let local = peers.map(|peers| peers.local()).unwrap_or_default();
        // An address that others can dial ends with the identity of the node.
        let named = |addresses: &[libp2p::Multiaddr]| {
            let id = peer_id.map(libp2p::multiaddr::Protocol::P2p);
            let addresses = addresses.iter().cloned();
            addresses
                .map(|address| id.iter().cloned().fold(address, libp2p::Multiaddr::with))
                .map(|address| address.to_string())
                .collect()
        };
        Ok(Response::new(v1::GetNodeInfoResponse {
            peer_id: peer_id.map(|id| id.to_string()).unwrap_or_default(),
            listen_addresses: named(&local.listen_addresses),
            external_addresses: named(&local.external_addresses),
            agent: AGENT.to_owned(),
            network: genesis.name.clone(),
            genesis_hash: genesis.params.genesis_hash.to_string(),
            uptime: prost_types::Duration::try_from(uptime).ok(),
            time: Some(convert::timestamp(self.0.engine.now())),
            peer_count: u32::try_from(local.peer_count).unwrap_or(u32::MAX),
            height: self.0.engine.tip().borrow().height.0,
            syncing: self.0.engine.sync().borrow().syncing,
            clock_behind_secs: self.0.engine.sync().borrow().clock_behind_secs,
            protocol_version: PROTOCOL_VERSION,
            worker_count: u32::try_from(worker_count).unwrap_or(u32::MAX),
            data_bytes: self.0.engine.store().size_bytes(),
            process_id: std::process::id(),
        }))
    }

    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size, PEERS_PAGE, PEERS_PAGE_MAX);
        let peers = match &self.0.network {
            Some(network) => network.peers().await.map_err(network_stopped)?,
            None => Vec::new(),
        };
        let (page, next_page_token) = slice(peers, size, &request.page_token)?;
        Ok(Response::new(v1::ListPeersResponse {
            peers: page.iter().map(peer_message).collect(),
            next_page_token,
        }))
    }

    async fn list_validators(
        &self,
        _request: Request<v1::ListValidatorsRequest>,
    ) -> Result<Response<v1::ListValidatorsResponse>, Status> {
        Ok(Response::new(list_validators(&self.0)))
    }

    async fn list_evidence(
        &self,
        request: Request<v1::ListEvidenceRequest>,
    ) -> Result<Response<v1::ListEvidenceResponse>, Status> {
        list_evidence(&self.0, &request.into_inner()).map(Response::new)
    }
}

fn peer_message(peer: &PeerReport) -> v1::Peer {
    let latency = peer.latency;
    v1::Peer {
        peer_id: peer.peer.to_string(),
        address: peer.address.to_string(),
        agent: peer.agent.clone(),
        inbound: peer.inbound,
        height: peer.height,
        latency: latency.and_then(|latency| prost_types::Duration::try_from(latency).ok()),
        score: peer.score,
        connected_time: Some(convert::timestamp(peer.connected_at)),
        bytes_sent: peer.bytes_sent,
        bytes_received: peer.bytes_received,
    }
}
