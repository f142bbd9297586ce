//! `pithead node` and `pithead workers`: the node, and the miners that work for it.

use pithead_api::v1;

use super::context::{Context, TokenRole};
use super::names::{WalletNames, short_named};
use crate::terminal::output::{Column, note, table};
use crate::terminal::words::{bytes, counted, duration, hash_rate, iso, si};

pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let client = context.connect().await?;
    let info = client.node_info().await?;
    let uptime = info.uptime.map_or(0, |uptime| uptime.seconds);
    if context.json() {
        return context.out.json(&serde_json::json!({
            "url": client.url(),
            "agent": info.agent,
            "network": info.network,
            "genesis_hash": info.genesis_hash,
            "protocol_version": info.protocol_version,
            "height": info.height,
            "syncing": info.syncing,
            "clock_behind_secs": info.clock_behind_secs,
            "peer_count": info.peer_count,
            "peer_id": info.peer_id,
            "listen_addresses": info.listen_addresses,
            "external_addresses": info.external_addresses,
            "worker_count": info.worker_count,
            "uptime_secs": uptime,
            "time": iso(info.time.as_ref()),
            "data_bytes": info.data_bytes,
            "process_id": info.process_id,
        }));
    }
    let addresses = match (info.peer_id.is_empty(), info.listen_addresses.is_empty()) {
        (true, _) => "none: it keeps to itself".to_owned(),
        (false, true) => "none: it only connects to others".to_owned(),
        (false, false) => info.listen_addresses.join(" "),
    };
    let clock = match info.clock_behind_secs {
        0 => iso(info.time.as_ref()),
        behind => format!(
            "{}, some {behind} s behind its peers",
            iso(info.time.as_ref())
        ),
    };
    Ok(context.out.fields(&[
        ("node", client.url().to_owned()),
        ("agent", info.agent),
        ("network", info.network),
        ("genesis", info.genesis_hash),
        ("protocol", format!("version {}", info.protocol_version)),
        ("height", info.height.to_string()),
        (
            "syncing",
            if info.syncing { "yes" } else { "no" }.to_owned(),
        ),
        ("peers", info.peer_count.to_string()),
        ("for peers at", addresses),
        ("miners", info.worker_count.to_string()),
        ("up for", duration(uptime)),
        ("its time", clock),
        ("on disk", bytes(info.data_bytes)),
        ("process id", info.process_id.to_string()),
    ])?)
}

pub(crate) async fn run_workers(context: &Context) -> anyhow::Result<()> {
    let (client, chain) = context.connect_as(TokenRole::Mine).await?;
    let answer = client.workers().await?;
    if context.json() {
        return context.out.json(&serde_json::json!({
            "total_hash_rate": answer.total_hash_rate,
            "workers": answer.workers.iter().map(worker_json).collect::<Vec<_>>(),
        }));
    }
    if answer.workers.is_empty() {
        return Ok(context
            .out
            .line("no miner has worked for this node since it started: run `pithead-miner`")?);
    }
    let names = context.names(&chain);
    context.out.line(worker_table(&answer.workers, &names))?;
    note(format!(
        "{} in all, {} hashes a share at most",
        hash_rate(answer.total_hash_rate),
        si(answer
            .workers
            .iter()
            .map(|worker| worker.share_difficulty)
            .fold(0.0, f64::max)),
    ));
    Ok(())
}

/// The miners of a node as a table, one a row.
fn worker_table(workers: &[v1::Worker], names: &WalletNames) -> String {
    let columns = [
        Column::Left("worker"),
        Column::Left("reward to"),
        Column::Left("connected"),
        Column::Left("kernel"),
        Column::Right("proven"),
        Column::Right("claimed"),
        Column::Right("blocks"),
        Column::Right("side"),
        Column::Right("shares"),
        Column::Right("stale"),
        Column::Right("rejected"),
        Column::Right("first hash"),
        Column::Right("heat"),
        Column::Left("last share"),
        Column::Left("from"),
    ];
    let rows = workers.iter().map(|worker| {
        let telemetry = worker.telemetry.as_ref();
        vec![
            worker.name.clone(),
            short_named(names, &worker.reward_address),
            if worker.connected { "yes" } else { "no" }.to_owned(),
            telemetry.map_or_else(String::new, |told| {
                format!(
                    "{} on {}",
                    told.kernel,
                    counted(told.threads.into(), "thread")
                )
            }),
            hash_rate(worker.hash_rate),
            telemetry.map_or_else(String::new, |told| hash_rate(told.hash_rate)),
            worker.accepted_blocks.to_string(),
            worker.side_blocks.to_string(),
            worker.accepted_shares.to_string(),
            stale(worker),
            worker.rejected.to_string(),
            first_hash(worker),
            telemetry.map_or_else(String::new, heat),
            iso(worker.last_share_time.as_ref()),
            worker.remote_address.clone(),
        ]
    });
    table(&columns, rows)
}

/// How many solutions came too late, and their part of all solutions.
fn stale(worker: &v1::Worker) -> String {
    match worker.stale {
        0 => "0".to_owned(),
        count => format!("{count} ({:.2} %)", 100.0 * worker.stale_rate),
    }
}

/// The time from new work to the first hash on it: the 99th percentile if the
/// miner tells it, else the last time that the node saw.
fn first_hash(worker: &v1::Worker) -> String {
    let p99 = worker
        .telemetry
        .as_ref()
        .and_then(|told| told.first_hash_p99_ms);
    match (p99, worker.first_hash_ms) {
        (Some(milliseconds), _) => format!("{milliseconds:.1} ms"),
        (None, Some(milliseconds)) => format!("{milliseconds} ms"),
        (None, None) => String::new(),
    }
}

/// Temperature and power of a miner, as far as it tells them.
fn heat(told: &v1::MinerTelemetry) -> String {
    let celsius = told
        .temperature_celsius
        .map(|value| format!("{value:.0} °C"));
    let watts = told.power_watts.map(|value| format!("{value:.0} W"));
    let known: Vec<String> = celsius.into_iter().chain(watts).collect();
    known.join(", ")
}

fn worker_json(worker: &v1::Worker) -> serde_json::Value {
    serde_json::json!({
        "name": worker.name,
        "reward_address": worker.reward_address,
        "agent": worker.agent,
        "connected": worker.connected,
        "accepted_blocks": worker.accepted_blocks,
        "side_blocks": worker.side_blocks,
        "accepted_shares": worker.accepted_shares,
        "stale": worker.stale,
        "rejected": worker.rejected,
        "hash_rate": worker.hash_rate,
        "share_difficulty": worker.share_difficulty,
        "connected_time": iso(worker.connected_time.as_ref()),
        "last_share_time": iso(worker.last_share_time.as_ref()),
        "first_hash_ms": worker.first_hash_ms,
        "remote_address": worker.remote_address,
        "stale_rate": worker.stale_rate,
        "telemetry": worker.telemetry.as_ref().map(|told| serde_json::json!({
            "kernel": told.kernel,
            "threads": told.threads,
            "hash_rate": told.hash_rate,
            "first_hash_p50_ms": told.first_hash_p50_ms,
            "first_hash_p99_ms": told.first_hash_p99_ms,
            "temperature_celsius": told.temperature_celsius,
            "power_watts": told.power_watts,
        })),
    })
}
