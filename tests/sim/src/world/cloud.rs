//! The cloud's node in the world: its lives, what it says, and the operator's requests to it.

use bytes::Bytes;
use headwater_log::disk::Crash;
use headwater_proto::StreamOutcome;

use super::{Event, World};
use crate::cloud::CloudOut;
use crate::kafka::consumer::KafkaConn;
use crate::kafka::requests;

/// The operator's client: one request about a topic at a time, until it is answered.
#[derive(Debug, Default)]
pub(super) struct Admin {
    conn: Option<KafkaConn>,
    correlation: i32,
    asked: Option<Ask>,
}

#[derive(Debug, Clone)]
pub(super) enum Ask {
    Create(String, i32),
    Delete(String),
}

const TOPIC_EXISTS: i16 = 36;
const UNKNOWN_TOPIC: i16 = 3;

impl Admin {
    pub fn is(&self, conn: KafkaConn) -> bool {
        self.conn == Some(conn)
    }

    pub fn conn(&self) -> Option<KafkaConn> {
        self.conn
    }

    pub fn is_busy(&self) -> bool {
        self.asked.is_some()
    }
}

impl World {
    pub(super) fn cloud_on(&mut self) {
        if !self.cloud.is_off() {
            return;
        }
        let disk = self.cloud.disk.clone();
        self.start_disk(&disk, self.plan.faults.cloud_crashes, "cloud");
        let wall_ms = self.cloud_wall_ms + self.now as i64;
        self.cloud.power_on(&mut self.rng, wall_ms);
        self.note("cloud starts", String::new);
    }

    pub(super) fn crash_cloud(&mut self, how: Crash) {
        if self.cloud.is_off() {
            return;
        }
        self.cloud.disk.crash(how);
        self.cloud_gone();
    }

    /// Also one that is off already stays off for what the operator does now.
    pub(super) fn stop_cloud(&mut self, how: Crash) {
        self.crash_cloud(how);
        self.cloud.disk.crash(how);
        self.cloud.disk.restart();
    }

    fn cloud_gone(&mut self) {
        self.cloud.stop();
        self.cloud_faulty = false;
        self.links_lost();
        self.kafka_lost();
        let pause = 50 + self.rng.below(if self.calm { 200 } else { 3_000 });
        self.at(self.now + pause, Event::CloudOn);
    }

    /// Disks that went down inside an operation.
    pub(super) fn watch_disks(&mut self) {
        if !self.cloud.is_off() && self.cloud.disk.is_down() {
            self.note("cloud crash in an operation", String::new);
            self.cloud_gone();
        }
    }

    pub(super) fn cloud_says(&mut self, life: u64, out: CloudOut) {
        // What a machine without power says is not heard; see `watch_disks`.
        if !self.cloud.hears(life) || self.cloud.disk.is_down() {
            return;
        }
        match out {
            CloudOut::Started(running) => {
                self.note("cloud runs", String::new);
                self.cloud.started(running);
            }
            // Its supervisor starts it again.
            CloudOut::Failed(why) if self.cloud_faulty || self.cloud_full => {
                self.note("cloud stops itself", || why);
                let how = if self.rng.one_in(2) {
                    Crash::Kill
                } else {
                    Crash::Power
                };
                self.crash_cloud(how);
            }
            CloudOut::Failed(why) => self.oracle.fail(format!("CLOUD FAILED: {why}")),
            CloudOut::Uplink(conn, bytes) => self.send_down(conn, bytes),
            CloudOut::UplinkClosed(_, why) => {
                self.oracle.fail(format!("CLOUD ENDS A SESSION: {why}"));
            }
            CloudOut::Outcome(outcome) => {
                let name = outcome_name(&outcome);
                self.note(&format!("stream: {name}"), || format!("{outcome:?}"));
            }
            CloudOut::Appended(key, records) => self.oracle.appended(&key, &records),
            CloudOut::Retired(incarnation, outcome) => self.retired(incarnation, &outcome),
            CloudOut::Alarm(what) => self.note("cloud alarm", || what),
            CloudOut::Kafka(conn, bytes) => self.kafka_down(conn, bytes),
            CloudOut::KafkaClosed(_, why) => {
                self.oracle.fail(format!("CLOUD ENDS A CLIENT: {why}"));
            }
        }
    }

    /// Asks once; asks again when the connection is lost.
    pub(super) fn operator(&mut self, ask: Ask) {
        self.admin.asked = Some(ask);
        self.admin_ask();
    }

    pub(super) fn admin_ask(&mut self) {
        let Some(ask) = self.admin.asked.clone() else {
            return;
        };
        if self.admin.conn.is_some() {
            return;
        }
        let conn = self.conn();
        if !self.cloud.client_opened(conn) {
            return self.at(self.now + 500, Event::Undo(super::chaos::Undo::AskAgain));
        }
        self.admin.conn = Some(conn);
        self.admin.correlation += 1;
        let correlation = self.admin.correlation;
        let bytes = match &ask {
            Ask::Create(topic, partitions) => {
                requests::create_topic(correlation, topic, *partitions)
            }
            Ask::Delete(topic) => {
                // From now on what is there may go, at any time until the answer.
                self.oracle.deletes(topic);
                requests::delete_topic(correlation, topic)
            }
        };
        self.at(self.now + 1, Event::ToNode { conn, bytes });
    }

    pub(super) fn admin_heard(&mut self, conn: KafkaConn, bytes: &Bytes) {
        self.cloud.client_closed(conn);
        self.admin.conn = None;
        let correlation = self.admin.correlation;
        let Some(ask) = self.admin.asked.take() else {
            return;
        };
        let answer = match &ask {
            Ask::Create(..) => requests::created(correlation, bytes),
            Ask::Delete(..) => requests::deleted(correlation, bytes),
        };
        match (answer, &ask) {
            (Err(what), _) => self.oracle.fail(format!("operator: {what}")),
            (Ok(0 | TOPIC_EXISTS), Ask::Create(topic, _)) => {
                self.note("topic created", || topic.clone());
            }
            (Ok(0 | UNKNOWN_TOPIC), Ask::Delete(topic)) => {
                self.note("topic deleted", || topic.clone());
                let exempt = self
                    .oracle
                    .exempt("topic deleted", |_, a| a.log_topic == *topic);
                self.journal.add("exempt: topic deleted", exempt);
            }
            (Ok(code), _) => {
                self.note("operator asks again", || format!("{ask:?}: {code}"));
                self.admin.asked = Some(ask);
                self.at(self.now + 500, Event::Undo(super::chaos::Undo::AskAgain));
            }
        }
    }

    pub(super) fn admin_lost(&mut self) {
        self.admin.conn = None;
        self.at(self.now + 500, Event::Undo(super::chaos::Undo::AskAgain));
    }
}

fn outcome_name(outcome: &StreamOutcome) -> &'static str {
    match outcome {
        StreamOutcome::Opened(_) => "opened",
        StreamOutcome::Append { .. } => "append",
        StreamOutcome::Duplicate { .. } => "duplicate",
        StreamOutcome::OutOfOrder { .. } => "out of order",
        StreamOutcome::Ledger { .. } => "ledger",
        StreamOutcome::Position { .. } => "position",
        StreamOutcome::Fenced { .. } => "fenced",
        StreamOutcome::Diverged { .. } => "diverged",
        StreamOutcome::Quarantine(_) => "quarantined",
        StreamOutcome::Refused(_) => "refused",
        StreamOutcome::Retired => "retired",
        StreamOutcome::Rejected(_) => "rejected",
    }
}
