//! The broker machine: packets of four clients in any order and any pieces, commits that come late,
//! refusals, stalled sockets, time, crashes that keep what was durable, checkpoints, and restores
//! from damaged checkpoints and ops.
//!
//! The shell is the one of the machine's own tests. What it asserts holds here too: a restore from
//! what the machine itself wrote meets no problem, and no frame that is sent is malformed.
//!
//! Memory: messages are fanned out to four clients, and a topic alias names a long topic in a few
//! bytes, so what is sent may be many times the input; the journal is kept beside it.

use headwater_mqtt::{Broker, Config, ConnId, Event, Refusal};

use super::{mqtt_codec, named};
use crate::Target;
use crate::input::{Input, Script};
use world::World;

#[allow(clippy::duplicated_attributes)] // A test's helpers, with what they allow themselves.
#[path = "../../../../edge-node/mqtt/tests/common/mod.rs"]
pub mod world;

const CLIENTS: usize = 4;

pub const TARGET: Target = Target {
    name: "mqtt_broker",
    run,
    seeds,
    input_bytes_max: 4 << 10,
    memory_bytes_max: 48 << 20,
};

/// Steps; their arguments follow.
const OPEN: u8 = 0;
const SEND: u8 = 1;
const HANG_UP: u8 = 2;
const FSYNC: u8 = 3;
const CRASH: u8 = 4;
const CHECKPOINT: u8 = 5;
const LATER: u8 = 6;
const REFUSE: u8 = 7;
const STALL: u8 = 8;
const DRAIN: u8 = 9;
const RESTORE: u8 = 10;
const OPERATOR: u8 = 11;
const STEPS: u8 = 12;

struct Run<'a> {
    world: World,
    conns: [Option<u64>; CLIENTS],
    /// What the second listener lets a session's queue hold.
    bound: usize,
    input: Input<'a>,
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut world = World::with(config(flags));
    world.sync = flags & 1 != 0;
    let mut run = Run {
        world,
        conns: [None; CLIENTS],
        bound: if flags & 8 != 0 { 250 } else { usize::MAX },
        input,
    };
    while !run.input.is_empty() {
        run.step();
    }
    run.heal();
}

/// Small bounds, so that they are reached.
fn config(flags: u8) -> Config {
    let small = flags & 2 != 0;
    Config {
        authenticate: flags & 4 != 0,
        connections_max: if small { 3 } else { 100 },
        queue_messages_max: if small { 3 } else { 1_000 },
        queue_bytes_max: if small { 200 } else { 1 << 20 },
        retained_bytes_max: if small { 50 } else { 1 << 20 },
        subscriptions_max: if small { 2 } else { 1_000 },
        sessions_max: if small { 2 } else { 1_000 },
        inflight_max: if small { 2 } else { 100 },
        receive_maximum: if small { 2 } else { 100 },
        ..Config::default()
    }
}

