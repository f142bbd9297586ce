//! Who may connect, whom to connect to, and what a peer may cost: decisions without sockets.
//! Each takes addresses, peer identities and the time as arguments. The driver in `shell` asks
//! them and carries out what they say.

pub mod address;
pub(crate) mod address_book;
pub(crate) mod answer_budget;
pub mod bans;
pub(crate) mod dial_scope;
pub(crate) mod dialer;
pub(crate) mod eviction;
pub(crate) mod gate;
pub(crate) mod limiter;
pub(crate) mod peers;
