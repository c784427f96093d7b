//! Peers that keep no rules, for tests of who gets in and what it costs: silent connections by the
//! thousand, clients that never read, an uplink peer that sends whatever a test likes; and honest
//! clients beside them, whose latency is measured meanwhile.

pub mod honest;
pub mod hostile;
pub mod peer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::nodes::{Cloud, Edge};
use e2e::process::Process;
use e2e::wait_for;

/// How long a log line, a refusal or a recovery may take on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What a node writes about itself.
pub struct Log(PathBuf);

impl Log {
    pub fn of(dir: &Path) -> Log {
        Log(dir.join("log"))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.0).unwrap_or_default()).into_owned()
    }

    /// Waits for a line that holds all of `words`: who, and why.
    pub fn wait(&self, words: &[&str]) -> String {
        let what = format!("a log line with {words:?} in {}", self.0.display());
        wait_for(&what, LIMIT, || self.find(words))
    }

    pub fn find(&self, words: &[&str]) -> Option<String> {
        let text = self.text();
        let mut lines = text.lines();
        lines
            .find(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
    }
}

/// A cloud node and one edge that mirrors to it.
pub struct Pair {
    pub cloud: Cloud,
    pub edge: Edge,
    pub cloud_process: Process,
    pub edge_process: Process,
    pub scratch: tempfile::TempDir,
}

impl Pair {
    pub fn start() -> Pair {
        Pair::with("")
    }

    /// With settings of the cloud node.
    pub fn with(toml: &str) -> Pair {
        headwater_gate::files::raise_limit();
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let cloud = Cloud::new(&scratch.path().join("cloud")).with_config(toml);
        let cloud_process = cloud.start();
        let bundle = cloud.add_edge("honest", cloud.uplink);
        let edge = Edge::new(&scratch.path().join("edge"), Some(bundle));
        let edge_process = edge.start();
        Pair {
            cloud,
            edge,
            cloud_process,
            edge_process,
            scratch,
        }
    }

    pub fn cloud_log(&self) -> Log {
        Log::of(&self.cloud.dir)
    }

    pub fn edge_log(&self) -> Log {
        Log::of(&self.edge.dir)
    }
}

/// Asserts that a process took at most `bytes` more memory than before.
pub fn assert_grown_at_most(what: &str, process: &Process, before: u64, bytes: u64) {
    let now = process.rss_bytes();
    println!("{what}: {} kB before, {} kB now", before >> 10, now >> 10);
    assert!(
        now <= before + bytes,
        "{what}: resident memory went from {before} to {now}, by more than {bytes}"
    );
}