impl Run<'_> {
    fn step(&mut self) {
        let step = self.input.byte() % STEPS;
        match step {
            OPEN => {
                let who = self.who();
                // Odd ones come by a listener of their own.
                let bounds = [usize::MAX, self.bound];
                self.world.limits.queue_bytes_max = bounds[who % 2];
                self.conns[who] = Some(self.world.open());
            }
            SEND => {
                let who = self.who();
                let bytes = self.input.bytes();
                if let Some(conn) = self.conns[who] {
                    self.world.send(conn, bytes);
                }
            }
            HANG_UP => {
                let who = self.who();
                if let Some(conn) = self.conns[who].take() {
                    self.world.hang_up(conn);
                }
            }
            FSYNC => {
                let n = usize::from(self.input.byte()) + 1;
                self.world.fsync(n);
            }
            CRASH => {
                self.conns = [None; CLIENTS];
                self.world.crash();
            }
            CHECKPOINT => self.world.checkpoint(),
            LATER => {
                let ms = u64::from(self.input.short()) * 10;
                self.world.later(ms);
            }
            REFUSE => {
                self.world.refuse = match self.input.byte() % 3 {
                    0 => None,
                    1 => Some(Refusal::QuotaExceeded),
                    _ => Some(Refusal::Unacceptable),
                };
            }
            STALL => {
                let who = self.who();
                self.world.stalled.extend(self.conns[who]);
            }
            DRAIN => {
                let who = self.who();
                if let Some(conn) = self.conns[who] {
                    self.world.drain(conn);
                }
            }
            RESTORE => self.restore_damaged(),
            _ => {
                let who = self.who();
                if let Some(conn) = self.conns[who] {
                    self.world.event(Event::Kick { conn: ConnId(conn) });
                }
            }
        }
        debug_assert!(step <= OPERATOR);
        self.read_all();
    }

    fn who(&mut self) -> usize {
        usize::from(self.input.byte()) % CLIENTS
    }

    /// Whatever was sent has the framing of MQTT: splitting it panics otherwise.
    fn read_all(&mut self) {
        for conn in self.conns.into_iter().flatten() {
            self.world.read(conn);
        }
    }

    /// A checkpoint and ops that rotted: what cannot be read is named and left out.
    fn restore_damaged(&mut self) {
        let (at, mask, op) = (self.input.short(), self.input.byte(), self.input.bytes());
        let mut rows: Vec<_> = self.world.kv.clone().into_iter().collect();
        let mut ops: Vec<Vec<u8>> = self.world.journal.iter().map(|a| a.op.clone()).collect();
        ops.push(op.to_vec());
        rows.push((op.iter().take(9).copied().collect(), op.to_vec()));
        let mut fields: Vec<&mut Vec<u8>> = rows.iter_mut().map(|(_, value)| value).collect();
        fields.extend(ops.iter_mut());
        let n = fields.len();
        if let Some(field) = fields.get_mut(usize::from(at) % n) {
            let len = field.len().max(1);
            if let Some(byte) = field.get_mut(usize::from(at) / n % len) {
                *byte ^= mask;
            }
        }
        let kv = rows.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        let ops = ops.iter().map(Vec::as_slice).filter(|op| !op.is_empty());
        let (mut broker, _) = Broker::restore(self.world.config.clone(), self.world.now, kv, ops);
        let mut effects = Vec::new();
        broker.handle(self.world.now, Event::Timer, &mut effects);
        broker.checkpoint_changes();
        broker.stats();
    }

    /// Everything becomes durable; what is replayed and what was checkpointed are the same state.
    fn heal(&mut self) {
        self.world.refuse = None;
        self.world.fsync_all();
        self.world.later(2_000);
        self.world.compare();
        self.world.crash();
        self.world.event(Event::Shutdown);
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        named("sessions", sessions(5)),
        named("sessions-3", sessions(4)),
        named("faults", faults()),
        named("shares", shares()),
        named("queues", queues()),
    ];
    let mut every = Script(vec![1]);
    every.byte(OPEN).byte(0);
    for (_, packet) in mqtt_codec::packets() {
        every.byte(SEND).byte(0).bytes(&packet);
    }
    all.push(named("every-packet", every.0));
    all
}

fn connect(level: u8, id: &str, clean: bool) -> Vec<u8> {
    match level {
        5 => world::v5(id, clean, 100).bytes(),
        _ => world::v3(id, clean).bytes(),
    }
}

fn properties(level: u8) -> Option<&'static [u8]> {
    (level == 5).then_some(&[])
}

/// A subscriber and a publisher at each QoS, a restart in between, and a will.
fn sessions(level: u8) -> Vec<u8> {
    let mut s = Script(vec![1]);
    let publish = |topic: &str, qos, id| {
        let p = world::publish(topic, "21.5", qos, id);
        match properties(level) {
            Some(list) => p.v5(list).bytes(),
            None => p.bytes(),
        }
    };
    for who in 0..2u8 {
        let id = ["sub", "pub"][usize::from(who)];
        s.byte(OPEN).byte(who);
        s.byte(SEND).byte(who).bytes(&connect(level, id, false));
    }
    let filters = [("s/+", 2), ("s/#", 1)];
    let subscribe = world::subscribe(1, &filters, properties(level));
    s.byte(SEND).byte(0).bytes(&subscribe);
    for qos in 0..3 {
        s.byte(SEND)
            .byte(1)
            .bytes(&publish("s/a", qos, 7 + u16::from(qos)));
    }
    s.byte(SEND).byte(1).bytes(&world::pubrel(9));
    s.byte(SEND).byte(0).bytes(&world::puback(1));
    s.byte(SEND).byte(0).bytes(&world::pubrec(2));
    s.byte(CHECKPOINT).byte(CRASH);
    s.byte(OPEN)
        .byte(0)
        .byte(SEND)
        .byte(0)
        .bytes(&connect(level, "sub", false));
    s.byte(SEND).byte(0).bytes(&world::pubcomp(2));
    s.byte(RESTORE).short(9).byte(4).bytes(&[1, 2, 3]);
    s.0
}

