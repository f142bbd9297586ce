//! Encodings: every value comes back as it was, no input makes a decoder panic or
//! allocate beyond it, and no two byte strings stand for one value.
//!
//! This is a program of its own, because its allocator counts for the whole program.

#![allow(clippy::unwrap_used)]

mod decoders;
mod round_trips;
mod text;
mod values;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts the bytes that a thread allocates, to catch a decoder that allocates for a
/// length before it has seen the bytes.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|total| total.set(total.get() + layout.size()));
        // SAFETY: the caller's promises hold for the system allocator too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that this thread allocates while `run` does its work.
fn allocated_by<T>(run: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATED.set(0);
    let result = run();
    (result, ALLOCATED.get())
}
