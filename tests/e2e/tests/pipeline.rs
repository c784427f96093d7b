//! The whole way with real processes: publishers, an edge, a link that is cut, a cloud node, a
//! consumer. Everything acknowledged stands once; what QoS 1 doubles by design is counted apart.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::kafka::Consumer;
use e2e::link::Link;
use e2e::nodes::{Cloud, Edge};
use e2e::process::Process;
use e2e::publisher::{Report, Task, Verdict, judge, run};
use e2e::wait_for;

const LIMIT: Duration = Duration::from_secs(120);

/// Both nodes, the link between them, and publishers at work.
struct Pipeline {
    cloud: Cloud,
    edge: Edge,
    link: Link,
    cloud_process: Option<Process>,
    edge_process: Option<Process>,
    publishers: Vec<JoinHandle<Result<Report, String>>>,
    acked: Arc<AtomicU64>,
    _scratch: tempfile::TempDir,
}

impl Pipeline {
    fn start() -> Pipeline {
        let scratch = tempfile::tempdir().unwrap();
        let cloud = Cloud::new(&scratch.path().join("cloud"));
        let cloud_process = Some(cloud.start());
        let link = Link::to(cloud.uplink);
        let edge = Edge::new(
            &scratch.path().join("edge"),
            Some(cloud.add_edge("gateway-1", link.address())),
        );
        let edge_process = Some(edge.start());
        let acked = Arc::new(AtomicU64::new(0));
        Pipeline {
            cloud,
            edge,
            link,
            cloud_process,
            edge_process,
            publishers: Vec::new(),
            acked,
            _scratch: scratch,
        }
    }

    fn publish(&mut self, publishers: usize, qos: u8, messages: u32) {
        for n in 0..publishers {
            let id = format!("q{qos}-{n}");
            let task = Task {
                broker: self.edge.mqtt,
                topic: format!("s/{id}"),
                id,
                qos,
                messages,
                in_flight: 20,
                limit: LIMIT,
            };
            let acked = self.acked.clone();
            self.publishers
                .push(std::thread::spawn(move || run(task, acked)));
        }
    }

    fn wait_acked(&self, count: u64) {
        wait_for(&format!("{count} acknowledgements"), LIMIT, || {
            (self.acked.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    fn kill_edge(&mut self) {
        self.edge_process.take().expect("the edge runs").kill();
    }

    fn start_edge(&mut self) {
        self.edge_process = Some(self.edge.start());
    }

    fn kill_cloud(&mut self) {
        self.cloud_process.take().expect("the cloud runs").kill();
    }

    fn start_cloud(&mut self) {
        self.cloud_process = Some(self.cloud.start());
    }

    /// Waits for the publishers and for everything acknowledged to arrive, then judges.
    fn judge(&mut self) -> Verdict {
        let reports: Vec<Report> = self
            .publishers
            .drain(..)
            .map(|publisher| publisher.join().unwrap().unwrap())
            .collect();
        let wanted: usize = reports.iter().map(|report| report.acked.len()).sum();
        let mut last = String::new();
        let read = wait_for("every acknowledged message in the cloud", LIMIT, || {
            let read = self.read();
            let verdict = judge(&reports, &read);
            if let Err(problem) = &verdict {
                last.clone_from(problem);
            }
            (read.len() >= wanted && verdict.is_ok()).then_some(read)
        });
        // What comes late would be a duplicate: wait until the edge has nothing left to send.
        self.edge_process.take().map(Process::stop);
        let after = self.read();
        assert!(after.len() >= read.len());
        judge(&reports, &after).unwrap()
    }

    fn read(&self) -> Vec<(String, String)> {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
        let records = Consumer::connect(self.cloud.kafka)
            .and_then(|mut consumer| consumer.read_all("mqtt"))
            .unwrap_or_default();
        records
            .into_iter()
            .map(|record| (text(record.key), text(record.value)))
            .collect()
    }
}

#[test]
fn a_link_that_is_cut_costs_nothing() {
    let mut pipeline = Pipeline::start();
    pipeline.publish(4, 1, 1500);
    for cut in 1..=3 {
        pipeline.wait_acked(cut * 1200);
        let dropped = pipeline.link.dropped();
        pipeline.link.cut();
        pipeline.wait_acked(cut * 1200 + 700);
        wait_for("the cut to drop a datagram", LIMIT, || {
            (pipeline.link.dropped() > dropped).then_some(())
        });
        pipeline.link.heal();
    }
    let verdict = pipeline.judge();
    assert_eq!(
        verdict,
        Verdict {
            acked: 6000,
            unacked_present: 0,
            resends: 0
        }
    );
}

#[test]
fn either_side_is_killed_and_started_in_any_order() {
    let mut pipeline = Pipeline::start();
    pipeline.publish(4, 1, 2000);
    pipeline.publish(2, 2, 1000);
    pipeline.wait_acked(1000);
    pipeline.kill_edge();
    pipeline.start_edge();
    pipeline.wait_acked(2500);
    pipeline.kill_cloud();
    pipeline.wait_acked(3500);
    pipeline.kill_edge();
    pipeline.start_edge();
    pipeline.wait_acked(4500);
    pipeline.start_cloud();
    pipeline.wait_acked(5500);
    pipeline.kill_edge();
    pipeline.kill_cloud();
    pipeline.start_cloud();
    pipeline.start_edge();
    let verdict = pipeline.judge();
    assert_eq!(verdict.acked, 10_000);
    println!(
        "resends {}, unacknowledged attempts that stand {}",
        verdict.resends, verdict.unacked_present
    );
}

#[test]
fn a_backlog_from_before_the_first_link_arrives() {
    let mut pipeline = Pipeline::start();
    pipeline.kill_cloud();
    pipeline.publish(2, 1, 3000);
    pipeline.wait_acked(6000);
    assert_eq!(
        pipeline
            .edge_process
            .take()
            .map(|edge| edge.stop() < Duration::from_secs(2)),
        Some(true),
        "the edge took too long to stop"
    );
    pipeline.start_cloud();
    pipeline.start_edge();
    assert_eq!(pipeline.judge().acked, 6000);
}
