//! Nodes and validators that lie: what they send, and to whom.
//!
//! Lying nodes lie to their peers in gossip and responses. Lying validators lie by their
//! votes; the nodes that they run on are honest. Whether honest nodes withstand is not
//! judged here but in `checks`. Start reading at [`peers`] or at [`validators`].

pub(crate) mod alterations;
pub(crate) mod finality_claims;
pub(crate) mod floods;
pub(crate) mod peers;
pub(crate) mod validators;
