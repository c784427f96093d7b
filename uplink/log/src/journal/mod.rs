//! One ordered, append-only, checksummed sequence of preallocated files.
