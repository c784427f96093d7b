//! From what the broker appended to what the log took, and back: acknowledgements and refusals.

use std::sync::atomic::Ordering::Relaxed;

use headwater_log::LogError;
use headwater_log::store::{Entry, Refused, Token as StoreToken};
use headwater_mqtt::{ConnId, Refusal, Token};

use super::FromStore;
use super::running::{Running, Unacked, Waiting};
use super::worker::OP_BROKER;

impl Running {
    /// Stages in order, until everything is staged or the log must first commit.
    pub(super) fn stage_waiting(&mut self, now: u64) -> Result<(), LogError> {
        while let Some(Waiting {
            mut append,
            arrived_ms,
            refusals_seen,
        }) = self.waiting.pop_front()
        {
            self.held.seen(refusals_seen);
            let held_for = append.held_for;
            if held_for.is_some_and(|conn| self.held.holds(conn)) {
                self.refuse(append.token, held_for, Refusal::QuotaExceeded);
                continue;
            }
            let mut entry = Entry::default();
            let mut bytes = 0;
            // Cloning is cheap (shared bytes) and only the Busy case needs what it keeps.
            let kept = append.clone();
            if let Some(publish) = append.publish.take() {
                match self.worker.routes.route(publish, arrived_ms) {
                    Some(routed) => {
                        bytes = routed.record.bytes_bound() as u64;
                        entry.durability = routed.durability;
                        entry.records.push((routed.partition, routed.record));
                    }
                    None => drop(self.worker.counters.unrouted.fetch_add(1, Relaxed)),
                }
            }
            if !append.op.is_empty() {
                append.op.push(OP_BROKER);
                entry.op = append.op;
            }
            let token = append.token;
            let records = entry.records.len() as u64;
            if records == 0 && entry.op.is_empty() {
                self.unacked.push_back(Unacked {
                    token,
                    needs: self.staged,
                    ack_now: true,
                });
                continue;
            }
            let staged = match append.frees_room && records == 0 {
                true => self.worker.log.stage_reserved(entry.op, now),
                false => self.worker.log.stage(entry, now),
            };
            match staged {
                Ok(staged) => {
                    self.worker.counters.records.fetch_add(records, Relaxed);
                    self.worker.counters.record_bytes.fetch_add(bytes, Relaxed);
                    self.staged = self.staged.max(staged.token);
                    let (needs, ack_now) = (staged.token, staged.ack_now);
                    self.unacked.push_back(Unacked {
                        token,
                        needs,
                        ack_now,
                    });
                }
                Err(Refused::Busy { .. }) => {
                    self.waiting.push_front(Waiting {
                        append: kept,
                        arrived_ms,
                        refusals_seen,
                    });
                    break;
                }
                Err(refused) => {
                    let reason = self.reason(&refused)?;
                    self.refuse(token, held_for, reason);
                }
            }
        }
        self.release(self.log().durable());
        Ok(())
    }

    /// Why it is not taken, in the broker's words.
    fn reason(&self, refused: &Refused) -> Result<Refusal, LogError> {
        let counters = &self.worker.counters;
        let (count, reason) = match refused {
            Refused::Stopped => {
                return Err(LogError::Poisoned {
                    cause: "the log has stopped".into(),
                });
            }
            Refused::TooLarge { .. } => (&counters.refused_invalid, Refusal::Unacceptable),
            Refused::Full { .. } | Refused::Busy { .. } => {
                (&counters.refused_full, Refusal::QuotaExceeded)
            }
        };
        if count.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(%refused, "new records are refused");
        }
        Ok(reason)
    }

    fn refuse(&mut self, token: Token, held_for: Option<ConnId>, reason: Refusal) {
        self.held.refused(held_for);
        let _ = self.to_broker.send(FromStore::Refused(token, reason));
    }

    /// Reports what is durable, in order: one report covers all tokens up to it.
    pub(super) fn release(&mut self, durable: StoreToken) {
        let mut last = None;
        while let Some(front) = self.unacked.front() {
            if !front.ack_now && front.needs > durable {
                break;
            }
            last = Some(front.token);
            self.unacked.pop_front();
        }
        if let Some(token) = last {
            let _ = self.to_broker.send(FromStore::Durable(token));
        }
    }
}
