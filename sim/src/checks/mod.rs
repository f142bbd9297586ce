//! What must hold in every run.
//!
//! Checks look at nodes and compare them with `model`. They never change a node. Start
//! reading at [`network`], whose inspections look at all nodes every half minute; the
//! checks of single events are called by `shell`.

pub(crate) mod costs;
pub(crate) mod depth;
pub(crate) mod final_blocks;
pub(crate) mod limits;
pub(crate) mod liveness;
pub(crate) mod network;
pub(crate) mod oracle;
pub(crate) mod replay;
pub(crate) mod votes;
