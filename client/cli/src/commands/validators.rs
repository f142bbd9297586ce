//! `pithead validators`: the validators of this network, which of them have voted
//! lately, and whether finality advances.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use pithead_api::v1;
use pithead_client::{FinalityProgress, Quorum};
use serde::Serialize;

use super::context::Context;
use super::names::{named, short_named};
use crate::terminal::finality::{ApprovalJson, FinalityJson, height_and_lag, progress_sentence};
use crate::terminal::output::{Column, GREEN, RED, YELLOW, table};
use crate::terminal::words::{duration, iso_option};

/// A validator counts as heard if its last vote is at most this many
/// checkpoints behind the tip.
const CHECKPOINTS_HEARD: u64 = 3;

/// Arguments of `validators`.
#[derive(Debug, Args)]
pub(crate) struct ValidatorsArgs {
    /// Show addresses in full.
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Serialize)]
struct ValidatorsJson {
    progress: &'static str,
    validator_count: u32,
    approval_quorum: u32,
    checkpoint_interval: u32,
    heard: usize,
    tip_height: u64,
    #[serde(flatten)]
    finality: FinalityJson,
    validators: Vec<ValidatorJson>,
}

#[derive(Debug, Serialize)]
struct ValidatorJson {
    address: String,
    public_key: String,
    last_approval: Option<ApprovalJson>,
    last_approval_time: Option<String>,
    recent_approvals: u32,
    recent_checkpoints: u32,
    evidence_count: u32,
    is_this_node: bool,
}

impl From<&v1::Validator> for ValidatorJson {
    fn from(validator: &v1::Validator) -> Self {
        Self {
            address: validator.address.clone(),
            public_key: hex::encode(&validator.public_key),
            last_approval: validator.last_approval.as_ref().map(Into::into),
            last_approval_time: iso_option(validator.last_approval_time.as_ref()),
            recent_approvals: validator.recent_approvals,
            recent_checkpoints: validator.recent_checkpoints,
            evidence_count: validator.evidence_count,
            is_this_node: validator.is_this_node,
        }
    }
}

pub(crate) async fn run(context: &Context, args: ValidatorsArgs) -> anyhow::Result<()> {
    let (client, chain, info) = context.connect_to_chain().await?;
    let listed = client.validators().await?;
    let heard = listed.validators.iter();
    let heard = heard.filter(|one| is_heard(one, &info)).count();
    let progress = FinalityProgress::of(&info);
    if context.json() {
        return context.out.json(&json(&info, &listed, heard));
    }
    if progress == FinalityProgress::NoValidators {
        return Ok(context.out.line(format!(
            "The network {} has no validators: its chain is plain proof of work, and nothing on it is ever approved or final.",
            info.network
        ))?);
    }
    let color = match progress {
        FinalityProgress::Advancing | FinalityProgress::NoValidators => GREEN,
        FinalityProgress::Waiting => YELLOW,
        FinalityProgress::Stopped => RED,
    };
    let count = info.parameters.unwrap_or_default().validator_count;
    let quorum = Quorum::new(count, listed.approval_quorum);
    let sentence = progress_sentence(progress, &info);
    context.out.fields(&[
        (
            "quorum",
            quorum.map_or_else(|error| error.to_string(), |quorum| quorum.to_string()),
        ),
        (
            "heard",
            format!(
                "{heard} of {count} voted for one of the last {CHECKPOINTS_HEARD} checkpoints or since the last that is approved"
            ),
        ),
        (
            "approved",
            height_and_lag(info.approved_height, info.approved_lag),
        ),
        ("final", height_and_lag(info.final_height, info.final_lag)),
        ("finality", context.out.paint(&[color], &sentence)),
    ])?;
    let names = context.names(&chain);
    let shown_name = match args.full {
        true => named,
        false => short_named,
    };
    let table = validator_table(&listed.validators, &info, |address| {
        shown_name(&names, address)
    })?;
    Ok(context.out.line(table)?)
}

fn json(
    info: &v1::GetChainInfoResponse,
    listed: &v1::ListValidatorsResponse,
    heard: usize,
) -> ValidatorsJson {
    let parameters = info.parameters.unwrap_or_default();
    ValidatorsJson {
        progress: FinalityProgress::of(info).name(),
        validator_count: parameters.validator_count,
        approval_quorum: listed.approval_quorum,
        checkpoint_interval: parameters.checkpoint_interval,
        heard,
        tip_height: info.tip.as_ref().map_or(0, |tip| tip.height),
        finality: info.into(),
        validators: listed.validators.iter().map(Into::into).collect(),
    }
}

/// The validators as a table, one a row.
fn validator_table(
    validators: &[v1::Validator],
    info: &v1::GetChainInfoResponse,
    shown_name: impl Fn(&str) -> String,
) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let columns = [
        Column::Right("#"),
        Column::Left("validator"),
        Column::Right("last approved"),
        Column::Right("seen"),
        Column::Right("of the last checkpoints"),
        Column::Right("evidence"),
        Column::Left(""),
    ];
    let rows = validators.iter().enumerate().map(|(index, validator)| {
        let mut row = vec![(index + 1).to_string(), shown_name(&validator.address)];
        row.extend(standing(validator, now, is_heard(validator, info)));
        row
    });
    Ok(table(&columns, rows))
}

/// Whether a validator voted lately: for one of the last checkpoints, or for any
/// checkpoint above the highest approved one. The second case counts while
/// finality waits and blocks come faster than votes.
fn is_heard(validator: &v1::Validator, info: &v1::GetChainInfoResponse) -> bool {
    let interval = info.parameters.unwrap_or_default().checkpoint_interval;
    let window = u64::from(interval.max(1)).saturating_mul(CHECKPOINTS_HEARD);
    let tip = info.tip.as_ref().map_or(0, |tip| tip.height);
    let vote = validator.last_approval.as_ref();
    vote.is_some_and(|vote| {
        vote.target_height.saturating_add(window) > tip || vote.target_height > info.approved_height
    })
}

/// The columns after a validator's address.
fn standing(validator: &v1::Validator, now: i64, heard: bool) -> [String; 5] {
    let vote = validator.last_approval.as_ref();
    let none = || "–".to_owned();
    [
        vote.map_or_else(|| "never".to_owned(), |vote| vote.target_height.to_string()),
        match &validator.last_approval_time {
            // Two clocks may differ a little.
            Some(time) if vote.is_some() => {
                format!("{} ago", duration((now - time.seconds).max(0)))
            }
            _ => none(),
        },
        match validator.recent_checkpoints {
            0 => none(),
            count => format!("{}/{count}", validator.recent_approvals),
        },
        validator.evidence_count.to_string(),
        match (validator.is_this_node, heard) {
            (true, true) => "this node",
            (true, false) => "this node, silent",
            (false, true) => "",
            (false, false) => "silent",
        }
        .to_owned(),
    ]
}
