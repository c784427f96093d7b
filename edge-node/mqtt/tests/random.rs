//! Random histories of clients that keep to the protocol, over cuts, crashes, checkpoints and a
//! full disk: what was acknowledged is there, QoS 2 once, in order, and the restored machine is the
//! one that crashed.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::BTreeSet;

use common::*;
use headwater_mqtt::{Publish, Refusal};
use proptest::prelude::*;

const CLIENTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Publish { who: usize, qos: u8, twice: bool },
    Retained { who: usize, qos: u8, empty: bool },
    Shared { who: usize, qos: u8 },
    Read { who: usize },
    ReadSome { who: usize },
    Cut { who: usize },
    TakeOver { who: usize },
    Fsync { n: usize },
    Crash,
    Checkpoint,
    Full(bool),
    Later,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS;
    prop_oneof![
        8 => (who.clone(), 1u8..3, any::<bool>())
            .prop_map(|(who, qos, twice)| Step::Publish { who, qos, twice }),
        1 => (who.clone(), 0u8..3, any::<bool>())
            .prop_map(|(who, qos, empty)| Step::Retained { who, qos, empty }),
        4 => (who.clone(), 1u8..3).prop_map(|(who, qos)| Step::Shared { who, qos }),
        6 => who.clone().prop_map(|who| Step::Read { who }),
        2 => who.clone().prop_map(|who| Step::ReadSome { who }),
        1 => who.clone().prop_map(|who| Step::Cut { who }),
        1 => who.prop_map(|who| Step::TakeOver { who }),
        6 => (1usize..4).prop_map(|n| Step::Fsync { n }),
        1 => Just(Step::Crash),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::Later),
    ]
}

/// What a publish is for.
enum Kind {
    /// Everybody subscribes to it.
    Plain,
    Retained {
        empty: bool,
    },
    /// Everybody is in the group that subscribes to it.
    Shared,
}

/// One client: what a client library keeps over reconnects.
#[derive(Default)]
struct Client {
    v5: bool,
    conn: Option<u64>,
    up: bool,
    /// Its publishes: id -> payload, qos, and whether PUBREC came. In sending order.
    open: Vec<(u16, Pub, bool)>,
    acked: Vec<(String, u8)>,
    known: BTreeSet<u16>,
    handed: Vec<(String, u8)>,
    subscribed: bool,
    had_session: bool,
}

struct Run {
    w: World,
    clients: Vec<Client>,
    sent: u32,
    full: bool,
}

impl Run {
    fn new() -> Run {
        let mut w = World::new();
        w.sync = false;
        let clients = (0..CLIENTS)
            .map(|n| Client {
                v5: n != 0,
                ..Client::default()
            })
            .collect::<Vec<_>>();
        Run {
            w,
            clients,
            sent: 0,
            full: false,
        }
    }

    fn send(&mut self, who: usize, bytes: &[u8]) {
        if let Some(conn) = self.clients[who].conn {
            self.w.send(conn, bytes);
        }
    }

    fn connect(&mut self, who: usize) {
        // By listeners whose bounds are none that a queue reaches: only what is kept of them differs.
        let bounds = [usize::MAX, 1 << 20, 2 << 20];
        self.w.limits.queue_bytes_max = bounds[self.sent as usize % bounds.len()];
        let conn = self.w.open();
        let id = format!("c{who}");
        let connect = if self.clients[who].v5 {
            v5(&id, false, u32::MAX)
        } else {
            v3(&id, false)
        };
        self.clients[who].conn = Some(conn);
        self.clients[who].up = false;
        self.w.send(conn, &connect.bytes());
    }

    fn bytes(&self, who: usize, p: &Pub) -> Vec<u8> {
        if self.clients[who].v5 {
            p.clone().v5(&[]).bytes()
        } else {
            p.bytes()
        }
    }

