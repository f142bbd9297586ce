//! A model of fork choice and finality (protocol §8 and §9), small enough to visit every state. It
//! shows what an adversary can do with late votes, under several rules of fork choice. It shares no
//! code with the node. Start reading at [`network`]; the verdicts are in `tests/verdicts.rs`.

pub mod cases;
pub mod explore;
pub mod network;
pub mod recovery;
pub mod rule;
pub mod tree;
pub mod votes;
