//! Resident memory over messages: a slope with its error, life by life.

use std::fmt;
use std::time::{Duration, Instant};

use e2e::process::Process;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Samples of a process that fills its caches are left out: the first part of its life.
const WARM_UP_S: f64 = 15.0;
/// Samples are averaged in so many blocks, since neighbours in time are alike and would make the error
/// look smaller than it is.
const BLOCKS: usize = 12;
/// A life with fewer samples after its warm-up tells nothing.
const SAMPLES_MIN: usize = 2 * BLOCKS;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since the first of its life.
    pub at_s: f64,
    /// Messages so far, over all lives.
    pub messages: u64,
    pub rss_bytes: u64,
}

/// The samples of one process.
#[derive(Debug, Clone, Default)]
pub struct Life {
    pub number: u32,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Default)]
pub struct Memory {
    looked: Option<Instant>,
    began: Option<Instant>,
    cloud_pid: u32,
    cloud_began: Option<Instant>,
    pub edge: Vec<Life>,
    pub cloud: Vec<Life>,
}

impl Memory {
    pub fn is_due(&self) -> bool {
        self.looked.is_none_or(|at| at.elapsed() >= EVERY)
    }

    pub fn sample(
        &mut self,
        life: u32,
        edge: Option<&Process>,
        cloud: Option<&Process>,
        messages: u64,
    ) {
        let now = Instant::now();
        self.looked = Some(now);
        if let Some(edge) = edge {
            if self.edge.last().is_none_or(|last| last.number != life) {
                self.began = Some(now);
            }
            add(&mut self.edge, life, self.began, edge, messages);
        }
        if let Some(cloud) = cloud {
            if cloud.pid() != self.cloud_pid {
                self.cloud_pid = cloud.pid();
                self.cloud_began = Some(now);
            }
            let number = self.cloud_pid;
            add(&mut self.cloud, number, self.cloud_began, cloud, messages);
        }
    }

    /// One line for each life that tells something, and one for all of them together.
    pub fn report(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, lives) in [("edge", &self.edge), ("cloud", &self.cloud)] {
            let mut all = Vec::new();
            for (nth, life) in lives.iter().enumerate() {
                let Some(slope) = slope_of(&life.samples) else {
                    continue;
                };
                all.push(slope);
                lines.push(format!("{name}, process {}: {slope}", nth + 1));
                // Buffers and the heap take their final size bit by bit; a leak goes on.
                let third = slope_of(&life.samples[life.samples.len() / 3 * 2..]);
                lines.extend(third.map(|third| format!("  its last third alone: {third}")));
            }
            let most = lives.iter().flat_map(|l| &l.samples).map(|s| s.rss_bytes);
            let most = most.max().unwrap_or(0) as f64 / 1e6;
            let together = pooled(&all).map_or("no life was long enough".to_owned(), |slope| {
                format!("{:+.1} +- {:.1} kB per million messages", slope.0, slope.1)
            });
            lines.push(format!(
                "{name}, {} processes: RSS at most {most:.1} MB; slopes of {} together: {together}",
                lives.len(),
                all.len()
            ));
        }
        lines
    }
}

fn add(
    lives: &mut Vec<Life>,
    number: u32,
    began: Option<Instant>,
    process: &Process,
    messages: u64,
) {
    if lives.last().is_none_or(|last| last.number != number) {
        let samples = Vec::new();
        lives.push(Life { number, samples });
    }
    let rss_bytes = process.rss_bytes();
    if let Some(life) = lives.last_mut().filter(|_| rss_bytes > 0) {
        life.samples.push(Sample {
            at_s: began.map_or(0.0, |began| began.elapsed().as_secs_f64()),
            messages,
            rss_bytes,
        });
    }
}

/// A straight line through RSS over messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// kB per million messages, and the standard error of that.
    pub kb_per_million: f64,
    pub error: f64,
    pub messages: u64,
    pub seconds: f64,
    /// In the mean.
    pub rss_bytes: f64,
}

