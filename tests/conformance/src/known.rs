//! What `edge-node` is known to break. A test fails when one of these holds after all, so the list
//! cannot grow old.

/// Name of the case, and what is missing.
pub const KNOWN_FAILING: &[(&str, &str)] = &[];
