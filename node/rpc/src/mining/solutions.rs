//! Solutions and blocks from miners: what they are worth, in the API's words.

use pithead_api::v1;
use pithead_api::v1::SubmitOutcome as Outcome;
use pithead_consensus::check::{BlockError, HeaderError, NotYet};
use pithead_consensus::{Block, BlockHash, Decode as _};
use pithead_core::chain::AcceptError;
use pithead_core::node::BlockVerdict;
use tonic::Status;

use crate::api::{Api, stopped};
use crate::status;
use crate::workers::{BlockCredit, BlockFinder, JudgeContext, SolutionVerdict, SubmittedSolution};

/// SubmitSolution: the work book judges the solution; if it makes a block, the core does.
pub(super) async fn submit_solution(
    api: &Api,
    request: v1::SubmitSolutionRequest,
) -> Result<v1::SubmitSolutionResponse, Status> {
    let extra_nonce = request.extra_nonce.as_ref().try_into().map_err(|_| {
        let found = request.extra_nonce.len();
        status::invalid("extra_nonce", format!("{found} bytes, 4 expected"))
    })?;
    let solution = SubmittedSolution {
        work_id: request.work_id,
        extra_nonce,
        time: request.time,
        nonce: request.nonce,
        version: request.version,
        first_hash_ms: request.first_hash_ms,
    };
    let context = JudgeContext {
        tip: api.engine.tip().borrow().hash,
        now: api.engine.now(),
        max_future_secs: api.engine.genesis().params.max_future_secs,
    };
    let verdict = api.work_book().judge(&solution, &context);
    let (outcome, hash, detail) = worded(api, verdict, &solution).await?;
    Ok(v1::SubmitSolutionResponse {
        outcome: outcome.into(),
        block_hash: hash.map_or_else(String::new, |hash| hash.to_string()),
        detail,
    })
}

/// The outcome of a verdict, the solution's hash if it was computed, and the detail.
async fn worded(
    api: &Api,
    verdict: SolutionVerdict,
    solution: &SubmittedSolution,
) -> Result<(Outcome, Option<BlockHash>, String), Status> {
    Ok(match verdict {
        SolutionVerdict::Block { block, finder } => submit_found(api, *block, &finder).await?,
        SolutionVerdict::Share(hash) => (Outcome::AcceptedShare, Some(hash), String::new()),
        SolutionVerdict::Stale(hash) => (
            Outcome::StaleWork,
            Some(hash),
            "a newer tip came before it".to_owned(),
        ),
        SolutionVerdict::UsedUp(hash) => (
            Outcome::StaleWork,
            Some(hash),
            "its work has had as many shares as are remembered: take newer work".to_owned(),
        ),
        SolutionVerdict::EnoughBlocks(hash) => (
            Outcome::StaleWork,
            Some(hash),
            "its parent has had enough blocks of this worker: wait for work on the next tip"
                .to_owned(),
        ),
        SolutionVerdict::UnknownWork => (
            Outcome::UnknownWork,
            None,
            format!(
                "no work {:?}: too old, or from before a restart",
                solution.work_id
            ),
        ),
        SolutionVerdict::Duplicate(hash) => (
            Outcome::Duplicate,
            Some(hash),
            "it was handed in before".to_owned(),
        ),
        SolutionVerdict::HighHash { hash, target } => (
            Outcome::HighHash,
            Some(hash),
            format!("the hash exceeds the share target {target}"),
        ),
        SolutionVerdict::BadTime { min, max } => (
            Outcome::BadTime,
            None,
            format!("time {} is not within {min} and {max}", solution.time),
        ),
        SolutionVerdict::BadVersion => (
            Outcome::Invalid,
            None,
            format!(
                "version {:#010x}: only bits 13 to 28 may be rolled",
                solution.version
            ),
        ),
    })
}

/// SubmitBlock: a whole block that was made elsewhere.
pub(super) async fn submit_block(
    api: &Api,
    request: v1::SubmitBlockRequest,
) -> Result<v1::SubmitBlockResponse, Status> {
    let block = match Block::decode(&request.raw) {
        Ok(block) => block,
        Err(error) => {
            return Ok(v1::SubmitBlockResponse {
                outcome: Outcome::Invalid.into(),
                block_hash: String::new(),
                detail: format!("the bytes are not a block: {error}"),
            });
        }
    };
    let hash = block.header.hash();
    let (outcome, detail) = submit(api, block).await?;
    Ok(v1::SubmitBlockResponse {
        outcome: outcome.into(),
        block_hash: hash.to_string(),
        detail,
    })
}

/// Hands a miner's block to the core and credits the miner with what becomes of it.
async fn submit_found(
    api: &Api,
    block: Block,
    finder: &BlockFinder,
) -> Result<(Outcome, Option<BlockHash>, String), Status> {
    let hash = block.header.hash();
    let (outcome, detail) = submit(api, block).await?;
    let credit = match outcome {
        Outcome::AcceptedBlock => BlockCredit::Tip,
        Outcome::AcceptedSide => BlockCredit::Side,
        Outcome::StaleWork => BlockCredit::Spare,
        _ => BlockCredit::Rejected,
    };
    let now = api.engine.now();
    api.work_book().record_block(finder, credit, now);
    if credit == BlockCredit::Tip {
        tracing::info!(worker = %finder.worker.name, %hash, "block found");
    }
    Ok((outcome, Some(hash), detail))
}

/// Hands a block to the core and puts its verdict into words.
async fn submit(api: &Api, block: Block) -> Result<(Outcome, String), Status> {
    let verdict = api.engine.submit_block(block).await.map_err(stopped)?;
    let error = match verdict {
        Ok(BlockVerdict::NewTip) => return Ok((Outcome::AcceptedBlock, String::new())),
        Ok(BlockVerdict::Side) => {
            let detail = "valid, but another chain has at least as much work";
            return Ok((Outcome::AcceptedSide, detail.to_owned()));
        }
        Err(error) => error,
    };
    let outcome = match &error {
        AcceptError::Known { .. } => Outcome::Duplicate,
        AcceptError::NotYet {
            reason: NotYet::TimeTooFarAhead { .. },
            ..
        } => Outcome::BadTime,
        AcceptError::NotYet {
            reason: NotYet::MissingParent { .. },
            ..
        } => Outcome::NotSynced,
        AcceptError::Invalid(BlockError::Header(HeaderError::HighHash { .. })) => Outcome::HighHash,
        AcceptError::Invalid(BlockError::Header(HeaderError::TimeBeforeParent { .. })) => {
            Outcome::BadTime
        }
        AcceptError::Invalid(_) | AcceptError::InvalidAncestor { .. } => Outcome::Invalid,
        AcceptError::TooDeep { .. } => Outcome::AcceptedSide,
        AcceptError::TooManySiblings { .. } => Outcome::StaleWork,
        AcceptError::Internal(_) => {
            return Err(status::internal(
                "the node could not store the block; its log says more",
            ));
        }
    };
    Ok((outcome, error.to_string()))
}
