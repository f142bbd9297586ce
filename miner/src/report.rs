//! What the user sees on the terminal: one live line, or a report in the log every few
//! seconds, and the summary at the end. The counts come from `stats`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pithead_api::v1::SubmitOutcome;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing_subscriber::fmt::MakeWriter;

use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::outcome::{self, AnswerKind, OUTCOMES};
use crate::stats::{RateWindow, Stats, Summary};

/// The hash rate on the live line is the average over this time.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// The time between two drawings of the live line.
const LIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Moves the cursor to the start of the line and erases the line.
const CLEAR_LINE: &str = "\r\x1b[2K";
/// Makes the terminal cut the live line off at its edge. A wrapped line could not be
/// erased.
const NO_WRAP: &str = "\x1b[?7l";
/// Makes the terminal wrap lines again.
const WRAP: &str = "\x1b[?7h";

/// Standard error, shared by the log and the live line. A log event erases the live
/// line, writes itself, and draws the live line again below.
#[derive(Debug, Clone)]
pub struct Console {
    live: bool,
    line: Arc<Mutex<String>>,
}

impl Console {
    /// A console that shows a live line if standard error is a terminal and `quiet` is
    /// false.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self {
            live: !quiet && io::stderr().is_terminal(),
            line: Arc::default(),
        }
    }

    /// Whether this console shows a live line.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Draws the live line.
    pub fn show(&self, text: String) {
        if self.live {
            let mut line = self.lock();
            *line = format!("{NO_WRAP}{text}{WRAP}");
            self.write(format!("{CLEAR_LINE}{line}").as_bytes());
        }
    }

    /// Erases the live line until the next [`Console::show`].
    pub fn clear(&self) {
        if self.live {
            self.lock().clear();
            self.write(CLEAR_LINE.as_bytes());
        }
    }

    fn log(&self, event: &[u8]) {
        let line = self.lock();
        let mut out = Vec::with_capacity(event.len() + line.len() + 16);
        if !line.is_empty() {
            out.extend_from_slice(CLEAR_LINE.as_bytes());
        }
        out.extend_from_slice(event);
        out.extend_from_slice(line.as_bytes());
        self.write(&out);
    }

    fn write(&self, bytes: &[u8]) {
        // An error can't be reported: standard error itself is gone.
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(bytes);
        let _ = stderr.flush();
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects the parts of one log event and writes them together.
#[derive(Debug)]
pub struct EventWriter<'a> {
    console: &'a Console,
    event: Vec<u8>,
}

impl Write for EventWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.event.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventWriter<'_> {
    fn drop(&mut self) {
        self.console.log(&self.event);
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        EventWriter {
            console: self,
            event: Vec::new(),
        }
    }
}

/// Draws the live line, or logs reports, while the miner runs.
#[derive(Debug)]
pub struct Reporter {
    console: Console,
    stats: Arc<Stats>,
    board: Arc<WorkBoard>,
    node: watch::Receiver<Option<NodeAddress>>,
    log_interval: Option<Duration>,
}

impl Reporter {
    /// A reporter on these counts.
    ///
    /// On a console without a live line it logs a report every `log_interval`, or
    /// nothing if that is `None`.
    #[must_use]
    pub fn new(
        console: Console,
        stats: Arc<Stats>,
        board: Arc<WorkBoard>,
        node: watch::Receiver<Option<NodeAddress>>,
        log_interval: Option<Duration>,
    ) -> Self {
        Self {
            console,
            stats,
            board,
            node,
            log_interval,
        }
    }

    /// Reports until its task is aborted, which also erases the live line.
    pub async fn run(self) {
        let live = self.console.is_live();
        let period = match (live, self.log_interval) {
            (true, _) => LIVE_INTERVAL,
            (false, Some(interval)) => interval,
            (false, None) => return,
        };
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first tick comes at once, when there is nothing to report yet.
        ticks.tick().await;
        let mut window = RateWindow::new(RATE_WINDOW.max(period), Instant::now(), 0);
        let _eraser = LiveLineEraser(&self.console);
        loop {
            ticks.tick().await;
            let rate = window.rate(Instant::now(), self.stats.hashes());
            if live {
                self.console.show(self.live_line(rate));
            } else {
                self.log(rate);
            }
        }
    }

