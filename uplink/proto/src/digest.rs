//! The digest of one record (U1): finds the image of a running machine, where boots are equal.

use serde::{Deserialize, Serialize};

/// 64 bits over one record's offset, timestamp, key, value and headers. Independent of where batch
/// borders lie, since a packer may draw them differently after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub u64);
