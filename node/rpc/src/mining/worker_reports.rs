//! The list of workers, and the telemetry that miners report.

use pithead_api::convert;
use pithead_api::v1;
use tonic::Status;

use crate::api::Api;
use crate::status;
use crate::workers::{Worker, WorkerId, WorkerTelemetry};

/// Longest worker name and agent, characters.
const NAME_CHARS_MAX: usize = 64;
/// Longest name of a kernel, characters.
const KERNEL_CHARS_MAX: usize = 32;

/// Refuses a name that is long or that would garble a terminal.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Status> {
    check_printable(field, name, NAME_CHARS_MAX)
}

fn check_printable(field: &str, text: &str, chars_max: usize) -> Result<(), Status> {
    if text.chars().count() > chars_max || text.chars().any(char::is_control) {
        return Err(status::invalid(
            field,
            format!("at most {chars_max} printable characters"),
        ));
    }
    Ok(())
}

/// ReportTelemetry: keeps what a miner reports of itself.
pub(super) fn report_telemetry(
    api: &Api,
    worker: &WorkerId,
    message: v1::MinerTelemetry,
) -> Result<(), Status> {
    let telemetry = telemetry(message)?;
    if !api.work_book().record_telemetry(worker, telemetry) {
        return Err(status::not_found(
            "WORKER_NOT_FOUND",
            format!("no miner {:?} has subscribed", worker.name),
        ));
    }
    Ok(())
}

/// Reads a miner's report. A figure that is not a finite number counts as not reported.
fn telemetry(message: v1::MinerTelemetry) -> Result<WorkerTelemetry, Status> {
    check_printable("telemetry.kernel", &message.kernel, KERNEL_CHARS_MAX)?;
    let finite = |figure: Option<f64>| figure.filter(|figure| figure.is_finite());
    Ok(WorkerTelemetry {
        kernel: message.kernel,
        threads: message.threads,
        hash_rate: finite(Some(message.hash_rate)).unwrap_or(0.0).max(0.0),
        first_hash_p50_ms: finite(message.first_hash_p50_ms),
        first_hash_p99_ms: finite(message.first_hash_p99_ms),
        temperature_celsius: finite(message.temperature_celsius),
        power_watts: finite(message.power_watts),
    })
}

/// ListWorkers: connected workers first, and the hash rate of these together.
pub(super) fn list_workers(api: &Api) -> v1::ListWorkersResponse {
    let now = api.engine.now();
    let book = api.work_book();
    let mut total = 0.0;
    let workers = book
        .workers()
        .into_iter()
        .map(|(id, worker)| {
            let hash_rate = worker.hash_rate(now);
            if worker.subscriptions > 0 {
                total += hash_rate;
            }
            worker_message(api, id, worker, hash_rate)
        })
        .collect();
    v1::ListWorkersResponse {
        workers,
        total_hash_rate: total,
    }
}

fn worker_message(api: &Api, id: &WorkerId, worker: &Worker, hash_rate: f64) -> v1::Worker {
    v1::Worker {
        name: id.name.clone(),
        reward_address: api.chain.address_text(&id.reward_address),
        agent: worker.agent.clone(),
        connected: worker.subscriptions > 0,
        accepted_blocks: worker.accepted_blocks,
        side_blocks: worker.side_blocks,
        accepted_shares: worker.accepted_shares,
        stale: worker.stale,
        rejected: worker.rejected,
        hash_rate,
        share_difficulty: worker.share_hashes,
        connected_time: Some(convert::timestamp(worker.connected_at)),
        last_share_time: (worker.last_share_at > 0)
            .then(|| convert::timestamp(worker.last_share_at)),
        first_hash_ms: worker.first_hash_ms,
        remote_address: worker.remote.clone(),
        stale_rate: worker.stale_rate(),
        telemetry: worker.telemetry.as_ref().map(telemetry_message),
    }
}

fn telemetry_message(telemetry: &WorkerTelemetry) -> v1::MinerTelemetry {
    v1::MinerTelemetry {
        kernel: telemetry.kernel.clone(),
        threads: telemetry.threads,
        hash_rate: telemetry.hash_rate,
        first_hash_p50_ms: telemetry.first_hash_p50_ms,
        first_hash_p99_ms: telemetry.first_hash_p99_ms,
        temperature_celsius: telemetry.temperature_celsius,
        power_watts: telemetry.power_watts,
    }
}
