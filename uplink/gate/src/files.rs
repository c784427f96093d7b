//! Open files: every connection is one, and many systems start a process with 1,024.
#![allow(unsafe_code)] // Safety: two calls with a struct of ours; see below.

/// Raises the soft limit of open files to the hard one; the limit in force then. What the system
/// does not grant stays as it was: a listener that runs out of files waits and says so.
pub fn raise_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a struct that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a filled-in struct that the call only reads.
    if before < limit.rlim_max && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        limit.rlim_cur = before;
    }
    // It has 32 bits on some devices.
    #[allow(clippy::useless_conversion)]
    u64::from(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_not_lowered() {
        let now = super::raise_limit();
        assert!(now > 0);
        assert_eq!(super::raise_limit(), now);
    }
}
