//! Watches for the close of standard input. A parent process that holds the other end stops its
//! child by closing it, and the child stops even if the parent is killed.

use std::io;
use std::thread;

/// Calls `on_close` once, when standard input ends or can't be read.
///
/// A separate thread reads: a blocking read on a thread of an asynchronous runtime would keep the
/// runtime from ending.
///
/// # Errors
/// The system's error if the thread can't be started.
pub fn watch(on_close: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // A read error counts as the end.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            on_close();
        })
        .map(drop)
}
