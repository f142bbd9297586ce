//! The wire: the protocols that run on a connection, the encoding of messages, the transports
//! below them, and the identity that a node shows. It takes no decisions: `policy` does.

pub(crate) mod behaviour;
pub(crate) mod codec;
pub(crate) mod identity;
pub(crate) mod protocol_names;
pub(crate) mod transport;
