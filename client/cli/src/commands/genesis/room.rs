//! Whether a new network leaves room for the money that its blocks will issue. Nodes run without it,
//! because what an account has no room for is burnt (protocol §5), but nobody wants to lose a reward
//! to that. Start reading at [`check`].

use anyhow::bail;
use pithead_consensus::Amount;
use pithead_consensus::genesis::{Genesis, GenesisFile};
use pithead_consensus::subsidy::subsidy;

use crate::terminal::words::counted;

/// How long the blocks of a new network must be able to issue money: a year.
const ROOM_SECS: u32 = 31_536_000;

/// Refuses a genesis whose allocations and first year of subsidies exceed [`Amount::MAX_MONEY`].
pub(super) fn check(file: &GenesisFile, genesis: &Genesis) -> anyhow::Result<()> {
    let allocated = genesis.allocations.values();
    let allocated: u128 = allocated.map(|each| u128::from(each.grains())).sum();
    let issued: Vec<Issued> = first_year(file);
    let subsidies: u128 = issued.iter().map(Issued::grains).sum();
    let most = u128::from(Amount::MAX_MONEY.grains());
    if allocated + subsidies <= most {
        return Ok(());
    }
    let terms: Vec<String> = issued.iter().map(Issued::to_string).collect();
    bail!(
        "the allocations leave no room for the first year's subsidies: {} PIT allocated + {} = {} PIT, at most {} PIT; allocate less, or choose a longer --block-interval-secs",
        pit(allocated),
        terms.join(" + "),
        pit(allocated + subsidies),
        pit(most),
    )
}

/// Blocks of one subsidy.
struct Issued {
    blocks: u32,
    each: Amount,
}

impl Issued {
    fn grains(&self) -> u128 {
        u128::from(self.blocks) * u128::from(self.each.grains())
    }
}

impl std::fmt::Display for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} × {} PIT",
            counted(u64::from(self.blocks), "block"),
            self.each
        )
    }
}

/// The blocks of a network's first year, on time, by their subsidies: one or two.
fn first_year(file: &GenesisFile) -> Vec<Issued> {
    let blocks = ROOM_SECS / file.block_interval_secs.max(1);
    let time = |index: u32| {
        file.time
            .saturating_add(index.saturating_mul(file.block_interval_secs))
    };
    // The first block whose subsidy is another.
    let (mut low, mut high) = (0, blocks);
    while low < high {
        let middle = low + (high - low) / 2;
        if subsidy(time(middle)) == subsidy(file.time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let parts = [(low, file.time), (blocks - low, time(low))];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts
        .map(|(blocks, parent_time)| Issued {
            blocks,
            each: subsidy(parent_time),
        })
        .collect()
}

/// Grains as PIT, without decimals that are zero.
fn pit(grains: u128) -> String {
    let one = u128::from(pithead_consensus::amount::GRAINS_PER_PIT);
    match (grains / one, grains % one) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:08}"),
    }
}
