//! Nodes without processes or sockets, wired by a queue under a virtual clock: a whole network
//! that runs the same way every time. Start with [`World::new`] and [`World::add`].

mod actions;
mod member;
mod network;
mod observe;

pub use member::{AnswerPolicy, Journal, Member, Reply, boastful_status, voter};
pub use network::World;