impl fmt::Display for Slope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RSS {:.1} MB in the mean over {} messages in {:.0} s after the first {WARM_UP_S:.0} s, slope \
             {:+.1} +- {:.1} kB per million messages",
            self.rss_bytes / 1e6,
            self.messages,
            self.seconds,
            self.kb_per_million,
            self.error
        )
    }
}

/// Least squares over the means of [`BLOCKS`] blocks; `None` if there are too few samples.
pub fn slope_of(samples: &[Sample]) -> Option<Slope> {
    let warm: Vec<Sample> = samples.to_vec();
    let warm: Vec<Sample> = warm.into_iter().filter(|s| s.at_s >= WARM_UP_S).collect();
    let (first, last) = (warm.first()?, warm.last()?);
    if warm.len() < SAMPLES_MIN || first.messages == last.messages {
        return None;
    }
    let points: Vec<(f64, f64)> = (0..BLOCKS)
        .map(|n| {
            let block = &warm[n * warm.len() / BLOCKS..(n + 1) * warm.len() / BLOCKS];
            let mean =
                |of: fn(&Sample) -> f64| block.iter().map(of).sum::<f64>() / block.len() as f64;
            (
                mean(|s| s.messages as f64 / 1e6),
                mean(|s| s.rss_bytes as f64 / 1e3),
            )
        })
        .collect();
    let n = points.len() as f64;
    let (x, y) = (
        points.iter().map(|p| p.0).sum::<f64>() / n,
        points.iter().map(|p| p.1).sum::<f64>() / n,
    );
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let both: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let slope = both / spread;
    let rest = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2));
    let error = (rest.sum::<f64>() / (n - 2.0) / spread).sqrt();
    Some(Slope {
        kb_per_million: slope,
        error,
        messages: last.messages - first.messages,
        seconds: last.at_s - first.at_s,
        rss_bytes: y * 1e3,
    })
}

/// The mean of slopes, each weighted by its error: kB per million messages, and its own error.
fn pooled(slopes: &[Slope]) -> Option<(f64, f64)> {
    let weight = |slope: &Slope| 1.0 / slope.error.max(0.001).powi(2);
    let all: f64 = slopes.iter().map(weight).sum();
    let sum: f64 = slopes.iter().map(|s| s.kb_per_million * weight(s)).sum();
    (!slopes.is_empty()).then(|| (sum / all, (1.0 / all).sqrt()))
}

#[cfg(test)]
mod tests {
    use headwater_batch::SplitMix64;

    use super::*;

    /// 1,000 messages a second, RSS of 20 MB that grows by so many bytes a message, and noise.
    fn samples(seconds: u64, bytes_per_message: f64, noise: u64) -> Vec<Sample> {
        let mut rng = SplitMix64(7);
        let sample = |s: u64| Sample {
            at_s: s as f64,
            messages: s * 1_000,
            rss_bytes: 20_000_000
                + (s as f64 * 1_000.0 * bytes_per_message) as u64
                + rng.below(noise + 1),
        };
        (0..seconds).map(sample).collect()
    }

    #[test]
    fn a_leak_is_outside_its_error_and_noise_alone_is_not() {
        let flat = slope_of(&samples(600, 0.0, 200_000)).unwrap();
        assert!(flat.kb_per_million.abs() < 3.0 * flat.error, "{flat}");
        let leak = slope_of(&samples(600, 2.0, 200_000)).unwrap();
        assert!(
            (leak.kb_per_million - 2_000.0).abs() < 3.0 * leak.error.max(1.0),
            "{leak}"
        );
        assert!(leak.kb_per_million > 10.0 * leak.error, "{leak}");
        let (mean, error) = pooled(&[flat, leak]).unwrap();
        assert!(mean > flat.kb_per_million && mean < leak.kb_per_million && error > 0.0);
    }

    #[test]
    fn a_short_life_tells_nothing() {
        assert_eq!(slope_of(&samples(30, 1.0, 0)), None);
        assert_eq!(slope_of(&[]), None);
    }
}
