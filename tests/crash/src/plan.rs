//! What is done to the nodes and their link, and when: drawn from a seed, counted in
//! acknowledgements, so that a fault always meets publishers at work.

use headwater_batch::SplitMix64;

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of the edge, and a start at once.
    KillEdge,
    /// SIGKILL of the cloud node.
    KillCloud,
    StartCloud,
    CutLink,
    HealLink,
}

/// How often what is done.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// SIGKILLs of the edge, and as many of the cloud node.
    pub kills: u64,
    pub cuts: u64,
}

/// A fault, and the acknowledgements that publishers have by then.
pub type Step = (u64, Fault);

/// Steps in order. Each kind takes one of as many equal stretches of the run, at a random place in
/// it, so that a node that is down is never killed again; kinds overlap as they like.
pub fn steps(seed: u64, messages: u64, counts: Counts) -> Vec<Step> {
    let mut rng = SplitMix64(seed);
    // The last stretch ends before the publishers do.
    let span = messages * 9 / 10;
    let mut steps = Vec::new();
    for stretch in stretches(span, counts.kills) {
        steps.push((stretch.0 + rng.below(stretch.1), Fault::KillEdge));
    }
    for (kind, ends, count) in [
        (Fault::KillCloud, Fault::StartCloud, counts.kills),
        (Fault::CutLink, Fault::HealLink, counts.cuts),
    ] {
        for (from, long) in stretches(span, count) {
            let begins = rng.below(long);
            let lasts = rng.below((long - begins).min(long / 2));
            steps.push((from + begins, kind));
            steps.push((from + begins + lasts, ends));
        }
    }
    // Stable: a node that is killed and started at the same count is killed first.
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn stretches(span: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    let long = span / count.max(1);
    (0..count).map(move |n| (n * long, long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_plans_the_same_and_every_fault_comes_and_ends() {
        let counts = Counts { kills: 5, cuts: 3 };
        for seed in 0..200 {
            let plan = steps(seed, 20_000, counts);
            assert_eq!(plan, steps(seed, 20_000, counts));
            let of = |fault| plan.iter().filter(|(_, f)| *f == fault).count();
            assert_eq!([of(Fault::KillEdge), of(Fault::KillCloud)], [5, 5]);
            assert_eq!(
                [
                    of(Fault::StartCloud),
                    of(Fault::CutLink),
                    of(Fault::HealLink)
                ],
                [5, 3, 3]
            );
            let mut is_up = true;
            let mut is_whole = true;
            for (at, fault) in &plan {
                assert!(*at < 20_000, "seed {seed}: {plan:?}");
                match fault {
                    Fault::KillEdge => {}
                    Fault::KillCloud => assert!(std::mem::replace(&mut is_up, false)),
                    Fault::StartCloud => assert!(!std::mem::replace(&mut is_up, true)),
                    Fault::CutLink => assert!(std::mem::replace(&mut is_whole, false)),
                    Fault::HealLink => assert!(!std::mem::replace(&mut is_whole, true)),
                }
            }
            assert!(is_up && is_whole);
        }
        assert_ne!(steps(1, 20_000, counts), steps(2, 20_000, counts));
    }
}
