//! Counts what an input makes the thread reserve, and the processor time it takes, so that a
//! target's bounds can be asserted.
//!
//! Counted: every reservation that Rust code makes on this thread, from [`begin`] on. Not counted:
//! zstd's own contexts, which C code reserves and whose size does not depend on the input; libFuzzer
//! bounds the whole process beside this.
#![allow(unsafe_code)] // An allocator and a thread's own clock have no safe form.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// More than any target may reserve at once: refused with null, which aborts the process. No test
/// leans on memory that the system promises and does not have.
const REFUSED_BYTES: usize = 1 << 30;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// Forgets what was counted on this thread.
pub fn begin() {
    LIVE.set(0);
    PEAK.set(0);
}

/// The most bytes that lay reserved at one time since [`begin`].
pub fn peak_bytes() -> usize {
    usize::try_from(PEAK.get()).unwrap_or(0)
}

/// What this thread has spent on a processor. Not the clock on the wall: on a machine with other
/// work a thread may wait for seconds, which is nothing an input did.
pub fn processor_time() -> Duration {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes one timespec, which is ours.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut at) };
    assert_eq!(failed, 0, "each thread has a clock");
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

fn count(bytes: i64) {
    // During a thread's end its counters are gone already.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + bytes;
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged, or refused with null.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > REFUSED_BYTES {
            return std::ptr::null_mut();
        }
        count(layout.size() as i64);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > REFUSED_BYTES {
            return std::ptr::null_mut();
        }
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if bytes > REFUSED_BYTES {
            return std::ptr::null_mut();
        }
        count(bytes as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
