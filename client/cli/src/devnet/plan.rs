//! What a devnet consists of. For a new network the command line decides. For a
//! network that goes on its genesis does, and the command line must not
//! contradict it.

use anyhow::Result;
use pithead_client::Quorum;
use pithead_consensus::genesis::GenesisFile;

use super::args::DevnetArgs;
use crate::terminal::report::UsageError;

/// The processes and the quorum of a devnet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Number of node processes; the first ones are validators.
    pub(super) nodes: u32,
    /// Number of miner processes.
    pub(super) miners: u32,
    /// Number of blocks to mine after the payments.
    pub(super) blocks: u64,
    /// How many validators there are and how many must approve a block; `None`
    /// without validators.
    pub(super) quorum: Option<Quorum>,
}

impl Plan {
    /// Reads the plan from the command line and, for a network that goes on, from
    /// its genesis `kept`. Refuses a plan that can't work.
    pub(super) fn of(args: &DevnetArgs, kept: Option<&GenesisFile>) -> Result<Self> {
        let quorum = match kept {
            None => new_quorum(args)?,
            Some(genesis) => kept_quorum(args, genesis)?,
        };
        let validators = quorum.map_or(0, Quorum::validators);
        let nodes = args.nodes.unwrap_or(validators.max(1));
        if validators > nodes {
            return Err(UsageError(format!(
                "{validators} validators need as many nodes, each votes with a key of its own, but --nodes is {nodes}: give --nodes {validators} or more{}",
                if kept.is_none() {
                    ", or fewer --validators"
                } else {
                    ""
                }
            ))
            .into());
        }
        Ok(Self {
            nodes,
            miners: args.miners,
            blocks: args.blocks,
            quorum,
        })
    }

    /// Number of validators: nodes 1 to this one vote.
    pub(super) fn validators(&self) -> u32 {
        self.quorum.map_or(0, Quorum::validators)
    }
}

/// The quorum that the command line asks for.
fn new_quorum(args: &DevnetArgs) -> Result<Option<Quorum>> {
    let validators = args.validators.unwrap_or(0);
    let Some(quorum) = args.quorum else {
        return Ok(Quorum::default_of(validators));
    };
    match Quorum::new(validators, quorum) {
        Ok(quorum) => Ok(Some(quorum)),
        Err(error) => Err(UsageError(format!("--quorum: {error}")).into()),
    }
}

/// The quorum of the genesis. Refuses a command line that asks for another one.
fn kept_quorum(args: &DevnetArgs, genesis: &GenesisFile) -> Result<Option<Quorum>> {
    let validators = u32::try_from(genesis.validators.len())?;
    let fixed = [
        ("--validators", args.validators, validators),
        ("--quorum", args.quorum, genesis.approval_quorum),
    ];
    for (flag, asked, found) in fixed {
        if asked.is_some_and(|asked| asked != found) {
            return Err(UsageError(format!(
                "{flag} is {found} in the genesis of the network in this folder, and can't change: leave it out, or name a new folder"
            ))
            .into());
        }
    }
    // Without validators this is an error, and there is no quorum. With validators
    // the quorum is safe: nodes refuse a genesis in which it is not.
    Ok(Quorum::new(validators, genesis.approval_quorum).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(nodes: Option<u32>, validators: Option<u32>, quorum: Option<u32>) -> DevnetArgs {
        DevnetArgs {
            nodes,
            miners: 2,
            validators,
            quorum,
            blocks: 3,
            exit: true,
            data_dir: None,
            port: None,
        }
    }

    fn refused(args: &DevnetArgs, kept: Option<&GenesisFile>) -> String {
        let error = Plan::of(args, kept).unwrap_err();
        assert!(error.is::<UsageError>());
        error.to_string()
    }

    #[test]
    fn a_new_network_is_what_the_command_line_says() {
        let plan = Plan::of(&args(None, None, None), None).unwrap();
        assert_eq!((plan.nodes, plan.validators()), (1, 0));
        let plan = Plan::of(&args(None, Some(25), None), None).unwrap();
        assert_eq!((plan.nodes, plan.quorum.unwrap().get()), (25, 20));
        let plan = Plan::of(&args(Some(6), Some(4), Some(4)), None).unwrap();
        assert_eq!((plan.nodes, plan.quorum.unwrap().get()), (6, 4));
        let text = refused(&args(Some(4), Some(25), None), None);
        assert!(text.contains("25 validators need as many nodes"), "{text}");
        assert!(text.contains("--nodes 25"), "{text}");
        let text = refused(&args(Some(25), Some(25), Some(16)), None);
        assert!(text.contains("least safe quorum is 17"), "{text}");
        refused(&args(Some(1), None, Some(1)), None);
    }

    #[test]
    fn a_network_that_goes_on_keeps_its_validators() {
        let kept = GenesisFile {
            approval_quorum: 3,
            validators: (0..4)
                .map(|_| pithead_consensus::genesis::ValidatorEntry {
                    address: String::new(),
                    public_key: String::new(),
                })
                .collect(),
            ..pithead_consensus::genesis::Network::Dev.genesis_file()
        };
        let plan = Plan::of(&args(None, None, None), Some(&kept)).unwrap();
        assert_eq!((plan.nodes, plan.validators()), (4, 4));
        Plan::of(&args(Some(5), Some(4), Some(3)), Some(&kept)).unwrap();
        for (nodes, validators, quorum) in [
            (Some(3), None, None),
            (Some(9), Some(5), None),
            (None, None, Some(4)),
        ] {
            refused(&args(nodes, validators, quorum), Some(&kept));
        }
    }
}
