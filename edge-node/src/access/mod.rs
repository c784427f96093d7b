//! Who clients are and what they may do.

mod files;

pub(crate) use files::read_bounded;
