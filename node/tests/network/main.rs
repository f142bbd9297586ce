//! Real nodes over real connections: they find each other and agree, and no peer that breaks the
//! rules keeps honest peers from being served.

#![allow(clippy::unwrap_used)]

mod clock;
mod floods;
mod gate;
mod hostile;
mod namespaces;
mod nat;
mod partition;
mod peers;
mod raw;
