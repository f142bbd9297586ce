//! The integration tests of the miner, as one program. Each module has one concern:
//!
//! - `kernels`: the kernels against consensus and real headers;
//! - `work`: the messages of a node, and the headers that come of them;
//! - `workers`: the threads, with kernels that watch how they are called;
//! - `process`: the real program against fake nodes (`fake_node`).

#![allow(clippy::unwrap_used)]

use std::time::Duration;

mod fake_node;
mod kernels;
#[cfg(unix)]
mod process;
mod work;
mod workers;

/// How long a test waits for an event before it fails. Test machines are busy, so this is
/// far more than any event takes.
const PATIENCE: Duration = Duration::from_secs(60);
