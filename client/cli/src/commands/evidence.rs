//! `pithead evidence`: proofs that validators broke the rules, checked here,
//! and saved for others to check.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use pithead_api::v1;
use pithead_client::key_file::write_public_file;
use pithead_client::{ChainIdentity, EvidenceProblem, FinalityProgress, SavedProof, evidence};
use pithead_consensus::hash::tagged;
use serde::Serialize;

use super::context::Context;
use super::files;
use super::names::short_named;
use crate::terminal::output::{Column, GREEN, RED, note, table};
use crate::terminal::words::{counted, iso, iso_option};

/// Largest proof that is read: two certificates of a thousand validators each
/// have 1.2 MB in hex.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Arguments of `evidence`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvidenceArgs {
    #[command(subcommand)]
    command: Option<EvidenceCommand>,
    /// Save each proof as a file of this folder; existing files stay as they are.
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Subcommands of `evidence`.
#[derive(Debug, Subcommand)]
enum EvidenceCommand {
    /// Check saved proofs against a genesis file, without any node; status 1 if one does not hold.
    Check {
        /// The network's genesis file.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// Files with proofs, as `--out` saves them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A proof and the outcome of checking it here.
#[derive(Debug, Serialize)]
struct CheckedJson {
    #[serde(flatten)]
    proof: SavedProof,
    holds: bool,
    problem: Option<String>,
}

pub(crate) async fn run(context: &Context, args: EvidenceArgs) -> anyhow::Result<()> {
    if let Some(EvidenceCommand::Check { genesis, files }) = &args.command {
        return check_files(context, genesis, files);
    }
    let (client, chain, info) = context.connect_to_chain().await?;
    let proofs = client.evidence().await?;
    let listed = client.validators().await?;
    let parameters = info.parameters.unwrap_or_default();
    let validators = evidence::validators_of(&chain, &parameters, &listed);
    let checked: Vec<Result<(), EvidenceProblem>> = proofs
        .iter()
        .map(|proof| match &validators {
            Ok(validators) => evidence::check(proof, validators, &chain.prefix),
            Err(problem) => Err(problem.clone()),
        })
        .collect();
    let saved = match &args.out {
        Some(folder) => Some(save(folder, &proofs, &chain)?),
        None => None,
    };
    if context.json() {
        let proofs = proofs
            .iter()
            .zip(&checked)
            .map(|(proof, checked)| CheckedJson {
                proof: saved_proof(proof, &chain),
                holds: checked.is_ok(),
                problem: checked.as_ref().err().map(ToString::to_string),
            });
        return context.out.json(&serde_json::json!({
            "network": chain.network,
            "genesis_hash": chain.genesis_hash.to_string(),
            "finality_conflict": info.finality_conflict,
            "evidence": proofs.collect::<Vec<_>>(),
            "saved": saved,
        }));
    }
    if proofs.is_empty() {
        return Ok(context.out.line(match FinalityProgress::of(&info) {
            FinalityProgress::NoValidators => format!(
                "The network {} has no validators, so there is no evidence against any.",
                info.network
            ),
            _ => "No evidence: this node knows of no validator that broke a rule.".to_owned(),
        })?);
    }
    print(context, &chain, &proofs, &checked)?;
    if let (Some(saved), Some(folder)) = (saved, &args.out) {
        note(format!(
            "{} in {}",
            counted(saved.len() as u64, "proof"),
            folder.display()
        ));
    }
    Ok(())
}

fn saved_proof(proof: &v1::Evidence, chain: &ChainIdentity) -> SavedProof {
    SavedProof::new(proof, chain, iso_option(proof.seen_time.as_ref()))
}

/// Checks saved proofs against a genesis file; asks no node.
fn check_files(context: &Context, genesis: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let (_, genesis) = super::genesis::read(genesis)?;
    let mut results = Vec::with_capacity(files.len());
    for path in files {
        let proof = read_proof(path)?;
        let problem = proof.check(&genesis).err().map(|error| error.to_string());
        if !context.json() {
            let out = context.out;
            let verdict = match &problem {
                None => out.paint(&[GREEN], "it holds"),
                Some(problem) => out.paint(&[RED], problem),
            };
            out.line(format!("{}: {}: {verdict}", path.display(), proof.kind))?;
        }
        results.push(CheckedJson {
            proof,
            holds: problem.is_none(),
            problem,
        });
    }
    if context.json() {
        context.out.json(&results)?;
    }
    let bad = results.iter().filter(|result| !result.holds).count();
    anyhow::ensure!(
        bad == 0,
        "{} not hold",
        match bad {
            1 => "1 proof does".to_owned(),
            _ => format!("{bad} proofs do"),
        }
    );
    Ok(())
}

fn read_proof(path: &Path) -> anyhow::Result<SavedProof> {
    let text = files::read_text(path, FILE_BYTES_MAX, "a proof")?;
    serde_json::from_str(&text).map_err(|error| {
        let what = format!("it is no proof as `pithead evidence --out` writes one: {error}");
        files::failed(path, what)
    })
}

fn print(
    context: &Context,
    chain: &ChainIdentity,
    proofs: &[v1::Evidence],
    checked: &[Result<(), EvidenceProblem>],
) -> anyhow::Result<()> {
    let names = context.names(chain);
    let out = context.out;
    let columns = [
        Column::Right("#"),
        Column::Left("what"),
        Column::Left("who"),
        Column::Left("heights"),
        Column::Left("seen"),
        Column::Left("checked here"),
    ];
    let rows = proofs.iter().zip(checked).enumerate();
    let rows = rows.map(|(index, (proof, checked))| {
        let who = match proof.validators.as_slice() {
            [one] => short_named(&names, one),
            all => counted(all.len() as u64, "validator"),
        };
        let heights = match (proof.first_target_height, proof.second_target_height) {
            (first, second) if first == second => first.to_string(),
            (first, second) => format!("{first} and {second}"),
        };
        vec![
            (index + 1).to_string(),
            sentence(proof.kind()).to_owned(),
            who,
            heights,
            iso(proof.seen_time.as_ref()),
            match checked {
                Ok(()) => out.paint(&[GREEN], "it holds"),
                Err(problem) => out.paint(&[RED], &problem.to_string()),
            },
        ]
    });
    Ok(out.line(table(&columns, rows))?)
}

fn sentence(kind: v1::EvidenceKind) -> &'static str {
    match kind {
        v1::EvidenceKind::Unspecified => "unknown",
        v1::EvidenceKind::DoubleVote => "two votes for one height",
        v1::EvidenceKind::SurroundVote => "a vote that surrounds another",
        v1::EvidenceKind::ConflictingCertificates => "two certificates that conflict",
    }
}

/// Writes each proof to a file whose name is derived from its content, so that
/// saving again adds only new proofs. Returns the paths of all.
fn save(
    folder: &Path,
    proofs: &[v1::Evidence],
    chain: &ChainIdentity,
) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut paths = Vec::with_capacity(proofs.len());
    for proof in proofs {
        let content = [&proof.first[..], &proof.second[..]].concat();
        let digest = hex::encode(tagged("pithead/evidence-file", &content));
        let name = format!(
            "{}-{}-{}.json",
            evidence::kind_name(proof.kind()),
            proof.second_target_height,
            digest.get(..12).unwrap_or(&digest)
        );
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(&saved_proof(proof, chain))?;
        match write_public_file(&path, format!("{text}\n").as_bytes()) {
            Err(error) if error.is_already_there() => {}
            written => written?,
        }
        paths.push(path.display().to_string());
    }
    Ok(paths)
}
