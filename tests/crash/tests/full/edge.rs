//! An edge whose disk is full, by itself and by others.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crash::room::Room;
use e2e::mqtt::{Client, Packet, Version};
use e2e::payload;
use e2e::pipeline::{Load, Pipeline};
use e2e::process::{binary, wait_listening};
use e2e::publisher::{QUOTA_EXCEEDED, Report};
use e2e::wait_for;

use crate::LIMIT;

const ROOM_BYTES: u64 = 48 << 20;
const RESERVE_BYTES: u64 = 8 << 20;

fn settings() -> String {
    format!(
        "[log]\njournal_file_bytes = 1048576\nsegment_bytes = 1048576\nreserve_bytes = {RESERVE_BYTES}\n\
         memory_bytes = 1048576\n"
    )
}

pub fn a_full_edge_refuses_and_goes_on(scratch: &Path) {
    let mut room = Room::mount(&scratch.join("edge/data"), ROOM_BYTES).unwrap();
    let mut pipeline = Pipeline::start(scratch, "", &settings(), LIMIT);
    let mqtt = pipeline.edge.mqtt;
    // A message at QoS 2 that is half way when the disk fills.
    let mut half = Client::connect_as(Version::V5, mqtt, "half", false).unwrap();
    let attempt = payload::attempt("half", 0, 0);
    half.publish("half", payload::of(&attempt, 0).as_bytes(), 2, 7, false);
    half.flush().unwrap();
    assert_eq!(half.receive().unwrap(), Packet::PubRec(7));

    let mut probe = Probe::default();
    probe.report.acked.push(attempt);

    // Its own records fill it, since the link is cut; the reserve stays.
    pipeline.link.cut();
    for (publishers, qos, messages) in [(4, 1, 24_000), (4, 2, 8_000)] {
        pipeline.publish(Load {
            publishers,
            qos,
            messages,
            payload_bytes: 2_000,
        });
    }
    wait_refused(&pipeline, 20);
    let aside = std::fs::metadata(scratch.join("edge/data/reserve")).unwrap();
    assert_eq!(aside.len(), RESERVE_BYTES);

    // Others take what is left, to the last byte.
    room.fill();
    wait_refused(&pipeline, 200);
    room.fill();
    probe.is_refused(mqtt, "full");
    half.pubrel(7);
    half.flush().unwrap();
    assert_eq!(half.receive().unwrap(), Packet::PubComp(7));

    // It starts with not one byte free, again and again.
    room.wait_reserve(LIMIT);
    room.fill();
    for n in 0..2 {
        pipeline.kill_edge();
        room.fill();
        pipeline.start_edge();
        room.wait_reserve(LIMIT);
        room.fill();
        probe.is_refused(mqtt, &format!("started full {n}"));
    }

    // Sending makes room, though the others keep what they took.
    let acked = pipeline.acked();
    pipeline.link.heal();
    pipeline.wait_acked(acked + 100);

    // Without a reserve it waits, and starts by itself when there is room.
    pipeline.kill_edge();
    std::fs::remove_file(scratch.join("edge/data/reserve")).unwrap();
    room.fill();
    pipeline.edge_process = Some(pipeline.edge.spawn(&binary("edge-node")));
    wait_for("a word that there is no room", LIMIT, || {
        let log = std::fs::read_to_string(scratch.join("edge/log")).unwrap();
        log.contains("no room to start").then_some(())
    });
    room.empty();
    wait_listening("the edge", mqtt);
    let verdict = pipeline
        .judge_with([probe.report])
        .unwrap_or_else(|what| panic!("{what}"));
    assert!(verdict.acked >= 32_001, "{verdict:?}");
    assert!(verdict.refused >= 200, "{verdict:?}");
}

/// Waits for so many more refusals: publishers with MQTT 5 hear them, and try again.
fn wait_refused(pipeline: &Pipeline, more: u64) {
    let before = pipeline.progress.refused.load(Relaxed);
    wait_for("publishers to be refused", LIMIT, || {
        (pipeline.progress.refused.load(Relaxed) >= before + more).then_some(())
    });
}

/// A client of each version that tries a full edge.
#[derive(Default)]
struct Probe {
    report: Report,
    next: u32,
}

impl Probe {
    /// What became of one publish with MQTT 5.
    fn publish(&mut self, client: &mut Client, qos: u8) -> Packet {
        self.next += 1;
        let attempt = payload::attempt("probe", self.next, 0);
        let id = self.next as u16;
        client.publish("probe", payload::of(&attempt, 0).as_bytes(), qos, id, false);
        client.flush().unwrap();
        let answer = client.receive().unwrap();
        match answer {
            Packet::Refused { reason, .. } => assert_eq!(reason, QUOTA_EXCEEDED),
            Packet::PubAck(_) | Packet::PubRec(_) => self.report.acked.push(attempt),
            ref other => panic!("{other:?}"),
        }
        answer
    }

    /// MQTT 5 is told; 3.1.1 has no word for it and hears nothing. What the edge still took before it
    /// looked at its disk again must be there in the end.
    fn is_refused(&mut self, mqtt: SocketAddr, name: &str) {
        let mut new = Client::connect_as(Version::V5, mqtt, &format!("new {name}"), true).unwrap();
        wait_for("a publish to be refused", LIMIT, || {
            matches!(self.publish(&mut new, 1), Packet::Refused { .. }).then_some(())
        });
        let mut old = Client::connect(mqtt, &format!("old {name}"), true).unwrap();
        let attempt = payload::attempt(&format!("old {name}"), 0, 0);
        old.publish("old", payload::of(&attempt, 0).as_bytes(), 1, 1, false);
        old.flush().unwrap();
        self.report.unknown.insert(attempt);
        for qos in [1, 2, 1, 2] {
            let answer = self.publish(&mut new, qos);
            assert!(matches!(answer, Packet::Refused { .. }), "{answer:?}");
        }
        // The broker has answered four publishes that came after it, through the same store.
        old.read_timeout(Duration::from_millis(200)).unwrap();
        let heard = old.receive();
        let kind = heard.as_ref().map_err(io::Error::kind);
        assert!(matches!(kind, Err(io::ErrorKind::WouldBlock)), "{heard:?}");
        old.disconnect().unwrap();
    }
}
