//! The handlers, one file per group of APIs.

pub mod admin;
pub mod fetch;
pub mod groups;
pub mod offsets;
pub mod produce;
pub mod producer_id;
