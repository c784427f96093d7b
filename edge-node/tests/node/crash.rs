//! SIGKILL in the middle of publishing: what was acknowledged is there, QoS 2 exactly once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::process::{Process, free_port, until};
use crate::records;

const KILLS: usize = 5;
const CLIENTS_PER_QOS: usize = 3;
/// Publishes under way per client.
const WINDOW: usize = 20;

struct Published {
    client: String,
    qos: u8,
    sent: usize,
    acked: Vec<String>,
    resent: usize,
}

/// Publishes until told to stop, then until everything is acknowledged, whatever dies meanwhile.
fn publisher(
    address: SocketAddr,
    qos: u8,
    number: usize,
    stop: &AtomicBool,
    acked: &AtomicUsize,
) -> Published {
    let name = format!("q{qos}-{number}");
    let mut client = Client::new(address, &name);
    let mut sent = 0;
    let mut connected = false;
    while !(stop.load(Ordering::Relaxed) && client.inflight() == 0) {
        let step = (|| {
            if !connected {
                client.connect()?;
            }
            while client.inflight() < WINDOW && !stop.load(Ordering::Relaxed) {
                sent += 1;
                client.publish(&name, format!("{name}/{sent}"), qos)?;
            }
            if client.inflight() > 0 {
                client.step()
            } else {
                Ok(())
            }
        })();
        connected = step.is_ok();
        if !connected {
            // The node is down or starts: its port comes back.
            thread::sleep(Duration::from_millis(20));
        }
        acked.store(client.acked.len(), Ordering::Relaxed);
    }
    Published {
        client: name,
        qos,
        sent,
        acked: client.acked,
        resent: client.resent,
    }
}

#[test]
fn kills_lose_nothing_acknowledged_and_double_no_qos_2() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let stop = Arc::new(AtomicBool::new(false));
    let mut node = Process::start(&data, address);
    let mut counters = Vec::new();
    let publishers: Vec<_> = (0..2 * CLIENTS_PER_QOS)
        .map(|n| {
            let (stop, acked) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
            counters.push(acked.clone());
            let qos = 1 + (n % 2) as u8;
            thread::spawn(move || publisher(address, qos, n, &stop, &acked))
        })
        .collect();
    let total = || {
        counters
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum::<usize>()
    };
    for _ in 0..KILLS {
        let before = total();
        until("some acknowledgements", || total() > before + 400);
        node.kill();
        node = Process::start(&data, address);
    }
    stop.store(true, Ordering::Relaxed);
    let published: Vec<Published> = publishers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let (ended, _) = node.stop();
    assert!(ended.success());
    let resent: usize = published.iter().map(|p| p.resent).sum();
    assert!(
        resent > 0,
        "no kill met a publish under way: the test proves nothing"
    );
    check(&records::read(&data, "mqtt-0"), &published);
}

fn check(stored: &[records::Stored], published: &[Published]) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for record in stored {
        *times.entry(&record.value).or_default() += 1;
    }
    let total: usize = published.iter().map(|p| p.sent).sum();
    assert_eq!(
        times.len(),
        total,
        "nothing but what was published, and all of it"
    );
    for Published {
        client,
        qos,
        sent,
        acked,
        ..
    } in published
    {
        assert_eq!(
            acked.len(),
            *sent,
            "{client}: all was acknowledged in the end"
        );
        let mut last_first = 0;
        let mut seen = 0;
        for record in stored.iter().filter(|record| record.key == *client) {
            let number: usize = record.value.rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(record.headers, [("edge".to_owned(), b"edge".to_vec())]);
            // First copies come in order; a copy resent after a kill may follow later ones.
            if number > last_first {
                assert_eq!(number, last_first + 1, "{client}: order");
                last_first = number;
            }
            seen += 1;
        }
        if *qos == 2 {
            assert_eq!(seen, *sent, "{client}: QoS 2 is exactly once");
        }
        assert_eq!(last_first, *sent, "{client}: nothing is missing");
    }
}
