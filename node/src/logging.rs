//! The log: for people or as JSON lines, on standard error, with a filter that can be changed while
//! the node runs.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt as log_fmt, reload};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, with colours on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up or changed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("log filter {filter:?}: {reason}")]
    BadFilter {
        /// The beginning of the filter.
        filter: String,
        reason: String,
    },
    /// The process logs already, or its log was closed.
    #[error("logging: {0}")]
    Setup(String),
}

/// The crates of the program besides `pithead_node`. A filter that names `pithead_node` means them,
/// too: a user knows the program, not its parts.
const PARTS: [&str; 4] = [
    "pithead_core",
    "pithead_engine",
    "pithead_p2p",
    "pithead_rpc",
];

/// Keeps the warnings of the gossip library out of the log, unless the filter names libp2p.
const GOSSIP_ERRORS: &str = "libp2p_gossipsub=error";

type SetFilter = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// Changes the filter of the running log. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    set: Arc<SetFilter>,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Sets the filter, such as `info,pithead_node=debug`.
    ///
    /// # Errors
    /// [`LogError::BadFilter`] says what is wrong with it.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        (self.set)(parse(filter)?).map_err(LogError::Setup)
    }
}

/// Starts logging.
///
/// # Errors
/// [`LogError`] if the filter is malformed or logging runs already.
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => registry
            .with(
                log_fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                log_fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    }
    .map_err(|error| LogError::Setup(error.to_string()))?;
    let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    Ok(LogHandle { set: Arc::new(set) })
}

/// Whether [`init`] would take this filter.
///
/// # Errors
/// [`LogError::BadFilter`] says what is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// The filter with a copy of each directive on `pithead_node` for every other crate of the program.
/// A crate that the filter names itself keeps its own level. Example: `info,pithead_node=debug`
/// becomes `info,pithead_node=debug,pithead_core=debug,` and so on.
fn with_parts(filter: &str) -> String {
    let mut directives: Vec<String> = filter.split(',').map(str::to_owned).collect();
    for directive in filter.split(',') {
        let Some(rest) = directive.trim().strip_prefix("pithead_node") else {
            continue;
        };
        if !(rest.is_empty() || rest.starts_with('=') || rest.starts_with('[')) {
            continue;
        }
        let unnamed = PARTS.iter().filter(|part| !filter.contains(**part));
        directives.extend(unnamed.map(|part| format!("{part}{rest}")));
    }
    directives.join(",")
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::builder()
        .parse(with_parts(filter))
        .map_err(|error| LogError::BadFilter {
            filter: filter.chars().take(200).collect(),
            reason: error.to_string(),
        })?;
    // The gossip library warns of every message that comes again. That is normal here: when a node
    // asks its peers for approvals, it gets some of them again.
    match (filter.contains("libp2p"), GOSSIP_ERRORS.parse()) {
        (false, Ok(directive)) => Ok(parsed.add_directive(directive)),
        _ => Ok(parsed),
    }
}
