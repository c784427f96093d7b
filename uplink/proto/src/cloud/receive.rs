//! What the edge says. Nothing of it is believed before it is checked.

use bytes::Bytes;
use headwater_batch::{BatchView, ErrorKind, Limits, Offset};

use super::stream::{Asked, Phase, Stream};
use super::{CloudSession, SessionError};
use crate::bounds::{LANES_MAX, LINEAGE_MAX, PARTITIONS_MAX, RETRY_MS, SPANS_MAX, STREAMS_MAX};
use crate::frame::{Announce, Frame, ToCloud, ToEdge};
use crate::rules::{self, Rule};
use crate::stream::{DataEntry, GapEntry, SessionEntry};
use crate::{
    AlarmKind, Attempt, BootSpan, BootStart, Channel, Digest, FrameError, GapReason, Ms,
    RejectCode, StreamEntry, StreamId, StreamKey,
};

/// A DATA frame's fields.
struct Data {
    base: Offset,
    next: Offset,
    lineage: Vec<BootStart>,
    digest: Digest,
    batch: Bytes,
}

impl CloudSession {
    /// Bytes of a channel: `Control`, or `Data(n)` with any n that is the shell's own for that
    /// uni stream.
    pub fn bytes(&mut self, now: Ms, channel: Channel, bytes: Bytes) {
        if self.closed {
            return;
        }
        if let Channel::Data(lane) = channel {
            if self.lanes.len() >= LANES_MAX && !self.lanes.contains_key(&lane) {
                return self.too_many(LANES_MAX, "data lanes");
            }
        }
        self.decoder(channel).push(bytes);
        while !self.closed {
            let frame = match self.decoder(channel).next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => frame,
                Err(error) => return self.bad_frame(error),
            };
            match frame.decode::<ToCloud>() {
                Ok(body) => self.frame(now, channel, body, frame),
                Err(error) => return self.bad_frame(error),
            }
        }
    }

    fn decoder(&mut self, channel: Channel) -> &mut crate::frame::Decoder {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Data(lane) => self.lanes.entry(lane).or_default(),
        }
    }

    fn frame(&mut self, now: Ms, channel: Channel, body: ToCloud, frame: Frame) {
        let name = body.name();
        let is_data = matches!(body, ToCloud::Data { .. });
        if frame.tail.is_empty() == is_data {
            return self.bad_frame(FrameError::Tail(name, frame.tail.len()));
        }
        let control = matches!(
            body,
            ToCloud::Hello { .. } | ToCloud::Announce(_) | ToCloud::Quarantined { .. }
        );
        let hello = matches!(body, ToCloud::Hello { .. });
        match channel {
            Channel::Control if !control => return self.unexpected(name, "on the control stream"),
            Channel::Data(_) if control => return self.unexpected(name, "on a data lane"),
            // Lanes may be faster than control, but nothing can be sent before WELCOME.
            _ if hello == self.greeted => {
                let when = if hello {
                    "a second time"
                } else {
                    "before HELLO"
                };
                return self.unexpected(name, when);
            }
            _ => {}
        }
        match body {
            ToCloud::Hello { edge, .. } if edge != self.peer => {
                let (peer, claimed) = (self.peer.to_string(), edge.to_string());
                self.close(SessionError::WrongName { peer, claimed });
            }
            ToCloud::Hello { .. } => self.greet(now),
            ToCloud::Announce(announce) => self.announce(now, announce),
            ToCloud::Quarantined { stream, reason } => {
                self.alarm(stream, AlarmKind::Quarantine(reason));
                self.close_stream(stream);
            }
            ToCloud::Data {
                stream,
                base,
                next,
                lineage,
                digest,
            } => {
                let data = Data {
                    base,
                    next,
                    lineage,
                    digest,
                    batch: frame.tail,
                };
                if self.admit(channel, stream, name) {
                    self.data(now, stream, data);
                }
            }
            ToCloud::Gap {
                stream,
                from,
                to,
                reason,
                lineage,
            } => {
                if self.admit(channel, stream, name) {
                    self.gap(now, stream, from, to, reason, lineage);
                }
            }
            ToCloud::Resume { stream, attempt } => {
                if self.admit(channel, stream, name) {
                    self.resume(stream, attempt);
                }
            }
            ToCloud::Resync { stream } => {
                if self.admit(channel, stream, name) {
                    self.resync(now, stream);
                }
            }
        }
    }

    fn greet(&mut self, now: Ms) {
        self.greeted = true;
        let (wall_ms, addresses) = (self.wall_ms(now), self.config.addresses.clone());
        let window_bytes = self.config.window_bytes as u64;
        self.send(&ToEdge::Server {
            wall_ms,
            addresses,
            window_bytes,
        });
    }

    fn announce(&mut self, now: Ms, announce: Announce) {
        let id = announce.stream;
        if let Some(why) = flaw(&announce, self.highest_id) {
            let (peer, stream) = (self.peer.to_string(), id.0);
            return self.close(SessionError::BadAnnounce { peer, stream, why });
        }
        self.highest_id = id;
        let edge = self.peer.clone();
        let key = StreamKey {
            edge,
            incarnation: announce.incarnation,
            tp: announce.tp,
        };
        // Announced again, after a fork or a fence: the earlier id is closed.
        let earlier: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, s)| s.key.tp == key.tp)
            .map(|(id, _)| *id)
            .collect();
        earlier.into_iter().for_each(|id| self.close_stream(id));
        if self.streams.len() >= STREAMS_MAX {
            return self.too_many(STREAMS_MAX, "streams");
        }
        if self.sink_is_full() {
            let (attempt, pause_ms) = (Attempt(0), RETRY_MS as u32);
            return self.send(&ToEdge::Retry {
                stream: id,
                attempt,
                pause_ms,
            });
        }
        self.streams.insert(id, Stream::new(key));
        let entry = StreamEntry::Session(SessionEntry {
            partitions: announce.partitions,
            origin: announce.origin,
            parent: announce.parent,
            start: announce.start,
            end: announce.end,
            acked: announce.acked,
            spans: announce.spans,
            at_ms: self.wall_ms(now),
        });
        self.commit(
            now,
            id,
            Asked::Session {
                acked: announce.acked,
            },
            entry,
        );
    }

    /// Whether a frame on a lane concerns an open stream. Closed ones are passed over in silence:
    /// their last frames may still be under way.
    fn admit(&mut self, channel: Channel, id: StreamId, frame: &'static str) -> bool {
        let Channel::Data(lane) = channel else {
            return false;
        };
        if id > self.highest_id {
            self.unexpected(frame, "before ANNOUNCE");
            return false;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        if stream.phase == Phase::Opening {
            self.unexpected(frame, "before WELCOME");
            return false;
        }
        if *stream.lane.get_or_insert(lane) != lane {
            self.bad_stream(id, format!("{frame} on a second lane"));
            return false;
        }
        true
    }

    fn data(&mut self, now: Ms, id: StreamId, data: Data) {
        let Data {
            base,
            next,
            lineage,
            digest,
            batch,
        } = data;
        if !self.range_is_sound(id, base, next, &lineage) || !self.takes(id) {
            return;
        }
        let view = match BatchView::parse(&batch, &Limits::UPLINK) {
            Ok(view) => view,
            Err(error) => {
                let large = error.kind() == ErrorKind::TooLarge;
                let code = if large {
                    RejectCode::TooLarge
                } else {
                    RejectCode::Malformed
                };
                return self.reject(id, base, next, code);
            }
        };
        if let Err(error) = view.verify_crc() {
            // The edge checked it before it sent: it broke on the way.
            let (peer, error) = (self.peer.to_string(), error.to_string());
            let (stream, base) = (id.0, base.0);
            return self.close(SessionError::Damaged {
                peer,
                stream,
                base,
                error,
            });
        }
        if (view.base_offset(), view.next_offset()) != (base, next) {
            return self.reject(id, base, next, RejectCode::Malformed);
        }
        let stream = &self.streams[&id];
        let (epoch, at_ms) = (stream.epoch, self.wall_ms(now));
        let entry = DataEntry {
            epoch,
            base,
            next,
            lineage,
            digest,
            at_ms,
            batch,
        };
        if !rules::on(Rule::AckAfterCommit) {
            self.acks.insert(id, next);
        }
        self.commit(
            now,
            id,
            Asked::Range { base, next },
            StreamEntry::Data(entry),
        );
    }

    fn gap(
        &mut self,
        now: Ms,
        id: StreamId,
        from: Offset,
        to: Offset,
        reason: GapReason,
        lineage: Vec<BootStart>,
    ) {
        if !self.range_is_sound(id, from, to, &lineage) || !self.takes(id) {
            return;
        }
        let (epoch, at_ms) = (self.streams[&id].epoch, self.wall_ms(now));
        let entry = GapEntry {
            epoch,
            from,
            to,
            reason,
            lineage,
            at_ms,
        };
        let asked = Asked::Range {
            base: from,
            next: to,
        };
        self.commit(now, id, asked, StreamEntry::Gap(entry));
    }

    fn range_is_sound(
        &mut self,
        id: StreamId,
        from: Offset,
        to: Offset,
        lineage: &[BootStart],
    ) -> bool {
        let rising = lineage.windows(2).all(|w| w[0].start <= w[1].start);
        let why = if from.0 < 0 || from >= to {
            format!("[{from}, {to}) is no range")
        } else if lineage.len() > LINEAGE_MAX || !rising {
            format!("{} boots, at most {LINEAGE_MAX}, in order", lineage.len())
        } else {
            return true;
        };
        self.bad_stream(id, why);
        false
    }

    /// Whether DATA or GAP is taken now. Beyond the bound it is dropped and asked for again.
    fn takes(&mut self, id: StreamId) -> bool {
        let full = self.sink_is_full();
        let stream = self.streams.get_mut(&id).expect("admitted");
        if stream.phase == Phase::Discarding && rules::on(Rule::DiscardUntilResume) {
            return false;
        }
        if full {
            let (attempt, pause_ms) = (stream.discard(), RETRY_MS as u32);
            self.send(&ToEdge::Retry {
                stream: id,
                attempt,
                pause_ms,
            });
        }
        !full
    }

    fn reject(&mut self, id: StreamId, base: Offset, next: Offset, code: RejectCode) {
        let attempt = self.streams.get_mut(&id).expect("admitted").discard();
        self.alarm(
            id,
            AlarmKind::DeadLetter {
                from: base,
                to: next,
                code,
            },
        );
        self.send(&ToEdge::Rejected {
            stream: id,
            attempt,
            base,
            next,
            code,
        });
    }

    /// A RESUME of an earlier attempt was overtaken by a later one, and means nothing.
    fn resume(&mut self, id: StreamId, attempt: Attempt) {
        let stream = self.streams.get_mut(&id).expect("admitted");
        if stream.phase == Phase::Discarding && stream.attempt == attempt {
            stream.phase = Phase::Live;
        }
    }

    fn resync(&mut self, now: Ms, id: StreamId) {
        let full = self.sink_is_full();
        let stream = self.streams.get_mut(&id).expect("admitted");
        let attempt = stream.discard();
        let epoch = stream.epoch;
        if full {
            let pause_ms = RETRY_MS as u32;
            return self.send(&ToEdge::Retry {
                stream: id,
                attempt,
                pause_ms,
            });
        }
        self.commit(now, id, Asked::Probe, StreamEntry::Probe { epoch });
    }

    fn bad_frame(&mut self, error: FrameError) {
        let peer = self.peer.to_string();
        self.close(SessionError::Frame { peer, error });
    }

    fn unexpected(&mut self, frame: &'static str, when: &'static str) {
        let peer = self.peer.to_string();
        self.close(SessionError::Unexpected { peer, frame, when });
    }

    fn bad_stream(&mut self, id: StreamId, why: String) {
        let (peer, stream) = (self.peer.to_string(), id.0);
        self.close(SessionError::BadStream { peer, stream, why });
    }

    fn too_many(&mut self, bound: usize, what: &'static str) {
        let peer = self.peer.to_string();
        self.close(SessionError::TooMany { peer, bound, what });
    }
}

/// What is wrong with an ANNOUNCE, if anything.
fn flaw(announce: &Announce, highest: StreamId) -> Option<&'static str> {
    let Announce {
        stream,
        tp,
        partitions,
        origin,
        start,
        end,
        acked,
        spans,
        ..
    } = announce;
    let sorted = |w: &[BootSpan]| w[0].end <= w[1].start;
    if *stream <= highest {
        Some("with an id that was used before: replayed")
    } else if *partitions > PARTITIONS_MAX || tp.partition >= *partitions {
        Some("with a partition that its topic has not, or too many")
    } else if [origin, start, end, acked].iter().any(|o| o.0 < 0) || start > end {
        Some("with offsets that are no log's")
    } else if spans.is_empty() || spans.len() > SPANS_MAX {
        Some("with no boots, or too many")
    } else if spans.iter().any(|s| s.start.0 < 0 || s.start > s.end)
        || !spans.windows(2).all(sorted)
    {
        Some("with boots out of order")
    } else if announce.parent.is_some_and(|p| p.fork != *origin) {
        Some("with a parent that parts elsewhere")
    } else {
        None
    }
}
