//! One run: publishers write, a plan is carried out, and everything acknowledged is looked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use e2e::judge::Verdict;
use e2e::pipeline::{Load, Pipeline};
use e2e::publisher::Progress;
use e2e::wait_for;

use crate::plan::{Counts, Fault, Step, steps};

/// Small enough that a short run, too, rolls files, seals, checkpoints and trims.
const CLOUD: &str = "
[topics]
partitions = 4
[log]
journal_file_bytes = 4194304
journal_files_max = 32
hot_bytes = 1048576
segment_bytes_min = 65536
checkpoint_interval_s = 1
";
const EDGE: &str = "
[log]
journal_file_bytes = 2097152
segment_bytes = 262144
[[routes]]
filter = \"#\"
topic = \"mqtt\"
key = \"{topic}\"
partitions = 4
durability = \"fsync\"
";

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub seed: u64,
    /// At QoS 1 and at QoS 2, from ten publishers together.
    pub qos1: u32,
    pub qos2: u32,
    pub counts: Counts,
    /// How long any one wait may take.
    pub limit: Duration,
}

/// How a run stands, for who watches it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Standing {
    pub acked: u64,
    pub in_cloud: u64,
    pub resent: u64,
    pub edge_kills: u64,
    pub cloud_kills: u64,
    pub cuts: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    pub verdict: Verdict,
    pub standing: Standing,
    /// Datagrams that the cuts dropped.
    pub dropped: u64,
    pub published_in: Duration,
    pub took: Duration,
}

/// Runs it in `root`, which is empty. The error names what is missing, double or out of order.
/// `watch` hears how it stands now and then, from another thread's point of view.
pub fn run(root: &Path, setup: Setup, mut watch: impl FnMut(Standing)) -> Result<Summary, String> {
    let started = Instant::now();
    let mut pipeline = Pipeline::start(root, CLOUD, EDGE, setup.limit);
    for (publishers, qos, messages) in [(7, 1, setup.qos1), (3, 2, setup.qos2)] {
        pipeline.publish(Load {
            publishers,
            qos,
            messages,
            payload_bytes: 100,
        });
    }
    let messages = u64::from(setup.qos1 + setup.qos2);
    let mut standing = Standing::default();
    for step in steps(setup.seed, messages, setup.counts) {
        wait(&pipeline, step.0, &mut standing, &mut watch);
        carry_out(&mut pipeline, step, &mut standing);
    }
    wait(&pipeline, messages, &mut standing, &mut watch);
    let published_in = started.elapsed();
    let verdict = pipeline.judge()?;
    standing.in_cloud = (verdict.acked + verdict.unacked_present) as u64;
    watch(standing);
    if verdict.acked as u64 != messages {
        return Err(format!(
            "{} of {messages} messages were acknowledged",
            verdict.acked
        ));
    }
    Ok(Summary {
        verdict,
        standing,
        dropped: pipeline.link.dropped(),
        published_in,
        took: started.elapsed(),
    })
}

fn wait(
    pipeline: &Pipeline,
    acked: u64,
    standing: &mut Standing,
    watch: &mut impl FnMut(Standing),
) {
    let progress: &Arc<Progress> = &pipeline.progress;
    wait_for(&format!("{acked} acknowledgements"), pipeline.limit, || {
        standing.acked = progress.acked.load(Relaxed);
        standing.resent = progress.resent.load(Relaxed);
        standing.in_cloud = pipeline.tail.read().unwrap_or_default();
        watch(*standing);
        (standing.acked >= acked).then_some(())
    });
}

fn carry_out(pipeline: &mut Pipeline, (_, fault): Step, standing: &mut Standing) {
    match fault {
        Fault::KillEdge => {
            pipeline.kill_edge();
            standing.edge_kills += 1;
            pipeline.start_edge();
        }
        Fault::KillCloud => {
            pipeline.kill_cloud();
            standing.cloud_kills += 1;
        }
        Fault::StartCloud => pipeline.start_cloud(),
        Fault::CutLink => {
            pipeline.link.cut();
            standing.cuts += 1;
        }
        Fault::HealLink => {
            // A cut that drops nothing tests nothing. A cloud that is down sends nothing, the edge
            // tries again all the time.
            let before = pipeline.link.dropped();
            wait_for("the cut to drop a datagram", pipeline.limit, || {
                (pipeline.link.dropped() > before).then_some(())
            });
            pipeline.link.heal();
        }
    }
}
