//! The world: everything that runs, on one clock, one event after the other.
//!
//! The cloud's tasks run on tokio's paused clock; everything else is stepped from here. The loop
//! sleeps until the next event of its own, and time jumps there unless a task of the cloud's is due
//! before. Nothing else moves time.

mod cards;
mod chaos;
mod clients;
mod cloud;
mod crowd;
mod cuts;
mod devices;
mod heal;
mod links;
mod logs;
mod members;
mod producers;
mod readers;
mod resume;
mod subscribers;
mod uplink_faults;
mod watch;
mod wills;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::TopicPartition;
use headwater_log::SimDisk;
use headwater_log::durable::Rules;
use headwater_proto::{Channel, EdgeName};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::cloud::{Cloud, CloudOut, LinkConn, Trouble};
use crate::count::{Journal, Trace};
use crate::edge::MqttConn;
use crate::grouped::Grouped;
use crate::kafka::consumer::KafkaConn;
use crate::kafka::member::Member;
use crate::now::Ms;
use crate::oracle::Oracle;
use crate::payload::Ids;
use crate::plan::Plan;
use crate::rng::Rng;
use cards::Card;
use clients::{MqttLink, Sender};
use devices::{Device, DeviceId};
use links::Link;
use producers::Maker;
use readers::{KafkaLink, Reader};
use subscribers::{Listener, Share};

/// When the world begins, for those whose clock is set: above the edge's floor.
pub const WALL_START_MS: i64 = 1_790_000_000_000;
const MQTT_SALT: u64 = 0x6d71_7474;
/// More turns without time passing are a bug: a deadline in the past, or an echo.
const TURNS_AT_ONE_TIME_MAX: u32 = 200_000;

/// What waits for its time.
#[derive(Debug)]
enum Event {
    Chaos,
    /// Does what a fault is undone by.
    Undo(chaos::Undo),
    PowerOn(DeviceId),
    LateCut {
        device: DeviceId,
        life: u64,
    },
    /// The session of a subscriber that is away has ended for certain.
    EndCut {
        listener: usize,
        life: u64,
    },
    CloudOn,
    Work {
        device: DeviceId,
        life: u64,
        id: u64,
    },
    Dialled {
        device: DeviceId,
        life: u64,
    },
    Up {
        conn: LinkConn,
        channel: Channel,
        bytes: Bytes,
    },
    Down {
        conn: LinkConn,
        bytes: Bytes,
    },
    EdgeSees(LinkConn),
    CloudSees(LinkConn),
    MqttDialled(clients::Owner),
    ToBroker {
        conn: MqttConn,
        bytes: Bytes,
    },
    ToClient {
        conn: MqttConn,
        bytes: Bytes,
    },
    BrokerSees(MqttConn),
    ClientSees(MqttConn),
    KafkaDialled(readers::KafkaOwner),
    ToNode {
        conn: KafkaConn,
        bytes: Bytes,
    },
    ToReader {
        conn: KafkaConn,
        bytes: Bytes,
    },
    ReaderSees(KafkaConn),
}

pub struct World {
    pub plan: Plan,
    pub oracle: Oracle,
    pub journal: Journal,
    rng: Rng,
    /// For what the [plan](crate::plan::MqttPlan) adds, so that worlds without it stay as they were.
    mqtt_rng: Rng,
    rules: Rules,
    epoch: Instant,
    now: Ms,
    queue: BTreeMap<(Ms, u64), Event>,
    seq: u64,
    next_conn: u64,
    ids: Ids,
    steps: u32,
    calm: bool,
    cards: Vec<Card>,
    /// By card and exchange of its content.
    watches: BTreeMap<(cards::CardId, u32), watch::Watch>,
    devices: Vec<Device>,
    links: BTreeMap<LinkConn, Link>,
    senders: Vec<Sender>,
    listeners: Vec<Listener>,
    shares: Vec<Share>,
    mqtt: BTreeMap<MqttConn, MqttLink>,
    readers: Vec<Reader>,
    makers: Vec<Maker>,
    members: Vec<Member>,
    grouped: Grouped,
    kafka: BTreeMap<KafkaConn, KafkaLink>,
    cloud: Cloud,
    cloud_out: UnboundedReceiver<(u64, CloudOut)>,
    cloud_wall_ms: i64,
    admin: cloud::Admin,
    /// Nobody reaches the cloud before this.
    outage_until: Ms,
    delay_max: Ms,
    image: Option<cards::Image>,
    cloud_copy: Option<uplink_faults::CloudCopy>,
    /// The cloud went back to a copy.
    restored: bool,
    /// A machine was resumed beside itself.
    resumed: bool,
    /// Devices whose card was another one before.
    swapped: BTreeSet<DeviceId>,
    /// What the cloud lost of what it had acknowledged, as edges have said: ranges of offsets.
    went_back: BTreeMap<(String, TopicPartition), Vec<(i64, i64)>>,
    /// Streams for which somebody is about to make room in the cloud.
    crowded: BTreeSet<(EdgeName, TopicPartition)>,
    /// Cards that were taken out, by device.
    drawer: Vec<(DeviceId, cards::CardId)>,
    /// Disks whose content was replaced: they still count.
    spent: Vec<SimDisk>,
    /// A fault was injected that the node may rightly stop at.
    cloud_faulty: bool,
    /// Its disk is full, also over restarts.
    cloud_full: bool,
    /// What is being delivered to a client was sent by a process that is no more.
    hears_the_dead: bool,
}

