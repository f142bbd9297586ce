//! The results of a run: as numbers and JSON, as a table, and as a plot.
//!
//! Nothing here changes a run. Start reading at [`summary::Report`].

pub(crate) mod plot;
pub(crate) mod summary;
pub(crate) mod table;
