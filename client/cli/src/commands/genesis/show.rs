//! Genesis files: reads, checks and shows them.

use std::path::Path;

use pithead_client::Quorum;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, Amount, CompactTarget, Genesis};
use serde::Serialize;

use crate::commands::context::Context;
use crate::commands::files;
use crate::terminal::output::{Column, table};
use crate::terminal::words::{Money, counted, iso, pit_unit, si};

/// Largest genesis file that is read: room for a million allocations.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Allocations listed; a file may hold a million.
const ALLOCATIONS_SHOWN: usize = 50;

/// What a genesis file says, as JSON.
#[derive(Debug, Serialize)]
struct GenesisJson<'a> {
    path: String,
    genesis_hash: String,
    name: &'a str,
    address_prefix: &'a str,
    time: u32,
    bits: String,
    pow_limit_bits: String,
    block_interval_secs: u32,
    half_life_secs: u32,
    max_future_secs: u32,
    max_block_bytes: u32,
    max_account_changes: u32,
    min_opening_amount: Money,
    reward_maturity: u32,
    checkpoint_interval: u32,
    approval_quorum: u32,
    allocated: Money,
    allocation_count: usize,
    validators: Vec<&'a str>,
}

/// Reads a genesis file and checks it.
pub(crate) fn read(path: &Path) -> anyhow::Result<(GenesisFile, Genesis)> {
    let text = files::read_text(path, FILE_BYTES_MAX, "a genesis file")?;
    let file = GenesisFile::from_toml(&text).map_err(|error| files::failed(path, error))?;
    let genesis = file.check().map_err(|error| files::failed(path, error))?;
    Ok((file, genesis))
}

/// Checks a genesis file and shows it with its validators and allocations.
pub(super) fn show(context: &Context, path: &Path) -> anyhow::Result<()> {
    let (file, genesis) = read(path)?;
    print(context, path, &file, &genesis)?;
    if context.json() {
        return Ok(());
    }
    let rows = genesis.validators.iter().enumerate().map(|(index, key)| {
        let address = Address::of_key(key).to_text(&genesis.prefix);
        vec![(index + 1).to_string(), address]
    });
    if !genesis.validators.is_empty() {
        let columns = [Column::Right("#"), Column::Left("validator")];
        context.out.line(table(&columns, rows))?;
    }
    if genesis.allocations.is_empty() {
        return Ok(());
    }
    let columns = [Column::Left("allocation"), Column::Right("amount (PIT)")];
    let rows = genesis.allocations.iter().take(ALLOCATIONS_SHOWN);
    let rows =
        rows.map(|(address, amount)| vec![address.to_text(&genesis.prefix), amount.to_string()]);
    context.out.line(table(&columns, rows))?;
    let more = genesis.allocations.len().saturating_sub(ALLOCATIONS_SHOWN);
    if more > 0 {
        context.out.line(format!("… and {more} more"))?;
    }
    Ok(())
}

/// Prints what a genesis says, without its validators and allocations.
pub(super) fn print(
    context: &Context,
    path: &Path,
    file: &GenesisFile,
    genesis: &Genesis,
) -> anyhow::Result<()> {
    let allocated = Amount::sum(genesis.allocations.values().copied())?;
    if context.json() {
        let listed = file.validators.iter();
        return context.out.json(&GenesisJson {
            path: path.display().to_string(),
            genesis_hash: genesis.params.genesis_hash.to_string(),
            name: &file.name,
            address_prefix: &file.address_prefix,
            time: file.time,
            bits: format!("{:08x}", file.bits),
            pow_limit_bits: format!("{:08x}", file.pow_limit_bits),
            block_interval_secs: file.block_interval_secs,
            half_life_secs: file.half_life_secs,
            max_future_secs: file.max_future_secs,
            max_block_bytes: file.max_block_bytes,
            max_account_changes: file.max_account_changes,
            min_opening_amount: u64::from(file.min_opening_amount).into(),
            reward_maturity: file.reward_maturity,
            checkpoint_interval: file.checkpoint_interval,
            approval_quorum: file.approval_quorum,
            allocated: allocated.into(),
            allocation_count: genesis.allocations.len(),
            validators: listed.map(|entry| entry.address.as_str()).collect(),
        });
    }
    Ok(context
        .out
        .fields(&fields(path, file, genesis, allocated))?)
}

fn fields(
    path: &Path,
    file: &GenesisFile,
    genesis: &Genesis,
    allocated: Amount,
) -> Vec<(&'static str, String)> {
    let time = prost_types::Timestamp {
        seconds: i64::from(file.time),
        nanos: 0,
    };
    let hashes = |bits: u32| {
        CompactTarget(bits).to_target().map_or_else(
            |error| error.to_string(),
            |target| {
                format!(
                    "{bits:#010x}, {} hashes a block",
                    si(target.work().to_f64())
                )
            },
        )
    };
    let count = u32::try_from(genesis.validators.len()).unwrap_or(u32::MAX);
    let quorum = match Quorum::new(count, file.approval_quorum) {
        Ok(quorum) => quorum.to_string(),
        Err(_) => "no validators: plain proof of work, nothing is final".to_owned(),
    };
    vec![
        ("genesis", genesis.params.genesis_hash.to_string()),
        ("file", path.display().to_string()),
        ("network", file.name.clone()),
        ("addresses", format!("{}1…", file.address_prefix)),
        ("time", iso(Some(&time))),
        ("first target", hashes(file.bits)),
        ("easiest target", hashes(file.pow_limit_bits)),
        (
            "blocks",
            format!(
                "every {} s, {} bytes at most, {} s ahead of the clock at most",
                file.block_interval_secs, file.max_block_bytes, file.max_future_secs
            ),
        ),
        ("half-life", format!("{} s", file.half_life_secs)),
        (
            "accounts",
            format!(
                "a block changes {} at most; {} at least open one",
                file.max_account_changes,
                pit_unit(u64::from(file.min_opening_amount))
            ),
        ),
        (
            "rewards",
            match file.reward_maturity {
                0 => "paid out at once".to_owned(),
                count => format!("paid out after {count} blocks"),
            },
        ),
        (
            "allocations",
            format!(
                "{allocated} PIT to {}",
                counted(genesis.allocations.len() as u64, "account")
            ),
        ),
        (
            "checkpoints",
            match file.checkpoint_interval {
                1 => "every block".to_owned(),
                count => format!("every {count} blocks"),
            },
        ),
        ("quorum", quorum),
    ]
}
