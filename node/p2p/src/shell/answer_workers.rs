//! Tasks that make answers to peers' requests: each reads a snapshot on the blocking pool and
//! encodes the answer there, so that neither the core nor the swarm waits for it.

use std::sync::Arc;

use libp2p::request_response::InboundRequestId;
use pithead_consensus::Encode as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::error;

use crate::policy::answer_budget::AnswerClass;
use pithead_core::store::StoreError;
use pithead_core::sync::{RecentBlocks, Request, serve};
use pithead_engine::Engine;

/// Large answers that are made at the same time, and the same number of small ones.
const WORKERS_MAX: usize = 2;

/// An answer that is ready to be sent.
pub(super) struct EncodedAnswer {
    pub(super) id: InboundRequestId,
    /// `None` if the answer could not be made.
    pub(super) raw: Option<Arc<[u8]>>,
}

/// The tasks that make answers.
pub(super) struct AnswerWorkers {
    engine: Engine,
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
    tasks: JoinSet<EncodedAnswer>,
}

impl AnswerWorkers {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            large: Arc::new(Semaphore::new(WORKERS_MAX)),
            small: Arc::new(Semaphore::new(WORKERS_MAX)),
            tasks: JoinSet::new(),
        }
    }

    /// Begins to make an answer.
    pub(super) fn make(
        &mut self,
        id: InboundRequestId,
        class: AnswerClass,
        request: Request,
        recent: RecentBlocks,
    ) {
        let workers = match class {
            AnswerClass::Large => Arc::clone(&self.large),
            AnswerClass::Light | AnswerClass::Fresh => Arc::clone(&self.small),
        };
        let engine = self.engine.clone();
        self.tasks.spawn(async move {
            // The semaphore is never closed, so this only waits.
            let place = workers.acquire_owned().await;
            let made = tokio::task::spawn_blocking(move || {
                let _place = place;
                answer(&engine, &recent, &request)
            });
            let raw = match made.await {
                Ok(Ok(raw)) => Some(Arc::from(raw)),
                Ok(Err(error)) => {
                    error!(%error, "a peer's request can't be answered");
                    None
                }
                Err(_) => None,
            };
            EncodedAnswer { id, raw }
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for the next answer that is ready.
    pub(super) async fn next(&mut self) -> Option<EncodedAnswer> {
        self.tasks.join_next().await?.ok()
    }
}

fn answer(
    engine: &Engine,
    recent: &RecentBlocks,
    request: &Request,
) -> Result<Vec<u8>, StoreError> {
    let snapshot = engine.store().snapshot()?;
    let (mempool, finality) = (engine.mempool(), engine.finality_state());
    let response = serve(snapshot.as_ref(), mempool, finality, recent, request)?;
    Ok(response.encode())
}
