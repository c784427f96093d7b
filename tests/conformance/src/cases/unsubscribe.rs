//! UNSUBSCRIBE and UNSUBACK: sections 3.10 and 3.11.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.10.1-1",
        "3.10.1-1",
        "Other flags than 0010 on UNSUBSCRIBE end the connection.",
        flags,
    ),
    both(
        "3.10.3-1",
        "3.10.3-1",
        "Topic filters are UTF-8.",
        filter_text,
    ),
    both(
        "3.10.3-2",
        "3.10.3-2",
        "An UNSUBSCRIBE has at least one filter.",
        no_filter,
    ),
    both(
        "3.10.4-1",
        "3.10.4-1",
        "Filters are compared character by character; the one that is equal goes.",
        compared,
    ),
    both(
        "3.10.4-2",
        "3.10.4-2",
        "No new messages are added for delivery.",
        no_new,
    ),
    both(
        "3.10.4-3",
        "3.10.4-3",
        "Deliveries that have begun are completed.",
        begun_completed,
    ),
    both(
        "3.10.4-4",
        "3.10.4-4",
        "UNSUBSCRIBE is answered with UNSUBACK.",
        answered,
    ),
    both(
        "3.10.4-5",
        "3.10.4-5",
        "UNSUBACK comes with the same identifier even when nothing is removed.",
        nothing_removed,
    ),
    both(
        "3.10.4-6",
        "3.10.4-6",
        "Several filters are taken as several UNSUBSCRIBEs, with one UNSUBACK.",
        several,
    ),
    v5(
        "3.11.3-1",
        "The codes have the order of the filters.",
        order,
    ),
    v5("3.11.3-2", "Only the listed codes are used.", order),
];

fn flags(b: &Broker) -> Outcome {
    for flags in [0, 1, 3, 6, 10] {
        let frame = unsubscribe(b.version, 1, &[b.topic()]).flags(flags);
        b.after(&frame)
            .map_err(|f| Failure(format!("flags {flags}: {}", f.0)))?;
    }
    held("5 other values, each closed")
}

fn filter_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        let good = b.topic().into_bytes();
        b.after(&unsubscribe(b.version, 1, &[good, bytes.to_vec()]))?;
    }
    held("5 ill-formed filters behind a good one, each closed")
}

fn no_filter(b: &Broker) -> Outcome {
    let none: [&str; 0] = [];
    held(b.after(&unsubscribe(b.version, 1, &none))?)
}

fn compared(b: &Broker) -> Outcome {
    let topic = b.topic();
    let filter = format!("{topic}/+");
    let mut client = b.subscriber(&filter, 1)?;
    // Filters that match the same topics, or some of them, or look alike.
    for other in [
        format!("{topic}/#"),
        format!("{topic}/a"),
        filter.to_uppercase(),
    ] {
        client.unsubscribe(&[&other])?;
    }
    b.put(&Message::new(format!("{topic}/a"), "still").qos(1))?;
    client.take_payload("still")?;
    client.unsubscribe(&[&filter])?;
    b.put(&Message::new(format!("{topic}/a"), "no more").qos(1))?;
    client.silent()?;
    held("3 others left it alone, its own removed it")
}

fn no_new(b: &Broker) -> Outcome {
    let (topic, other) = (b.topic(), b.topic());
    let mut client = b.client()?;
    client.subscribe(&topic, 1)?;
    client.subscribe(&other, 1)?;
    client.unsubscribe(&[&topic])?;
    let mut publisher = b.client()?;
    for qos in 0..3 {
        publisher.put(&Message::new(&topic, "x").qos(qos))?;
    }
    publisher.put(&Message::new(&other, "marker").qos(1))?;
    client.take_payload("marker")?;
    client.silent()?;
    held("none of 3, and another subscription works on")
}

fn begun_completed(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = b.client()?;
    publisher.put(&Message::new(&topic, "one").qos(1))?;
    let one = client.delivery()?;
    publisher.put(&Message::new(&topic, "two").qos(2))?;
    let two = client.delivery()?;
    client.unsubscribe(&[&topic])?;
    client.send(&ack(kind::PUBREC, two.id));
    client.acked(kind::PUBREL, two.id)?;
    client.cut()?;
    // Both are still under way: the QoS 1 message and the PUBREL come again.
    let mut client = b.open(&b.lasting(&id))?;
    client.acked(kind::PUBREL, two.id)?;
    client.send(&ack(kind::PUBCOMP, two.id));
    let again = client.take_payload("one")?;
    demand!(
        again.id == one.id,
        "identifier {} instead of {}",
        again.id,
        one.id
    );
    held("a QoS 1 message and the end of a QoS 2 handshake, over a reconnect")
}

fn answered(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 1)?;
    client.unsubscribe(&[&topic])?;
    held("UNSUBACK")
}

fn nothing_removed(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let codes = client.unsubscribe(&[&b.topic()])?;
    demand!(b.version == Version::V3 || codes == [0x11], "{codes:02x?}");
    held(format!("UNSUBACK {codes:02x?}"))
}

fn several(b: &Broker) -> Outcome {
    let topic = b.topic();
    let name = |n: u16| format!("{topic}/{n}");
    let mut client = b.client()?;
    for n in 0..4 {
        client.subscribe(&name(n), 1)?;
    }
    client.unsubscribe(&[&name(0), &name(2), &b.topic()])?;
    client.silent()?;
    for n in 0..4 {
        b.put(&Message::new(name(n), n.to_string()).qos(1))?;
    }
    client.take_payload("1")?;
    client.take_payload("3")?;
    client.silent()?;
    held("3 filters, one UNSUBACK, two subscriptions gone")
}

fn order(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 1)?;
    let codes = client.unsubscribe(&[&b.topic(), &topic, &b.topic(), &topic])?;
    demand!(codes == [0x11, 0, 0x11, 0x11], "{codes:02x?}");
    held("unknown, known, unknown, and the known one again: [11, 00, 11, 11]")
}