/// A group of three, one of them with a window of 1 and one without a lasting session, whose members
/// leave; `$SYS`, and a retained message that expires.
fn shares() -> Vec<u8> {
    let mut s = Script(vec![1]);
    for who in 0..3u8 {
        let id = ["a", "b", "c"][usize::from(who)];
        let connect = match who {
            0 => world::v5(id, false, 100).property(&[33, 0, 1]),
            1 => world::v5(id, false, 100),
            _ => world::v5(id, true, 0),
        };
        s.byte(OPEN).byte(who);
        s.byte(SEND).byte(who).bytes(&connect.bytes());
        let filters = [("$share/g/s/#", 2), ("$SYS/#", 0)];
        s.byte(SEND).byte(who);
        s.bytes(&world::subscribe(1, &filters, Some(&[11, 7])));
    }
    for id in 1..8 {
        let qos = 1 + (id % 2) as u8;
        let publish = world::publish("s/a", "21.5", qos, id).v5(&[2, 0, 0, 0, 30]);
        s.byte(SEND).byte(2).bytes(&publish.retain().bytes());
    }
    s.byte(SEND).byte(1).bytes(&world::puback(1));
    s.byte(HANG_UP)
        .byte(0)
        .byte(CHECKPOINT)
        .byte(HANG_UP)
        .byte(2);
    s.byte(LATER).short(4_000).byte(CRASH);
    s.byte(OPEN).byte(0).byte(SEND).byte(0);
    s.bytes(&world::v5("b", true, 100).bytes());
    s.byte(LATER).short(10_000);
    s.0
}

/// A session whose client comes by a listener that bounds its queue, goes, comes by the other one and
/// by the first again, over a checkpoint and a restart.
fn queues() -> Vec<u8> {
    let mut s = Script(vec![9]);
    s.byte(OPEN).byte(0).byte(SEND).byte(0);
    s.bytes(&world::v3("pub", true).bytes());
    for (turn, who) in [1u8, 2, 1].into_iter().enumerate() {
        s.byte(OPEN).byte(who).byte(SEND).byte(who);
        s.bytes(&world::v5("sub", false, 100).bytes());
        s.byte(SEND).byte(who);
        s.bytes(&world::subscribe(1, &[("t", 2)], Some(&[])));
        s.byte(HANG_UP).byte(who);
        for n in 0..4u16 {
            let id = 1 + turn as u16 * 4 + n;
            let publish = world::publish("t", "21.5", 1 + (n % 2) as u8, id);
            s.byte(SEND).byte(0).bytes(&publish.bytes());
        }
        if turn == 0 {
            s.byte(CHECKPOINT);
        }
    }
    s.byte(CRASH).byte(OPEN).byte(2).byte(SEND).byte(2);
    s.bytes(&world::v5("sub", false, 100).bytes());
    s.byte(RESTORE)
        .short(1)
        .byte(4)
        .bytes(b"b\0\0\0\0\0\0\0\x02");
    s.0
}

/// Late commits, refusals, a stalled reader, small bounds, retained messages and a take-over.
fn faults() -> Vec<u8> {
    let mut s = Script(vec![2]);
    let retained = world::publish("r", "x", 1, 3).retain().bytes();
    s.byte(OPEN)
        .byte(0)
        .byte(SEND)
        .byte(0)
        .bytes(&connect(4, "a", true));
    s.byte(FSYNC).byte(9).byte(SEND).byte(0).bytes(&retained);
    s.byte(SEND)
        .byte(0)
        .bytes(&world::subscribe(4, &[("r", 1)], None));
    s.byte(STALL).byte(0).byte(FSYNC).byte(0);
    for id in 10..14 {
        s.byte(SEND)
            .byte(0)
            .bytes(&world::publish("r", "y", 2, id).bytes());
    }
    s.byte(REFUSE).byte(1).byte(SEND).byte(0);
    s.bytes(&world::publish("r", "z", 1, 20).bytes());
    s.byte(LATER)
        .short(200)
        .byte(REFUSE)
        .byte(0)
        .byte(LATER)
        .short(200);
    s.byte(FSYNC).byte(200).byte(DRAIN).byte(0);
    let will = world::v3("a", true).will("r", "gone", 1, &[]).keep_alive(1);
    s.byte(OPEN).byte(1).byte(SEND).byte(1).bytes(&will.bytes());
    s.byte(LATER)
        .short(500)
        .byte(HANG_UP)
        .byte(1)
        .byte(OPERATOR)
        .byte(0);
    s.0
}
