//! What others computed must come out the same here: published vectors, the
//! reference in Python, crates by other authors.

#![allow(clippy::unwrap_used)]

mod differential;
mod merkle;
mod published;
mod reference;
mod wycheproof;
