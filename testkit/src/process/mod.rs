//! Real `pithead-node` processes for tests, on networks whose blocks take two hashes, and what
//! tests ask them. Start with [`Network`] and [`TestNode::start`].

pub mod reference;

mod answers;
mod network;
mod node;
mod program;
mod requests;
mod wait;

pub use answers::{end_of, next, reason, violated_field};
pub use network::{Network, now};
pub use node::{AuthorizedChannel, ShownToken, TestNode};
pub use program::{
    PATIENCE, bare_node_command, built, data_dir, failure_of, node_command, program, run_to_end,
    signal, verify,
};
pub use wait::until_settled;
