//! What the command writes: `words` formats single values, `show` and `finality`
//! the API's messages, `output` writes lines, tables and JSON, and `report`
//! tells failures. Nothing here asks a node.

pub(crate) mod finality;
pub(crate) mod output;
pub(crate) mod report;
pub(crate) mod show;
pub(crate) mod words;