    fn frame(&mut self, who: usize, frame: &Frame) {
        let v5 = self.clients[who].v5;
        let c = &mut self.clients[who];
        match frame.kind() {
            2 => {
                if frame.body[1] != 0 {
                    return;
                }
                let present = frame.body[0] == 1;
                assert!(present || !c.had_session, "an acknowledged session is gone");
                (c.up, c.had_session) = (true, true);
                let again: Vec<(u16, Pub, bool)> = c.open.clone();
                for (id, p, received) in again {
                    let bytes = if received {
                        pubrel(id)
                    } else {
                        self.bytes(who, &p.clone().dup())
                    };
                    self.send(who, &bytes);
                }
                let properties: Option<&[u8]> = if v5 { Some(&[]) } else { None };
                if !self.clients[who].subscribed {
                    let qos = [2, 2, 1][who];
                    let filters = [("t/#", qos), ("$share/g/s/#", qos)];
                    self.send(who, &subscribe(60_000, &filters, properties));
                }
            }
            9 => c.subscribed |= frame.body.last().is_some_and(|r| *r <= 2),
            3 => {
                let p = frame.publish(v5);
                let payload = String::from_utf8(p.payload).unwrap();
                if p.qos == 2 {
                    if c.known.insert(p.id) {
                        c.handed.push((payload, 2));
                    }
                    self.send(who, &pubrec(p.id));
                } else {
                    if !p.retain {
                        c.handed.push((payload, p.qos));
                    }
                    if p.qos == 1 {
                        self.send(who, &puback(p.id));
                    }
                }
            }
            4 | 5 | 7 => {
                let id = frame.id();
                let refused = frame.body.get(2).is_some_and(|r| *r >= 0x80 && *r != 0x92);
                // A publish sent twice is answered twice; the second answer is for nothing.
                let Some(at) = c.open.iter().position(|(i, ..)| *i == id) else {
                    if frame.kind() == 5 && !refused {
                        self.send(who, &pubrel(id));
                    }
                    return;
                };
                if refused {
                    c.open.remove(at);
                } else if frame.kind() == 5 {
                    c.open[at].2 = true;
                    self.send(who, &pubrel(id));
                } else {
                    let (_, p, _) = c.open.remove(at);
                    c.acked.push((String::from_utf8(p.payload).unwrap(), p.qos));
                }
            }
            6 => {
                c.known.remove(&frame.id());
                self.send(who, &pubcomp(frame.id()));
            }
            _ => {}
        }
    }

    fn read(&mut self, who: usize, most: usize) {
        let Some(conn) = self.clients[who].conn else {
            return self.connect(who);
        };
        let frames = self.w.read(conn);
        let (now, later) = frames.split_at(frames.len().min(most));
        let mut rest: Vec<u8> = Vec::new();
        later.iter().for_each(|f| rest.extend(f.bytes()));
        for frame in now {
            self.frame(who, frame);
        }
        if self.clients[who].conn == Some(conn) {
            let new = self.w.out.remove(&conn).unwrap_or_default();
            rest.extend(new);
            self.w.out.insert(conn, rest);
        }
        if self.w.closed.contains_key(&conn) {
            self.clients[who].conn = None;
            self.clients[who].up = false;
        }
    }

    fn publish(&mut self, who: usize, qos: u8, twice: bool, kind: Kind) {
        if !self.clients[who].up {
            return;
        }
        self.sent += 1;
        let c = &mut self.clients[who];
        // The lowest id that is free, so that ids are used again as soon as they may be.
        let free = (1..)
            .find(|id| c.open.iter().all(|(used, ..)| used != id))
            .unwrap();
        let id = if qos > 0 { free } else { 0 };
        let mut p = publish(
            &format!("t/{who}"),
            &format!("{who}:{:06}", self.sent),
            qos,
            id,
        );
        match kind {
            Kind::Plain => {}
            Kind::Shared => p.topic = format!("s/{who}"),
            Kind::Retained { empty } => {
                p = p.retain();
                p.topic = format!("r/{who}");
                if empty {
                    p.payload.clear();
                }
            }
        }
        if qos > 0 {
            c.open.push((id, p.clone(), false));
        }
        let bytes = self.bytes(who, &p);
        self.send(who, &bytes);
        // Only QoS 2 may be repeated on one connection without becoming a second message (and
        // not where each would be refused: two answers to one id).
        if twice && qos == 2 && self.w.refuse.is_none() {
            let bytes = self.bytes(who, &p.dup());
            self.send(who, &bytes);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { who, qos, twice } => self.publish(who, qos, twice, Kind::Plain),
            Step::Shared { who, qos } => self.publish(who, qos, false, Kind::Shared),
            Step::Retained { who, qos, empty } => {
                self.publish(who, qos, false, Kind::Retained { empty });
            }
            Step::Read { who } => self.read(who, usize::MAX),
            Step::ReadSome { who } => self.read(who, 1),
            Step::Cut { who } => {
                if let Some(conn) = self.clients[who].conn.take() {
                    self.clients[who].up = false;
                    self.w.hang_up(conn);
                }
            }
            Step::TakeOver { who } => self.connect(who),
            Step::Fsync { n } => self.w.fsync(n),
            Step::Crash => {
                self.w.compare();
                self.w.refuse = None;
                self.w.crash();
                for c in &mut self.clients {
                    (c.conn, c.up) = (None, false);
                }
            }
            Step::Checkpoint => self.w.checkpoint(),
            Step::Full(full) => {
                self.full |= full;
                self.w.refuse = full.then_some(Refusal::QuotaExceeded);
            }
            Step::Later => self.w.later(2_000),
        }
    }

