//! AdminService: operating the node. `peers` holds its calls about peers and bans.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pithead_api::v1;
use pithead_api::v1::admin_service_server::AdminService;
use pithead_consensus::{Address, BlockHeader, Target};
use pithead_core::chain::AcceptError;
use pithead_core::node::BlockVerdict;
use pithead_core::store::{StoreError, schema};
use pithead_engine::Stopped;
use tonic::{Request, Response, Status};

use crate::api::{Api, bad_field, internal, stopped};
use crate::{peers, status};

/// Most blocks of one MineBlocks call.
const MINE_BLOCKS_MAX: u32 = 1_000;
/// Addresses start with this on development networks, and only there.
const DEV_PREFIX: &str = "dpit";
/// Nonces that a thread tries before it looks whether the search is over.
const NONCES_PER_LOOK: u32 = 16_384;

/// Answers the calls of AdminService.
#[derive(Clone)]
pub(crate) struct AdminHandler(pub(crate) Api);

#[tonic::async_trait]
impl AdminService for AdminHandler {
    async fn add_peer(
        &self,
        request: Request<v1::AddPeerRequest>,
    ) -> Result<Response<v1::AddPeerResponse>, Status> {
        let response = peers::add(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn remove_peer(
        &self,
        request: Request<v1::RemovePeerRequest>,
    ) -> Result<Response<v1::RemovePeerResponse>, Status> {
        let response = peers::remove(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn ban_peer(
        &self,
        request: Request<v1::BanPeerRequest>,
    ) -> Result<Response<v1::BanPeerResponse>, Status> {
        let response = peers::ban(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn unban_peer(
        &self,
        request: Request<v1::UnbanPeerRequest>,
    ) -> Result<Response<v1::UnbanPeerResponse>, Status> {
        let response = peers::unban(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn list_bans(
        &self,
        request: Request<v1::ListBansRequest>,
    ) -> Result<Response<v1::ListBansResponse>, Status> {
        let response = peers::list_bans(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn mine_blocks(
        &self,
        request: Request<v1::MineBlocksRequest>,
    ) -> Result<Response<v1::MineBlocksResponse>, Status> {
        let request = request.into_inner();
        let genesis = self.0.engine.genesis();
        if genesis.prefix.as_str() != DEV_PREFIX {
            return Err(status::failed_precondition(
                "NOT_A_DEV_NETWORK",
                format!(
                    "MineBlocks is for development networks, whose addresses start with {DEV_PREFIX}; on {} run pithead-miner",
                    genesis.name
                ),
            ));
        }
        if request.count == 0 || request.count > MINE_BLOCKS_MAX {
            return Err(status::invalid(
                "count",
                format!("{} blocks, 1 to {MINE_BLOCKS_MAX} allowed", request.count),
            ));
        }
        let address = self
            .0
            .chain
            .address("reward_address", &request.reward_address)
            .map_err(bad_field)?;
        let mut hashes = Vec::new();
        while hashes.len() < request.count as usize {
            if let Some(hash) = self.mine_one(address, hashes.len() as u64).await? {
                hashes.push(hash);
            }
        }
        let height = self.0.engine.tip().borrow().height.0;
        Ok(Response::new(v1::MineBlocksResponse {
            block_hashes: hashes,
            height,
        }))
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        let path = PathBuf::from(request.into_inner().path);
        if !path.is_absolute() {
            return Err(status::invalid(
                "path",
                format!(
                    "{} is not an absolute path on the node's machine",
                    path.display()
                ),
            ));
        }
        if path.exists() {
            return Err(status::invalid(
                "path",
                format!("{} exists already: name a new folder", path.display()),
            ));
        }
        let store = Arc::clone(self.0.engine.store());
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || {
            let (bytes, snapshot) = store.backup(&path)?;
            let tip = schema::tip_entry(snapshot.as_ref())?;
            Ok::<_, StoreError>((bytes, tip))
        })
        .await
        .map_err(|_| status::internal("the backup ended early; the node's log says more"))?;
        let (size_bytes, tip) = written.map_err(|error| {
            tracing::error!(%error, "backup failed");
            status::failed_precondition("BACKUP_FAILED", format!("backup failed: {error}"))
        })?;
        Ok(Response::new(v1::CreateBackupResponse {
            path: shown,
            size_bytes,
            height: tip.height.0,
            block_hash: tip.hash().to_string(),
        }))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let filter = request.into_inner().filter;
        (self.0.set_log_filter)(&filter).map_err(|error| {
            status::invalid(
                "filter",
                format!("{error}; an example: info,pithead_node=debug"),
            )
        })?;
        tracing::info!(%filter, "log filter changed");
        Ok(Response::new(v1::SetLogFilterResponse { filter }))
    }

    async fn stop(
        &self,
        _request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopResponse>, Status> {
        tracing::info!("asked to stop");
        self.0.stop.notify_one();
        Ok(Response::new(v1::StopResponse {}))
    }
}

/// Ends a search when its call ends. Otherwise the searching threads would go on, and keep the
/// node from stopping.
struct EndSearchOnDrop(Arc<AtomicBool>);

impl Drop for EndSearchOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl AdminHandler {
    /// Mines one block on the tip; `None` if another block came first.
    async fn mine_one(&self, address: Address, salt: u64) -> Result<Option<String>, Status> {
        let mut tips = self.0.engine.tip();
        tips.borrow_and_update();
        let template = self.0.fresh_template().await?;
        let over = Arc::new(AtomicBool::new(false));
        let _end = EndSearchOnDrop(Arc::clone(&over));
        let searching = Arc::clone(&over);
        let mut search = tokio::task::spawn_blocking(move || {
            let mut extra = salt;
            loop {
                let commitment = template.commitment(address, extra.to_le_bytes());
                let header = template.header(&commitment);
                if let Some(header) = search_nonce(header, template.target, &searching) {
                    return Some(template.block(header, commitment));
                }
                if searching.load(Ordering::Relaxed) {
                    return None;
                }
                extra = extra.wrapping_add(1 << 32);
            }
        });
        let block = tokio::select! {
            block = &mut search => block.map_err(|_| status::internal("the search ended early"))?,
            _ = tips.changed() => {
                over.store(true, Ordering::Relaxed);
                let _ = search.await;
                return Ok(None);
            }
            () = self.0.until_stopping() => return Err(stopped(Stopped)),
        };
        let Some(block) = block else { return Ok(None) };
        let hash = block.header.hash();
        match self.0.engine.submit_block(block).await {
            Ok(Ok(BlockVerdict::NewTip)) => Ok(Some(hash.to_string())),
            Ok(Ok(BlockVerdict::Side)) => Ok(None),
            Ok(Err(AcceptError::Internal(error))) => Err(internal(error)),
            Ok(Err(error)) => Err(status::failed_precondition(
                "BLOCK_NOT_ACCEPTED",
                format!("the mined block was not accepted: {error}"),
            )),
            Err(error) => Err(stopped(error)),
        }
    }
}

/// Searches all nonces of a header on every core; `None` if no nonce meets the target, or once
/// `done` is set.
fn search_nonce(header: BlockHeader, target: Target, done: &AtomicBool) -> Option<BlockHeader> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stride = u32::MAX / u32::try_from(threads).unwrap_or(1);
    let found = std::sync::Mutex::new(None);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..u32::try_from(threads).unwrap_or(1) {
            let (found, over) = (&found, &over);
            scope.spawn(move || {
                let first = number * stride;
                for nonce in first..=first + (stride - 1) {
                    let looks = nonce % NONCES_PER_LOOK == 0;
                    if looks && (over.load(Ordering::Relaxed) || done.load(Ordering::Relaxed)) {
                        return;
                    }
                    let candidate = BlockHeader { nonce, ..header };
                    if target.is_met_by(&candidate.hash()) {
                        over.store(true, Ordering::Relaxed);
                        if let Ok(mut found) = found.lock() {
                            *found = Some(candidate);
                        }
                        return;
                    }
                }
            });
        }
    });
    found.into_inner().ok().flatten()
}
