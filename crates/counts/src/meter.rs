//! Counts what is allocated, held and copied between [`start`] and [`stop`].
//!
//! Copies are calls of the C library's `memcpy` and `memmove`, which this file puts its own in front of. The compiler writes
//! copies of a few known bytes in place; those are not seen. Bytes between socket and kernel are seen where a buffer of ours
//! is copied, not in the system call.
#![expect(
    unsafe_code,
    reason = "an allocator, and functions of the C library, are unsafe by their nature"
)]

use std::{
    alloc::{GlobalAlloc, Layout},
    ffi::c_void,
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use mimalloc::MiMalloc;

#[cfg(test)]
pub(crate) mod ledger;
#[cfg(not(test))]
mod ledger {
    pub(super) const fn is_writing() -> bool {
        false
    }

    pub(super) const fn kept(memory: *mut u8, _: usize) -> *mut u8 {
        memory
    }

    pub(super) const fn given_up(_: *mut u8) {}
}

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
/// Allocated less freed.
static HELD: AtomicI64 = AtomicI64::new(0);
static COPIED: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was counted since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) allocations: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) copied_bytes: u64,
}

/// Counts from here on.
pub(crate) fn start() {
    ON.store(true, Relaxed);
}

/// Counts no more.
pub(crate) fn stop() {
    ON.store(false, Relaxed);
}

/// Whether it counts.
pub(crate) fn is_on() -> bool {
    ON.load(Relaxed)
}

pub(crate) fn read() -> Reading {
    Reading {
        allocations: ALLOCATIONS.load(Relaxed),
        allocated_bytes: ALLOCATED.load(Relaxed),
        copied_bytes: COPIED.load(Relaxed),
    }
}

/// How many bytes more were allocated than freed.
#[cfg(test)]
pub(crate) fn held() -> i64 {
    HELD.load(Relaxed)
}

/// The server's allocator, counted.
struct Counting;

fn allocated(len: usize) {
    if is_on() && !ledger::is_writing() {
        ALLOCATIONS.fetch_add(1, Relaxed);
        ALLOCATED.fetch_add(len as u64, Relaxed);
        HELD.fetch_add(len as i64, Relaxed);
    }
}

fn freed(len: usize) {
    if is_on() && !ledger::is_writing() {
        HELD.fetch_sub(len as i64, Relaxed);
    }
}

fn copied(len: usize) {
    if is_on() {
        COPIED.fetch_add(len as u64, Relaxed);
    }
}

// SAFETY: every call is handed on to an allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promise is the same.
        ledger::kept(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promise is the same.
        ledger::kept(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        allocated(len);
        freed(layout.size());
        ledger::given_up(memory);
        // SAFETY: the caller's promise is the same.
        ledger::kept(unsafe { MiMalloc.realloc(memory, layout, len) }, len)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        freed(layout.size());
        ledger::given_up(memory);
        // SAFETY: the caller's promise is the same.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }
}

unsafe extern "C" {
    /// The C library's `memmove`, under a name that nobody else calls. The room is hidden from the compiler, which would see
    /// that it checks nothing, and call `memmove`, which is ours.
    fn __memmove_chk(to: *mut c_void, from: *const c_void, len: usize, room: usize) -> *mut c_void;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    copied(len);
    // SAFETY: the caller's promise is stronger.
    unsafe { __memmove_chk(to, from, len, black_box(usize::MAX)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    copied(len);
    // SAFETY: the caller's promise is the same.
    unsafe { __memmove_chk(to, from, len, black_box(usize::MAX)) }
}
