//! Frames: length first, bounded, checksummed; and what they say.

mod codec;
mod message;
#[cfg(test)]
mod tests;

pub use codec::{Decoder, Encoder, Frame, FrameError};
pub use message::{Announce, ToCloud, ToEdge};
