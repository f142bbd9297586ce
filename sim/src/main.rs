//! `pithead-sim`: runs a simulated network and prints what came of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use pithead_sim::{Deceit, Plant, RunError, Scenario, Settings, run, svg};

/// Runs hundreds of Pithead nodes under a virtual clock and a seeded network,
/// checks what must hold, and prints figures.
#[derive(Debug, Parser)]
#[command(name = "pithead-sim", version)]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Virtual hours.
    #[arg(long, default_value_t = 6.0)]
    hours: f64,
    /// Virtual seconds, instead of hours.
    #[arg(long, conflicts_with = "hours")]
    secs: Option<u64>,
    /// The run's seed; drawn from the clock if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// What happens to the nodes.
    #[arg(long, value_enum, default_value_t = Scenario::Calm)]
    scenario: Scenario,
    /// Seconds between blocks; the main network's by default.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    interval: u32,
    /// Connections that each node makes.
    #[arg(long, default_value_t = 4)]
    dials: usize,
    /// Nodes that mine; an eighth of all, at most 25, by default.
    #[arg(long)]
    miners: Option<usize>,
    /// Payments an hour in the whole network.
    #[arg(long, default_value_t = 60.0)]
    payments: f64,
    /// Blocks below which no two nodes may disagree.
    #[arg(long, default_value_t = 12, value_name = "BLOCKS")]
    agreed_depth: u64,
    /// Validators: the first nodes, 25 at most.
    #[arg(long, default_value_t = 0)]
    validators: usize,
    /// The first of them vote for every checkpoint of every branch.
    #[arg(long, default_value_t = 0)]
    equivocators: usize,
    /// How they lie; by default each as the seed has it.
    #[arg(long, value_enum)]
    deceit: Option<Deceit>,
    /// Draws their number for each seed instead, up to that of --equivocators.
    #[arg(long)]
    draw_equivocators: bool,
    /// The last of them do not vote for a while.
    #[arg(long, default_value_t = 0)]
    silent: usize,
    /// From when on those do not vote, virtual seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    silent_from: u64,
    /// When they come back; half of the time by default.
    #[arg(long, value_name = "SECONDS")]
    silent_until: Option<u64>,
    /// Instead of two short splits, where there are any, one that may last for half of
    /// the time.
    #[arg(long)]
    long_splits: bool,
    /// Every how many blocks there is a checkpoint.
    #[arg(long, default_value_t = 10, value_name = "BLOCKS")]
    checkpoint_interval: u32,
    /// Runs so many seeds, from --seed on, and prints one line for all of them.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Writes a plot.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Plants a fault, which the simulation has to find.
    #[arg(long, value_enum, hide = true)]
    plant: Option<Plant>,
}

impl Arguments {
    fn settings(&self, seed: u64) -> Settings {
        let secs = self.secs.unwrap_or((self.hours * 3_600.0) as u64);
        let equivocators = if self.draw_equivocators {
            usize::try_from(seed).unwrap_or_default() % (self.equivocators + 1)
        } else {
            self.equivocators
        };
        let defaults = Settings::new(seed, self.nodes, secs, self.scenario);
        Settings {
            interval_secs: self.interval,
            dials: self.dials,
            miners: self.miners.unwrap_or(defaults.miners),
            payments_per_hour: self.payments,
            agreed_depth: self.agreed_depth,
            validators: self.validators,
            equivocators,
            deceit: self.deceit,
            silent: self.silent,
            silence_secs: (
                self.silent_from,
                self.silent_until.unwrap_or(defaults.silence_secs.1),
            ),
            long_splits: self.long_splits,
            checkpoint_interval: self.checkpoint_interval,
            plant: self.plant,
            ..defaults
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let drawn = clock.map_or(0, |since| since.as_micros() as u64);
    let seed = arguments.seed.unwrap_or(drawn);
    if arguments.seeds > 1 {
        return run_many(&arguments, seed);
    }
    let started = Instant::now();
    eprintln!("{}", arguments.settings(seed).command());
    let report = match run(arguments.settings(seed)) {
        Ok(report) => report,
        Err(RunError::Violation(violation)) => {
            eprintln!("FOUND: {violation}");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    eprintln!("{:.1} s", started.elapsed().as_secs_f64());
    if let Some(path) = &arguments.svg {
        std::fs::write(path, svg(&report))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs many seeds; the first fault ends it.
fn run_many(arguments: &Arguments, first: u64) -> Result<ExitCode> {
    let started = Instant::now();
    let (mut blocks, mut final_blocks, mut conflicts) = (0, 0, 0);
    let (mut lies, mut pairs, mut crashes) = (0, 0, 0);
    for seed in first..first.saturating_add(arguments.seeds) {
        let settings = arguments.settings(seed);
        // Before the run: it may never end.
        eprintln!("{}", settings.command());
        match run(settings) {
            Ok(report) => {
                blocks += report.blocks_found;
                conflicts += u64::from(report.finality_conflicts > 0);
                lies += report.double_votes;
                pairs += report.contradictions;
                crashes += report.crashes;
                final_blocks += report.final_height;
            }
            Err(RunError::Violation(violation)) => {
                eprintln!("FOUND: {violation}");
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!(
        "{} runs, {blocks} blocks, {final_blocks} final, {crashes} crashes, {lies} votes by liars, {pairs} pairs of them that break a rule: \
         every check held; {conflicts} runs with conflicting certificates; {:.0} s",
        arguments.seeds,
        started.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}
