//! How glibc's allocator is to behave: the edge runs beside other things, and what it has freed
//! is theirs.
//!
//! By itself glibc keeps an arena per thread, and takes each large block that was freed as a reason
//! to keep larger ones: a process whose threads pass blocks to each other grew from 31 to 55 MB, resident,
//! where 22 are needed. One arena and fixed thresholds keep it there. musl, which devices
//! get, has none of these settings.

#![allow(unsafe_code)] // mallopt is a C function without a safe form.

/// Blocks of this size and above are the kernel's at once when they are freed.
#[cfg(target_env = "gnu")]
const MMAP_FROM_BYTES: libc::c_int = 128 << 10;
/// So much may stay free at the end of the heap.
#[cfg(target_env = "gnu")]
const TRIM_FROM_BYTES: libc::c_int = 256 << 10;

/// To be called once, before there are threads.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two integers and changes settings of the allocator, which no other thread
    // uses yet. A refusal leaves a default in force, which is as safe.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_FROM_BYTES);
    }
}
