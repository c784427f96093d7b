//! Topic names, topic filters and the subscription tree (section 4.7 of both specifications).

mod name;
mod tree;

pub use name::{FilterParts, NameError, check_filter, check_name, matches};
pub use tree::{Match, Options, Tree};
