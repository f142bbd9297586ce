//! What the simulation knows of a run by itself: the chain as it must be, the rules that
//! votes must keep, and its own notes, counts and digest.
//!
//! Nothing here looks at a node's state. Start reading at [`chain`], with which all nodes
//! are compared.

pub(crate) mod chain;
pub(crate) mod oracle;
pub(crate) mod vote_rules;

pub(crate) mod counters;
pub(crate) mod digest;
pub(crate) mod monitor;
