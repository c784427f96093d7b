//! Publishers, an edge, a link, a cloud node and a consumer, all real processes or sockets, that a test
//! can break at any place.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::judge::{Verdict, judge};
use crate::link::Link;
use crate::mqtt::Version;
use crate::nodes::{Cloud, Edge};
use crate::process::Process;
use crate::publisher::{Progress, Report, Task, run};
use crate::tail::Tail;
use crate::wait_for;

/// Where the edge routes everything by default.
const TOPIC: &str = "mqtt";

/// Both nodes, the link between them, publishers at work, and a consumer that follows.
pub struct Pipeline {
    pub cloud: Cloud,
    pub edge: Edge,
    pub link: Link,
    pub cloud_process: Option<Process>,
    pub edge_process: Option<Process>,
    pub progress: Arc<Progress>,
    pub tail: Tail,
    /// How long any one wait may take.
    pub limit: Duration,
    publishers: Vec<JoinHandle<Result<Report, String>>>,
}

/// Publishers of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub publishers: usize,
    pub qos: u8,
    /// Of all of them together.
    pub messages: u32,
    pub payload_bytes: usize,
}

impl Pipeline {
    /// Starts both nodes in directories below `root`, with settings beyond the flags.
    pub fn start(root: &Path, cloud: &str, edge: &str, limit: Duration) -> Pipeline {
        let cloud = Cloud::new(&root.join("cloud")).with_config(cloud);
        let link = Link::to(cloud.uplink);
        let cloud = cloud.behind(&link);
        let cloud_process = Some(cloud.start());
        let bundle = cloud.add_edge("gateway-1", link.address());
        let edge = Edge::new(&root.join("edge"), Some(bundle)).with_config(edge);
        let edge_process = Some(edge.start());
        let tail = Tail::follow(cloud.kafka, TOPIC);
        Pipeline {
            cloud,
            edge,
            link,
            cloud_process,
            edge_process,
            progress: Arc::default(),
            tail,
            limit,
            publishers: Vec::new(),
        }
    }

    /// Lets publishers loose, every other one of them with MQTT 5, each with a topic of its own.
    pub fn publish(&mut self, load: Load) {
        let Load {
            publishers, qos, ..
        } = load;
        for n in 0..publishers {
            // No two of a run have one name, whichever load they are of.
            let id = format!("q{qos}-{}", self.publishers.len());
            let share = load.messages / publishers as u32;
            let rest = if n == 0 {
                load.messages % publishers as u32
            } else {
                0
            };
            let task = Task {
                broker: self.edge.mqtt,
                version: if n % 2 == 0 { Version::V3 } else { Version::V5 },
                topic: format!("s/{id}"),
                id,
                qos,
                messages: share + rest,
                in_flight: 20,
                payload_bytes: load.payload_bytes,
                limit: self.limit,
            };
            let progress = self.progress.clone();
            self.publishers
                .push(std::thread::spawn(move || run(task, progress)));
        }
    }

    pub fn acked(&self) -> u64 {
        self.progress.acked.load(Ordering::Relaxed)
    }

    pub fn wait_acked(&self, count: u64) {
        wait_for(&format!("{count} acknowledgements"), self.limit, || {
            (self.acked() >= count).then_some(())
        });
    }

    pub fn kill_edge(&mut self) {
        self.edge_process.take().expect("the edge runs").kill();
    }

    pub fn start_edge(&mut self) {
        self.edge_process = Some(self.edge.start());
    }

    pub fn kill_cloud(&mut self) {
        self.cloud_process.take().expect("the cloud runs").kill();
    }

    pub fn start_cloud(&mut self) {
        self.cloud_process = Some(self.cloud.start());
    }

    /// The edge's status, if it answers.
    pub fn edge_status(&self) -> Option<Value> {
        let body = http::body(self.edge.status, "/status").ok()?;
        serde_json::from_str(&body).ok()
    }

    /// Records that the edge has and the cloud has not acknowledged; `None` while the edge does not
    /// show its partitions yet.
    fn lag(&self) -> Option<u64> {
        let status = self.edge_status()?;
        let is_open = status["partitions"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        status["uplink"]["lag"].as_u64().filter(|_| is_open)
    }

    /// Waits for the publishers, and until everything has arrived and nothing more can come; then
    /// judges. The error names what is wrong.
    pub fn judge(&mut self) -> Result<Verdict, String> {
        self.judge_with([])
    }

    /// Acknowledged too early, records are not missing at the end: the edge still has them, meets a
    /// cloud that knows less than it said, and sends them again. In longer runs it would have let go
    /// of them.
    fn cloud_kept_its_word(&self) -> Result<(), String> {
        let path = self.edge.dir.join("log");
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        match text.lines().find(|line| line.contains("CloudWentBack")) {
            Some(line) => Err(format!("the cloud lost what it acknowledged: {line}")),
            None => Ok(()),
        }
    }

    /// As [`Pipeline::judge`], with what a test published by itself.
    pub fn judge_with(
        &mut self,
        more: impl IntoIterator<Item = Report>,
    ) -> Result<Verdict, String> {
        let publishers = self.publishers.drain(..);
        let mut reports: Vec<Report> = publishers
            .map(|publisher| publisher.join().expect("publishers do not panic"))
            .collect::<Result<_, _>>()?;
        reports.extend(more);
        // Started anew it counts from its disk, and not from what it showed half a second ago.
        self.edge_process.take().map(Process::stop);
        self.start_edge();
        wait_for("the edge to have nothing left to send", self.limit, || {
            (self.lag() == Some(0)).then_some(())
        });
        // What would come now would be a double.
        self.edge_process.take().map(Process::stop);
        let wanted: usize = reports.iter().map(|report| report.acked.len()).sum();
        let mut seen = 0;
        // Ends when it is all there, or when nothing new is: the judge then names what is missing.
        while self.tail.read()? < wanted as u64 && self.tail.read()? > seen {
            seen = self.tail.read()?;
            std::thread::sleep(Duration::from_secs(1));
        }
        let ledger = http::body(self.cloud.admin, "/ledger").map_err(|e| e.to_string())?;
        if ledger.trim() != "[]" {
            return Err(format!("the loss ledger is not empty: {ledger}"));
        }
        self.cloud_kept_its_word()?;
        let tail = std::mem::replace(&mut self.tail, Tail::follow(self.cloud.kafka, TOPIC));
        judge(&reports, &tail.finish()?).map_err(|faults| faults.to_string())
    }
}
