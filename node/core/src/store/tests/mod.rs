//! Tests that need something between the database and its file.

mod crashes;
