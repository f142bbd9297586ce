//! NetworkService: what node this is, and who the validators are.

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::network_service_server::NetworkService;
use pithead_consensus::Address;
use tonic::{Request, Response, Status};

use super::{Api, status};

/// Version of the protocol that this node follows.
const PROTOCOL_VERSION: u32 = 1;

/// The service.
#[derive(Clone)]
pub(super) struct Network(pub(super) Api);

#[tonic::async_trait]
impl NetworkService for Network {
    async fn get_node_info(
        &self,
        _request: Request<v1::GetNodeInfoRequest>,
    ) -> Result<Response<v1::GetNodeInfoResponse>, Status> {
        let genesis = self.0.engine.genesis();
        let worker_count = self.0.work_book().connected();
        let uptime = self.0.started.elapsed();
        Ok(Response::new(v1::GetNodeInfoResponse {
            agent: super::AGENT.to_owned(),
            network: genesis.name.clone(),
            genesis_hash: genesis.params.genesis_hash.to_string(),
            uptime: prost_types::Duration::try_from(uptime).ok(),
            time: Some(convert::timestamp(self.0.engine.now())),
            peer_count: 0,
            height: self.0.engine.tip().borrow().height.0,
            syncing: false,
            protocol_version: PROTOCOL_VERSION,
            worker_count: u32::try_from(worker_count).unwrap_or(u32::MAX),
            data_bytes: self.0.engine.store().size_bytes(),
            process_id: std::process::id(),
        }))
    }

    async fn list_peers(
        &self,
        _request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        Err(status::unimplemented(
            "ListPeers is not served by this version: nodes do not connect to each other yet",
        ))
    }

    async fn list_validators(
        &self,
        _request: Request<v1::ListValidatorsRequest>,
    ) -> Result<Response<v1::ListValidatorsResponse>, Status> {
        let genesis = self.0.engine.genesis();
        Ok(Response::new(v1::ListValidatorsResponse {
            validators: genesis
                .validators
                .iter()
                .map(|key| v1::Validator {
                    address: self.0.chain.address_text(&Address::of_key(key)),
                    public_key: key.modulus().to_vec().into(),
                })
                .collect(),
            approval_quorum: genesis.params.approval_quorum,
        }))
    }

    async fn list_evidence(
        &self,
        _request: Request<v1::ListEvidenceRequest>,
    ) -> Result<Response<v1::ListEvidenceResponse>, Status> {
        Err(status::unimplemented(
            "ListEvidence is not served by this version: validators do not vote yet",
        ))
    }
}
