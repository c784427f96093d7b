//! Watches the free space, so that a full disk is met at the front and not in the journal (C5).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_log::{Disk, RealDisk, checkpoint};

use crate::shardlog::LocalLog;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);

/// Refuses new data while less than `reserve_bytes` and a quarter are free, counting what is laid aside
/// of them (it is laid aside when it leaves that quarter). Deletions and checkpoints go on.
pub(super) async fn watch(log: Arc<LocalLog>, dir: PathBuf, reserve_bytes: u64) {
    let mut was_full = false;
    loop {
        let free = RealDisk.free_bytes(&dir);
        let free = free.and_then(|free| Ok(free + checkpoint::reserve_bytes(&RealDisk, &dir)?));
        match free {
            Ok(free) => {
                metrics::gauge!("headwater_disk_free_bytes").set(free as f64);
                let is_full = free < reserve_bytes + reserve_bytes / 4;
                log.set_disk_full(is_full);
                if is_full && !was_full {
                    tracing::error!(free, reserve_bytes, "new data is refused: the disk is full");
                } else if was_full && !is_full {
                    tracing::info!(free, "there is room again");
                }
                was_full = is_full;
            }
            Err(error) => tracing::warn!(%error, dir = %dir.display(), "free space is not known"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
