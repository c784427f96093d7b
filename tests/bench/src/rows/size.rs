//! Size of the static edge binaries that `cross/build` left.

use std::path::Path;

use crate::table::Line;

const TARGETS: [&str; 3] = [
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
    "arm-unknown-linux-musleabihf",
];
const AIM_MB: f64 = 8.0;

pub fn run() -> Vec<Line> {
    TARGETS.into_iter().map(line).collect()
}

fn line(target: &str) -> Line {
    let what = format!("edge binary, static, stripped: {target}");
    let binary = Path::new("target").join(target).join("edge/edge-node");
    match binary.metadata() {
        Ok(found) => {
            let size = found.len() as f64 / 1e6;
            Line::new(what, format!("{size:.2} MB")).aim("8 MB", size <= AIM_MB)
        }
        Err(_) => Line::new(what, format!("not built: `cross/build {target}`")).aim("8 MB", false),
    }
}