    fn live_line(&self, rate: f64) -> String {
        let mut line = si(rate, "H/s");
        match self.board.newest() {
            Some(work) => {
                let difficulty = si(work.difficulty(), "");
                let _ = write!(line, " | height {} | difficulty {difficulty}", work.height);
            }
            None => line.push_str(" | no work"),
        }
        let count = |kind| self.stats.kind(kind);
        let _ = write!(
            line,
            " | blocks {} | shares {} | stale {} | rejected {}",
            count(AnswerKind::Block),
            count(AnswerKind::Share),
            count(AnswerKind::Stale),
            count(AnswerKind::Rejected)
        );
        match &*self.node.borrow() {
            Some(node) => {
                let _ = write!(line, " | {node}");
            }
            None => line.push_str(" | not connected"),
        }
        line
    }

    fn log(&self, rate: f64) {
        let work = self.board.newest();
        let node = self.node.borrow().clone();
        tracing::info!(
            hash_rate = si(rate, "H/s"),
            height = work.as_ref().map(|work| work.height),
            difficulty = work.as_ref().map(|work| si(work.difficulty(), "")),
            blocks = self.stats.kind(AnswerKind::Block),
            shares = self.stats.kind(AnswerKind::Share),
            stale = self.stats.kind(AnswerKind::Stale),
            rejected = self.stats.kind(AnswerKind::Rejected),
            node = node.map_or_else(|| "not connected".to_owned(), |node| node.to_string()),
            "report"
        );
    }
}

/// Erases the live line when the reporter's task ends.
struct LiveLineEraser<'a>(&'a Console);

impl Drop for LiveLineEraser<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// The summary at the end, as text for people.
#[must_use]
pub fn summary_text(summary: &Summary) -> String {
    let mut text = format!(
        "mined for {:.1} s: {} hashes, {} on average\n\
         blocks accepted {}, shares accepted {}, stale {}, rejected {}",
        summary.seconds,
        summary.hashes,
        si(summary.hash_rate, "H/s"),
        summary.accepted_blocks,
        summary.accepted_shares,
        summary.stale,
        summary.rejected,
    );
    for outcome in OUTCOMES {
        // The second line of the summary has these two counts already.
        let shown = matches!(
            outcome,
            SubmitOutcome::AcceptedBlock | SubmitOutcome::AcceptedShare
        );
        if let (false, Some(count)) = (shown, summary.outcomes.get(outcome::name(outcome))) {
            let _ = write!(text, "\n  {count} × {}", outcome::explain(outcome));
        }
    }
    if summary.failed > 0 {
        let _ = write!(text, "\n  {} × the node could not judge", summary.failed);
    }
    if summary.lost > 0 {
        let _ = write!(
            text,
            "\n  {} × never judged: queue full, node gone, or end of the run",
            summary.lost
        );
    }
    let _ = write!(
        text,
        "\n{} pieces of work over {} connections",
        summary.work_items, summary.connections
    );
    if let Some(times) = summary.first_hash_ms {
        let _ = write!(
            text,
            "; first hash {:.1} ms after new work, {:.1} ms for 99 of 100",
            times.p50, times.p99
        );
    }
    if let Some(times) = summary.last_worker_ms {
        let _ = write!(
            text,
            "; every thread on it after {:.1} ms, {:.1} ms for 99 of 100",
            times.p50, times.p99
        );
    }
    text
}

/// A quantity with two decimals and an SI prefix, such as `12.34 MH/s`.
#[must_use]
pub fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut prefixes = PREFIXES.iter();
    let mut prefix = prefixes.next();
    while value >= 999.995 {
        let Some(next) = prefixes.next() else { break };
        value /= 1_000.0;
        prefix = Some(next);
    }
    let text = format!("{value:.2} {}{unit}", prefix.unwrap_or(&""));
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_keep_three_digits() {
        for (value, text) in [
            (0.0, "0.00 H/s"),
            (999.99, "999.99 H/s"),
            (999.999, "1.00 kH/s"),
            (12_340_000.0, "12.34 MH/s"),
            (1e30, "1000000000000.00 EH/s"),
        ] {
            assert_eq!(si(value, "H/s"), text);
        }
        assert_eq!(si(4_295_032_833.0, ""), "4.30 G");
    }

    #[test]
    fn the_summary_names_every_kind_of_answer_that_came() {
        let stats = Stats::new(1);
        for outcome in OUTCOMES {
            stats.count_outcome(outcome);
        }
        stats.count_lost();
        stats.count_failed();
        let text = summary_text(&stats.summary());
        for outcome in OUTCOMES {
            let counted_above = matches!(
                outcome,
                SubmitOutcome::AcceptedBlock | SubmitOutcome::AcceptedShare
            );
            assert_eq!(
                text.contains(outcome::explain(outcome)),
                !counted_above,
                "{text}"
            );
        }
        assert!(text.contains("never judged") && text.contains("could not judge"));
    }
}