impl World {
    /// Inside a paused current-thread runtime.
    pub fn new(seed: u64, trace: Trace, rules: Rules) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::of(seed, &mut rng, rules);
        let epoch = Instant::now();
        let trouble = Trouble::new(Rng::new(seed), plan.uplink.poison_one_in);
        let (cloud, cloud_out) = Cloud::new(rng.u64(), plan.cloud.clone(), trouble, epoch);
        let mut world = World {
            oracle: Oracle::new(plan.cloud.retention_bytes >= 0 || plan.cloud.retention_ms >= 0),
            journal: Journal::new(trace),
            rules,
            mqtt_rng: Rng::new(seed ^ MQTT_SALT),
            epoch,
            now: 0,
            queue: BTreeMap::new(),
            seq: 0,
            next_conn: 1,
            ids: Ids::default(),
            steps: 0,
            calm: false,
            cards: Vec::new(),
            watches: BTreeMap::new(),
            devices: Vec::new(),
            links: BTreeMap::new(),
            senders: Vec::new(),
            listeners: Vec::new(),
            shares: Vec::new(),
            mqtt: BTreeMap::new(),
            readers: Vec::new(),
            makers: Vec::new(),
            members: Vec::new(),
            grouped: Grouped::default(),
            kafka: BTreeMap::new(),
            cloud,
            cloud_out,
            cloud_wall_ms: WALL_START_MS,
            admin: cloud::Admin::default(),
            outage_until: 0,
            delay_max: 1 + rng.below(60),
            image: None,
            cloud_copy: None,
            restored: false,
            resumed: false,
            swapped: BTreeSet::new(),
            went_back: BTreeMap::new(),
            crowded: BTreeSet::new(),
            drawer: Vec::new(),
            spent: Vec::new(),
            cloud_faulty: false,
            cloud_full: false,
            hears_the_dead: false,
            plan,
            rng,
        };
        world.journal.line(0, || format!("{:?}", world.plan));
        world.oracle.equal_counts = world.plan.equal_counts();
        world.populate();
        world
    }

    fn populate(&mut self) {
        for _ in 0..self.plan.devices {
            self.add_device();
        }
        for number in 0..self.plan.publishers {
            let device = number % self.plan.devices;
            self.add_sender(device);
        }
        for number in 0..self.plan.subscribers {
            let device = number % self.plan.devices;
            self.add_listener(device);
        }
        for number in 0..self.plan.mqtt.watchers {
            let device = number % self.plan.devices;
            self.add_watcher(device);
        }
        if self.plan.mqtt.shares {
            self.add_share(0);
        }
        for _ in 0..self.plan.consumers {
            self.add_reader();
        }
        for _ in 0..self.plan.producers {
            self.add_maker();
        }
        for _ in 0..self.plan.members {
            self.add_member(producers::MADE, producers::MADE_PARTITIONS);
        }
        self.at(0, Event::CloudOn);
        for device in 0..self.plan.devices {
            let at = self.rng.below(50);
            self.at(at, Event::PowerOn(device));
        }
        self.at(100, Event::Chaos);
    }

    fn at(&mut self, at: Ms, event: Event) {
        self.seq += 1;
        self.queue.insert((at.max(self.now), self.seq), event);
    }

    fn note(&mut self, what: &str, detail: impl FnOnce() -> String) {
        self.journal.note(self.now, what, detail);
    }

    fn conn(&mut self) -> u64 {
        self.next_conn += 1;
        self.next_conn
    }

    /// Runs until `until`, `done`, or something is wrong.
    pub async fn run(&mut self, until: Ms, done: impl Fn(&World) -> bool) {
        let mut turns = 0;
        while self.oracle.failure().is_none() && !done(self) && self.now <= until {
            let next = self.next_time().unwrap_or(until + 1).max(self.now);
            let before = self.now;
            let sleep = tokio::time::sleep_until(self.epoch + Duration::from_millis(next));
            let heard = tokio::select! {
                biased;
                heard = self.cloud_out.recv() => heard,
                () = sleep => None,
            };
            self.now = (Instant::now() - self.epoch).as_millis() as Ms;
            turns = if self.now > before { 0 } else { turns + 1 };
            if turns > TURNS_AT_ONE_TIME_MAX {
                self.oracle.fail("LIVELOCK: time stands still".into());
            }
            if let Some((life, out)) = heard {
                self.cloud_says(life, out);
            } else {
                self.turn();
            }
            self.watch_disks();
            if let Some(what) = crate::run::panicked() {
                self.oracle.fail(format!("PANIC: {what}"));
            }
        }
    }

    /// One event of the queue, or else what is due by deadlines.
    fn turn(&mut self) {
        let due = self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= self.now);
        if due {
            let (_, event) = self.queue.pop_first().expect("just seen");
            self.event(event);
        } else {
            self.timers();
        }
    }

    fn next_time(&self) -> Option<Ms> {
        let queue = self.queue.keys().next().map(|key| key.0);
        let edges = self.devices.iter().filter_map(Device::deadline);
        let senders = self.senders.iter().filter_map(|s| s.client.deadline());
        let listeners = self.listeners.iter().filter_map(|l| l.client.deadline());
        let readers = self.readers.iter().filter_map(|r| r.client.deadline());
        let makers = self.makers.iter().filter_map(|m| m.client.deadline());
        let clients = senders.chain(listeners).chain(readers).chain(makers);
        let members = self.members.iter().filter_map(Member::deadline);
        let clients = clients.chain(members);
        edges.chain(clients).chain(queue).min()
    }

    fn timers(&mut self) {
        for device in 0..self.devices.len() {
            if self.devices[device]
                .deadline()
                .is_some_and(|at| at <= self.now)
            {
                self.edge(device, |edge, now| edge.timer(now));
            }
        }
        for sender in 0..self.senders.len() {
            self.senders[sender].client.timer(self.now, &mut self.ids);
            self.sender_acts(sender);
        }
        for listener in 0..self.listeners.len() {
            self.listeners[listener].client.timer(self.now);
            self.listener_acts(listener);
        }
        for member in 0..self.members.len() {
            self.members[member].timer(self.now, &mut self.grouped);
            self.member_acts(member);
        }
        for maker in 0..self.makers.len() {
            self.makers[maker].client.timer(self.now, &mut self.ids);
            self.maker_acts(maker);
        }
        for reader in 0..self.readers.len() {
            self.readers[reader].client.timer(self.now, &self.oracle);
            self.reader_acts(reader);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Chaos => self.chaos(),
            Event::Undo(undo) => self.undo(undo),
            Event::PowerOn(device) => self.power_on(device),
            Event::LateCut { device, life } => self.late_cut(device, life),
            Event::EndCut { listener, life } => self.end_cut(listener, life),
            Event::CloudOn => self.cloud_on(),
            Event::Work { device, life, id } => {
                if self.devices[device].life == life {
                    self.edge(device, |edge, now| edge.work(now, id));
                }
            }
            Event::Dialled { device, life } => self.dialled(device, life),
            Event::Up {
                conn,
                channel,
                bytes,
            } => self.up(conn, channel, bytes),
            Event::Down { conn, bytes } => self.down(conn, bytes),
            Event::EdgeSees(conn) => self.edge_sees(conn),
            Event::CloudSees(conn) => self.cloud_sees(conn),
            Event::MqttDialled(owner) => self.mqtt_dialled(owner),
            Event::ToBroker { conn, bytes } => self.reach_broker(conn, bytes),
            Event::ToClient { conn, bytes } => self.reach_client(conn, bytes),
            Event::BrokerSees(conn) => self.broker_sees(conn),
            Event::ClientSees(conn) => self.client_sees(conn),
            Event::KafkaDialled(owner) => self.kafka_dialled(owner),
            Event::ToNode { conn, bytes } => self.reach_node(conn, bytes),
            Event::ToReader { conn, bytes } => self.reach_reader(conn, &bytes),
            Event::ReaderSees(conn) => self.reader_sees(conn),
        }
    }
}
