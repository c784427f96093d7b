//! Keeps the view of other threads up to date.

use headwater_batch::Offset;

use super::PartitionView;
use super::running::Running;

impl Running {
    pub(super) fn show(&mut self) {
        self.worker.view.set_usage(self.worker.log.usage());
        self.show_ranges();
    }

    /// Brings the view up to date; ticks the mirror when something moved.
    pub(super) fn show_ranges(&mut self) {
        let log = &self.worker.log;
        let stale = std::mem::take(&mut self.worker.lineage_stale);
        let mut moved = !stale.is_empty();
        let mut views = self.worker.view.partitions();
        for tp in log.partitions() {
            let of = |offset: Option<Offset>| offset.unwrap_or(Offset::ZERO);
            let (start, end) = (of(log.start(&tp)), of(log.sealed_end(&tp)));
            let (next, acked) = (of(log.next(&tp)), of(log.acked(&tp)));
            match views.get_mut(&tp).filter(|_| !stale.contains(&tp)) {
                Some(view) => {
                    moved |= (view.start, view.sealed_end) != (start, end);
                    (view.start, view.sealed_end, view.next) = (start, end, next);
                    view.acked = view.acked.max(acked);
                }
                None => {
                    let (Some(lineage), Some(reader)) = (log.lineage(&tp), log.reader(&tp)) else {
                        continue;
                    };
                    moved = true;
                    let in_doubt = log.in_doubt(&tp);
                    let parent = self.worker.parents.get(&tp);
                    let parent = parent
                        .filter(|(incarnation, _)| incarnation.0 == lineage.incarnation)
                        .map(|(_, parent)| *parent);
                    let view = PartitionView {
                        start,
                        sealed_end: end,
                        next,
                        acked,
                        lineage,
                        in_doubt,
                        parent,
                        reader,
                    };
                    views.insert(tp, view);
                }
            }
        }
        drop(views);
        if moved {
            self.worker.view.tick();
        }
    }
}
