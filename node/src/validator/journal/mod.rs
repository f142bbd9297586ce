//! The vote record on disk: what a validator must not lose. Every vote is appended and brought to
//! disk before its signature leaves (protocol §9, rule 4).
//!
//! A vote that can be read is not yet durable. After a kill or a failed sync a vote may be in the system's
//! memory only, and a second sync may report success without writing it. So to open a record is to
//! write it again: the votes that were read go to a new file, which is synced and then renamed.
//! Only then do they count. Every other change is made the same way, so that a crash leaves the old
//! record or the new one.
//!
//! Start at [`RecordFiles::open`] and [`FileJournal`] in `files`. `layout` is the bytes of the
//! record, `transfer` moves it between machines and repairs it, `text` is the text that travels,
//! and `folder` what the record asks of the file system.

mod error;
mod files;
mod folder;
mod layout;
mod text;
mod transfer;

#[cfg(test)]
mod tests;

pub use error::VoteRecordError;
pub use files::{FileJournal, RecordFiles};
pub use layout::RecordOwner;
pub use text::{export, read_export};
pub use transfer::ImportOutcome;