    fn heal(&mut self) {
        self.w.refuse = None;
        for _ in 0..60 {
            self.w.fsync_all();
            self.w.later(1_500);
            for who in 0..CLIENTS {
                self.read(who, usize::MAX);
            }
        }
        self.w.fsync_all();
        self.w.compare();
    }
}

fn times<'a>(payload: &str, all: impl Iterator<Item = &'a String>) -> usize {
    all.filter(|p| *p == payload).count()
}

fn check(steps: &[Step]) {
    let mut run = Run::new();
    // Everybody subscribes first, so that every acknowledged message is everybody's.
    for _ in 0..6 {
        (0..CLIENTS).for_each(|who| run.read(who, usize::MAX));
        run.w.fsync_all();
    }
    assert!(run.clients.iter().all(|c| c.subscribed));
    steps.iter().for_each(|s| run.step(s));
    run.heal();
    let records = run.w.records();
    for (who, c) in run.clients.iter().enumerate() {
        assert!(
            c.open.is_empty(),
            "client {who} still waits for {:?}",
            c.open.len()
        );
        for (payload, qos) in c.acked.iter().filter(|(p, _)| !p.is_empty()) {
            let n = times(payload, records.iter());
            assert!(n == 1 || (n > 1 && *qos == 1), "{payload} stands {n} times");
            if stands(&run, payload, |p| p.topic.starts_with("s/")) {
                let handed = run.clients.iter().map(|c| c.handed.iter().map(|(p, _)| p));
                let each: Vec<usize> = handed.map(|all| times(payload, all)).collect();
                let n: usize = each.iter().sum();
                // Client 2 gets it at QoS 1, and perhaps again.
                let once = *qos == 2 && each[2] == 0;
                let right = if once { n == 1 } else { n >= 1 };
                assert!(right, "{payload} reached the group {each:?} times");
            } else if !stands(&run, payload, |p| p.retain) {
                for (other, reader) in run.clients.iter().enumerate() {
                    let n = times(payload, reader.handed.iter().map(|(p, _)| p));
                    let once = *qos == 2 && other != 2;
                    assert!(
                        if once { n == 1 } else { n >= 1 },
                        "{payload} reached {other} {n} times"
                    );
                }
            }
        }
    }
    for (other, reader) in run.clients.iter().enumerate().filter(|_| !run.full) {
        for who in 0..CLIENTS {
            let from = format!("{who}:");
            // Of what a group shares each member's part is in order, unless it was another's before.
            let mine = |p: &&(String, u8)| {
                p.0.starts_with(&from)
                    && p.1 == 2
                    && !stands(&run, &p.0, |p| p.topic.starts_with("s/"))
            };
            let got: Vec<_> = reader
                .handed
                .iter()
                .filter(mine)
                .map(|(p, _)| p.clone())
                .collect();
            assert!(got.is_sorted(), "{other} got {got:?} from {who}");
        }
    }
    assert_eq!(run.w.broker.stats().queued, 0);
}

fn stands(run: &Run, payload: &str, which: impl Fn(&Publish) -> bool) -> bool {
    let mut records = run.w.journal.iter().filter_map(|a| a.publish.as_ref());
    records.any(|p| p.payload == payload && which(p))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn acked_is_there_and_qos_2_once_whatever_happens(
        steps in prop::collection::vec(step(), 0..150),
    ) {
        check(&steps);
    }
}
