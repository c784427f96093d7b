//! A medium that does not take a fork or a dead letter, for as long as the connection stands.

use super::*;

impl Edge {
    /// What is asked of the medium, and the alarms, since the last look; frames are passed over.
    fn asked(&mut self) -> (Vec<EdgeEffect>, Vec<AlarmKind>) {
        self.sent();
        let (mut asked, mut alarms) = (Vec::new(), Vec::new());
        for effect in std::mem::take(&mut self.others) {
            match effect {
                EdgeEffect::Alarm { kind, .. } => alarms.push(kind),
                EdgeEffect::PersistFork { .. } | EdgeEffect::DeadLetter { .. } => {
                    asked.push(effect);
                }
                _ => {}
            }
        }
        (asked, alarms)
    }
}

/// Fails it so often: the same is asked for each time, after a pause that grows and has a bound, and
/// one alarm says so. Gives when the last was asked for.
fn keeps_asking(edge: &mut Edge, from: i64, fail: impl Fn(&mut EdgeSession, Ms)) -> Ms {
    let (first, _) = edge.asked();
    assert_eq!(first.len(), 1, "{first:?}");
    let (mut now, mut pauses, mut alarms) = (0, Vec::new(), Vec::new());
    for _ in 0..10 {
        fail(&mut edge.session, now);
        let at = edge.session.deadline().expect("it tries again");
        edge.session.timer(at - 1);
        let (early, said) = edge.asked();
        assert_eq!(early, [], "before its time");
        alarms.extend(said);
        edge.session.timer(at);
        assert_eq!(edge.asked(), (first.clone(), vec![]));
        pauses.push(at - now);
        now = at;
    }
    let from = Offset(from);
    assert_eq!(alarms, [AlarmKind::LogUnwritable { from }]);
    let (min, max) = (pauses[0], pauses[pauses.len() - 1]);
    assert!(min >= 500, "{pauses:?}");
    let bound = bounds::REANNOUNCE_MS_MAX;
    assert!((bound / 2..=bound).contains(&max), "{pauses:?}");
    now
}

#[test]
fn a_fork_that_fails_is_tried_again_and_then_announced() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 0, 20, 10));
    let (stream, fork) = (StreamId(1), Offset(5));
    edge.hears(0, &ToEdge::Diverged { stream, fork });
    let now = keeps_asking(&mut edge, 5, |session, now| {
        session.fork_failed(now, &tp(0));
    });
    // What else the cloud says meanwhile does not lead back to the old name.
    edge.hears(now, &ToEdge::Fenced { stream });
    assert_eq!(edge.sent(), []);

    let forked = StreamInfo {
        incarnation: Incarnation(99),
        origin: fork,
        acked: fork,
        ..info(0, 0, 20, 10)
    };
    edge.session.fork_durable(now, forked);
    let sent = edge.sent();
    assert!(
        matches!(&sent[..], [ToCloud::Announce(a)] if a.incarnation == Incarnation(99)),
        "{sent:?}"
    );
}

#[test]
fn a_dead_letter_that_fails_is_tried_again_and_then_left_out() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 0, 20, 0));
    edge.welcome(1, 0);
    edge.session
        .batches(0, &tp(0), vec![batch(0, 8), batch(8, 20)]);
    edge.sent();
    edge.others();
    edge.hears(0, &rejected(0, 8));
    let now = keeps_asking(&mut edge, 0, |session, now| {
        session.dead_letter_failed(now, &tp(0));
    });
    edge.session.dead_lettered(now, &tp(0));
    let sent = edge.sent();
    let left_out = GapReason::Rejected(RejectCode::Malformed);
    let [
        ToCloud::Resume { .. },
        ToCloud::Gap {
            from, to, reason, ..
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!((*from, *to, *reason), (Offset(0), Offset(8), left_out));

    // Another time is another alarm.
    edge.hears(
        now,
        &ToEdge::Ack {
            acks: vec![(StreamId(1), Offset(8))],
        },
    );
    edge.session.batches(now, &tp(0), vec![batch(8, 20)]);
    edge.hears(now, &rejected(8, 20));
    edge.asked();
    edge.session.dead_letter_failed(now, &tp(0));
    let from = Offset(8);
    assert_eq!(edge.asked().1, [AlarmKind::LogUnwritable { from }]);
}

/// An answer that comes when nothing waits for it changes nothing.
#[test]
fn a_failure_that_nobody_waits_for_means_nothing() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 0, 20, 0));
    edge.welcome(1, 0);
    edge.asked();
    let deadline = edge.session.deadline();
    edge.session.fork_failed(1, &tp(0));
    edge.session.dead_letter_failed(1, &tp(0));
    edge.session.dead_letter_failed(1, &tp(9));
    assert_eq!(edge.session.deadline(), deadline);
    assert_eq!(edge.asked(), (vec![], vec![]));
}
