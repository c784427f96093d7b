//! Frames: length first, bounded, checksummed; and what they say.

mod codec;
mod message;

pub use codec::{Decoder, Encoder, Frame, FrameError};
pub use message::{Announce, ToCloud, ToEdge};
