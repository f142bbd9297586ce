//! The command `pithead-sim`: runs a simulated network and prints its results.
//!
//! It turns the command line into settings and a report into text; all else is in the
//! library. Start reading at [`main`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use pithead_sim::{
    AdversaryKind, Deceit, InjectedFault, Report, RunError, Scenario, SimSettings, run, svg,
};

/// Runs hundreds of Pithead nodes under a virtual clock and on a seeded network, checks
/// what must hold, and prints the results.
#[derive(Debug, Parser)]
#[command(name = "pithead-sim", version)]
struct SimArguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Length of the run in virtual hours.
    #[arg(long, default_value_t = 6.0)]
    hours: f64,
    /// Length of the run in virtual seconds, instead of --hours.
    #[arg(long, conflicts_with = "hours")]
    secs: Option<u64>,
    /// Seed of the run; without it, the current time is the seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Kind of trouble that the nodes meet.
    #[arg(long, value_enum, default_value_t = Scenario::Calm)]
    scenario: Scenario,
    /// Target time between two blocks; by default that of the main network.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    interval: u32,
    /// Number of outbound connections that each node keeps up.
    #[arg(long, default_value_t = 4)]
    dials: usize,
    /// Number of nodes that mine; by default an eighth of all, but at least 2 and at most
    /// 25.
    #[arg(long)]
    miners: Option<usize>,
    /// Payments an hour in the whole network.
    #[arg(long, default_value_t = 60.0)]
    payments: f64,
    /// Depth at which the chains of all honest nodes must agree.
    #[arg(long, default_value_t = 12, value_name = "BLOCKS")]
    agreed_depth: u64,
    /// Number of validators, at most 25; they run on the first nodes.
    #[arg(long, default_value_t = 0)]
    validators: usize,
    /// Number of validators that lie, the first ones: they vote on every branch.
    #[arg(long, default_value_t = 0)]
    equivocators: usize,
    /// Way in which the lying validators lie; by default drawn for each of them.
    #[arg(long, value_enum)]
    deceit: Option<Deceit>,
    /// Who attacks the network with a plan. Without --validators, the network is one of 8 nodes with 7
    /// validators, of which 5 make a certificate, for 900 virtual seconds or --secs.
    #[arg(long, value_enum)]
    adversary: Option<AdversaryKind>,
    /// Number of validators whose votes the adversary holds, the first ones.
    #[arg(long, default_value_t = 0)]
    late: usize,
    /// Number of approvals that make a certificate; by default four fifths of the validators.
    #[arg(long)]
    quorum: Option<usize>,
    /// Takes the number of lying validators from the seed, at most --equivocators.
    #[arg(long)]
    draw_equivocators: bool,
    /// Number of validators that do not vote for a while, the last ones.
    #[arg(long, default_value_t = 0)]
    silent: usize,
    /// When the silent validators stop voting, in virtual seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    silent_from: u64,
    /// When the silent validators vote again; by default after half of the run.
    #[arg(long, value_name = "SECONDS")]
    silent_until: Option<u64>,
    /// In scenarios with splits: one long split, up to half of the run, instead of two
    /// short ones.
    #[arg(long)]
    long_splits: bool,
    /// Number of blocks from one checkpoint to the next.
    #[arg(long, default_value_t = 10, value_name = "BLOCKS")]
    checkpoint_interval: u32,
    /// Number of runs, with consecutive seeds; prints one line for all of them.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Writes a plot of the run to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Prints the results as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Injects a fault, which the simulation has to find.
    #[arg(long, value_enum, hide = true)]
    plant: Option<InjectedFault>,
}

impl SimArguments {
    fn settings(&self, seed: u64) -> SimSettings {
        if let (Some(adversary), 0) = (self.adversary, self.validators) {
            let attacked = SimSettings::attacked(seed, adversary);
            return SimSettings {
                secs: self.secs.unwrap_or(attacked.secs),
                fault: self.plant,
                ..attacked
            };
        }
        let secs = self.secs.unwrap_or((self.hours * 3_600.0) as u64);
        let equivocators = if self.draw_equivocators {
            usize::try_from(seed).unwrap_or_default() % (self.equivocators + 1)
        } else {
            self.equivocators
        };
        let defaults = SimSettings::new(seed, self.nodes, secs, self.scenario);
        SimSettings {
            interval_secs: self.interval,
            dials: self.dials,
            miners: self.miners.unwrap_or(defaults.miners),
            payments_per_hour: self.payments,
            agreed_depth: self.agreed_depth,
            validators: self.validators,
            equivocators,
            deceit: self.deceit,
            adversary: self.adversary,
            late: self.late,
            approvals_needed: self.quorum,
            silent: self.silent,
            silence_secs: (
                self.silent_from,
                self.silent_until.unwrap_or(defaults.silence_secs.1),
            ),
            long_splits: self.long_splits,
            checkpoint_interval: self.checkpoint_interval,
            fault: self.plant,
            ..defaults
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = SimArguments::parse();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let drawn = clock.map_or(0, |since| since.as_micros() as u64);
    let seed = arguments.seed.unwrap_or(drawn);
    if arguments.seeds > 1 {
        run_many(&arguments, seed)
    } else {
        run_one(&arguments, seed)
    }
}

/// Runs one network. Its command is printed before, so that even a run that hangs can be
/// repeated. Returns `None` after a violation, which is printed.
fn run_and_print_violation(settings: SimSettings) -> Result<Option<Report>> {
    eprintln!("{}", settings.command());
    match run(settings) {
        Ok(report) => Ok(Some(report)),
        Err(RunError::Violation(violation)) => {
            eprintln!("FOUND: {violation}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn run_one(arguments: &SimArguments, seed: u64) -> Result<ExitCode> {
    let started = Instant::now();
    let Some(report) = run_and_print_violation(arguments.settings(seed))? else {
        return Ok(ExitCode::FAILURE);
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    eprintln!("{:.1} s", started.elapsed().as_secs_f64());
    if let Some(path) = &arguments.svg {
        std::fs::write(path, svg(&report))
            .with_context(|| format!("writing the plot to {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs many seeds, up to the first violation.
fn run_many(arguments: &SimArguments, first: u64) -> Result<ExitCode> {
    let started = Instant::now();
    let (mut blocks, mut final_blocks, mut conflicts) = (0, 0, 0);
    let (mut lies, mut pairs, mut crashes) = (0, 0, 0);
    // The deepest reorganisation, and the seed that it came with.
    let mut deepest = (0, first);
    for seed in first..first.saturating_add(arguments.seeds) {
        let Some(report) = run_and_print_violation(arguments.settings(seed))? else {
            return Ok(ExitCode::FAILURE);
        };
        blocks += report.blocks_found;
        conflicts += u64::from(report.finality_conflicts > 0);
        lies += report.double_votes;
        pairs += report.contradictions;
        crashes += report.crashes;
        final_blocks += report.final_height;
        if report.deepest_reorganisation > deepest.0 {
            deepest = (report.deepest_reorganisation, seed);
        }
    }
    println!(
        "deepest reorganisation: {} blocks (seed {})",
        deepest.0, deepest.1
    );
    println!(
        "{} runs, {blocks} blocks, {final_blocks} final, {crashes} crashes, {lies} votes by liars, {pairs} pairs of them that break a rule: \
         every check held; {conflicts} runs with conflicting certificates; {:.0} s",
        arguments.seeds,
        started.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}
