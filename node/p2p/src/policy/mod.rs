//! Which peers may connect, which to connect to, and what a peer may cost: decisions without
//! sockets. Each takes addresses, peer identities and the time as arguments. The driver in
//! `shell` asks them and carries their decisions out.
//!
//! | Question | File |
//! |---|---|
//! | May this peer connect? | `gate`, `eviction`, `bans` |
//! | Which peers do we connect to? | `dialer`, `address_book`, `dial_scope`, `adding` |
//! | What is known of connected peers? | `peers`, `offenders`, `relays` |
//! | How much may a peer send and ask for? | `limiter`, `gossip_queue`, `answers`, `answer_budget`, `core_outbox` |
//! | What is an address? | `address`, `address_scope`, `ip_prefix` |

pub(crate) mod adding;
pub mod address;
pub(crate) mod address_book;
pub(crate) mod address_scope;
pub(crate) mod answer_budget;
pub(crate) mod answers;
pub mod bans;
pub(crate) mod core_outbox;
pub(crate) mod dial_scope;
pub(crate) mod dialer;
pub(crate) mod eviction;
pub(crate) mod gate;
pub(crate) mod gossip_queue;
pub mod ip_prefix;
pub(crate) mod limiter;
pub(crate) mod offenders;
pub(crate) mod peers;
pub(crate) mod relays;
