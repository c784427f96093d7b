//! Subscriptions that overlap, and their identifiers: sections 3.3.4 (3.1.1: 3.3.5) and 3.8.2.1.2.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.3.5-1",
        "3.3.4-2",
        "Where subscriptions overlap, the highest QoS of them counts.",
        highest_qos,
    ),
    v5(
        "3.3.4-3",
        "Identifiers of overlapping subscriptions are sent.",
        identifiers,
    ),
    v5(
        "3.3.4-4",
        "A single copy carries the identifiers of all matching subscriptions.",
        single_copy,
    ),
    v5(
        "3.3.4-5",
        "Each of several copies carries its subscription's identifier.",
        several_copies,
    ),
    v5(
        "3.8.2.1.2/replaced",
        "A subscription made again has the new identifier, or none.",
        replaced,
    ),
    v5(
        "3.8.2.1.2/kept",
        "The identifier is part of the session.",
        kept,
    ),
    v5(
        "3.8.2.1.2/retained",
        "A retained message carries the identifier of the subscription.",
        retained,
    ),
];

fn highest_qos(b: &Broker) -> Outcome {
    let topic = b.topic();
    let name = format!("{topic}/x");
    let mut client = b.client()?;
    client.subscribe(&format!("{topic}/#"), 0)?;
    client.subscribe(&name, 2)?;
    client.subscribe(&format!("{topic}/+"), 1)?;
    for qos in [2, 1, 0] {
        b.put(&Message::new(&name, "x").qos(qos))?;
        let mut best = 0;
        let mut copies = 0;
        let mut delivery = client.take()?;
        loop {
            best = best.max(delivery.qos);
            copies += 1;
            match client.rest()?.into_iter().next() {
                Some(Packet::Publish(next)) => {
                    client.acknowledge(&next)?;
                    delivery = next;
                }
                _ => break,
            }
        }
        demand!(best == qos, "QoS {qos} came at {best}, in {copies} copies");
        demand!(copies <= 3, "{copies} copies for 3 subscriptions");
    }
    held("QoS 2, 1 and 0 under filters of QoS 0, 1 and 2")
}

fn identifier(value: usize) -> Properties {
    Properties::new().variable(property::SUBSCRIPTION_ID, value)
}

/// The identifiers of each copy that comes under two subscriptions, 7 and 70000; None where the
/// broker refuses identifiers.
fn copies(b: &Broker) -> Result<Option<Vec<Vec<u32>>>, Failure> {
    let topic = b.topic();
    let mut client = b.client()?;
    if client.connack.number(property::SUBSCRIPTION_IDS_AVAILABLE) == Some(0) {
        return Ok(None);
    }
    client.subscribe_all(&[(format!("{topic}/#"), 0)], &identifier(7))?;
    client.subscribe_all(&[(format!("{topic}/x"), 0)], &identifier(70_000))?;
    client.subscribe_all(&[(format!("{topic}/+"), 0)], &Properties::new())?;
    b.put(&Message::new(format!("{topic}/x"), "m"))?;
    let mut all = vec![client.take_payload("m")?];
    for packet in client.rest()? {
        if let Packet::Publish(delivery) = packet {
            all.push(delivery);
        }
    }
    Ok(Some(
        all.iter()
            .map(|d| d.properties.subscription_ids())
            .collect(),
    ))
}

const REFUSED: &str = "subscription identifiers are not available";

fn identifiers(b: &Broker) -> Outcome {
    let Some(copies) = copies(b)? else {
        return not_offered(REFUSED);
    };
    let mut all = copies.concat();
    all.sort_unstable();
    demand!(all == [7, 70_000], "{copies:?}");
    held(format!("{copies:?}"))
}

fn single_copy(b: &Broker) -> Outcome {
    let Some(copies) = copies(b)? else {
        return not_offered(REFUSED);
    };
    if copies.len() > 1 {
        return not_offered(format!("it sends {} copies", copies.len()));
    }
    demand!(copies == [[7, 70_000]], "{copies:?}");
    held("7 and 70000 in one PUBLISH")
}

fn several_copies(b: &Broker) -> Outcome {
    let Some(copies) = copies(b)? else {
        return not_offered(REFUSED);
    };
    if copies.len() == 1 {
        return not_offered("it sends a single copy");
    }
    let mut sorted = copies.clone();
    sorted.sort();
    let wanted: [&[u32]; 3] = [&[], &[7], &[70_000]];
    demand!(sorted == wanted, "{copies:?}");
    held("each its own")
}

fn replaced(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    if client.connack.number(property::SUBSCRIPTION_IDS_AVAILABLE) == Some(0) {
        return not_offered(REFUSED);
    }
    for (properties, wanted) in [
        (identifier(1), vec![1]),
        (identifier(2), vec![2]),
        (Properties::new(), vec![]),
    ] {
        client.subscribe_all(&[(&topic, 0)], &properties)?;
        b.put(&Message::new(&topic, "m"))?;
        let ids = client.take_payload("m")?.properties.subscription_ids();
        demand!(ids == wanted, "{ids:?} instead of {wanted:?}");
    }
    held("1, then 2, then none")
}

fn kept(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    if client.connack.number(property::SUBSCRIPTION_IDS_AVAILABLE) == Some(0) {
        return not_offered(REFUSED);
    }
    client.subscribe_all(&[(&topic, 1)], &identifier(5))?;
    client.disconnect()?;
    b.put(&Message::new(&topic, "away").qos(1))?;
    let mut client = b.open(&b.lasting(&id))?;
    b.put(&Message::new(&topic, "back").qos(1))?;
    for payload in ["away", "back"] {
        let ids = client.take_payload(payload)?.properties.subscription_ids();
        demand!(ids == [5], "{ids:?} on {payload}");
    }
    held("on a message that waited and on one after the return")
}

fn retained(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    if client.connack.number(property::SUBSCRIPTION_IDS_AVAILABLE) == Some(0) {
        return not_offered(REFUSED);
    }
    b.put(&Message::new(&topic, "x").qos(1).retain())?;
    client.subscribe_all(&[(&topic, 1)], &identifier(11))?;
    let ids = client.take_payload("x")?.properties.subscription_ids();
    demand!(ids == [11], "{ids:?}");
    held("11")
}
