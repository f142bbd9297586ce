//! What every handler works with, and the errors that any handler may give.
//!
//! It knows no service and reads nothing from the store: `reader` does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use std::time::Instant;

use pithead_api::convert::{self, ConversionError};
use pithead_core::finality::FinalityState;
use pithead_core::mempool::Mempool;
use pithead_core::store::StoreError;
use pithead_core::template::BlockTemplate;
use pithead_engine::{Engine, Stopped};
use pithead_p2p as p2p;
use tokio::sync::{Notify, watch};
use tonic::Status;

use crate::status;
use crate::workers::WorkBook;

/// Program and version, as peers and API clients see them.
pub const AGENT: &str = concat!("pithead-node/", env!("CARGO_PKG_VERSION"));

/// Changes the filter of the running log; the error says what is wrong with the filter.
pub type SetLogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The parts of a running node that handlers use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) engine: Engine,
    /// `None` if the node runs without peers.
    pub(crate) network: Option<p2p::Handle>,
    /// Converts addresses, blocks and transactions of this chain.
    pub(crate) chain: convert::ChainContext,
    pub(crate) work_book: Arc<Mutex<WorkBook>>,
    pub(crate) set_log_filter: SetLogFilter,
    pub(crate) started: Instant,
    /// Tells the program that AdminService was asked to stop the node.
    pub(crate) stop: Arc<Notify>,
    /// Becomes `true` when the node begins to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Api {
    /// Waits until the node begins to stop.
    pub(crate) async fn until_stopping(&self) {
        let mut stopping = self.stopping.clone();
        // A dropped sender means that the server has ended: that is a stop, too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// The pending transactions, locked for reading.
    pub(crate) fn mempool(&self) -> RwLockReadGuard<'_, Mempool> {
        self.engine
            .mempool()
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The approvals of validators and what follows from them, locked for reading.
    pub(crate) fn finality(&self) -> RwLockReadGuard<'_, FinalityState> {
        self.engine
            .finality_state()
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The miners and their work, locked.
    pub(crate) fn work_book(&self) -> MutexGuard<'_, WorkBook> {
        self.work_book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A template that holds everything pending.
    pub(crate) async fn fresh_template(&self) -> Result<Arc<BlockTemplate>, Status> {
        let template = self.engine.fresh_template().await.map_err(stopped)?;
        template.map_err(internal)
    }
}

/// The core has stopped: the caller may try again once the node is back.
pub(crate) fn stopped(_: Stopped) -> Status {
    status::unavailable("NODE_STOPPING", "the node is stopping; try again later")
}

/// The network has stopped, which it does only when the node stops.
pub(crate) fn network_stopped(_: p2p::NetworkStopped) -> Status {
    stopped(Stopped)
}

/// The store failed, which the caller can do nothing about.
pub(crate) fn internal(error: StoreError) -> Status {
    tracing::error!(%error, "a query failed");
    status::internal("the node could not read its data; its log says more")
}

/// A field of the request could not be converted.
pub(crate) fn bad_field(error: ConversionError) -> Status {
    status::invalid(&error.field, error.reason)
}
