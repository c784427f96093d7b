//! Properties of PUBLISH and what becomes of them on the way: section 3.3.2.3.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.3.2-4",
        "The payload format indicator is passed on.",
        payload_format,
    ),
    v5(
        "3.3.2-5",
        "A message that expired while it waited is not delivered.",
        expired,
    ),
    v5(
        "3.3.2-6",
        "The expiry is passed on less the time that the message waited.",
        expiry_counts_down,
    ),
    v5(
        "3.3.2-13",
        "The response topic is UTF-8.",
        response_topic_text,
    ),
    v5(
        "3.3.2-14",
        "The response topic has no wildcards.",
        response_topic_wildcards,
    ),
    v5(
        "3.3.2-15",
        "The response topic is passed on.",
        response_topic,
    ),
    v5(
        "3.3.2-16",
        "The correlation data is passed on.",
        correlation_data,
    ),
    v5(
        "3.3.2-17",
        "User properties are passed on.",
        user_properties,
    ),
    v5(
        "3.3.2-18",
        "User properties keep their order.",
        user_properties_order,
    ),
    v5("3.3.2-19", "The content type is UTF-8.", content_type_text),
    v5("3.3.2-20", "The content type is passed on.", content_type),
    v5(
        "3.3.2.3.3/retained",
        "A retained message expires as well.",
        retained_expires,
    ),
    v5(
        "3.3.2.3/other-version",
        "Clients of both versions reach each other; 3.1.1 sees no properties.",
        other_version,
    ),
];

/// The message as two subscribers get it: one that is there, one that comes back.
fn passed_on(b: &Broker, properties: Properties) -> Result<[Delivery; 2], Failure> {
    let (id, topic) = (b.name(), b.topic());
    let mut away = b.open(&b.lasting(&id))?;
    away.subscribe(&topic, 1)?;
    away.disconnect()?;
    let mut there = b.subscriber(&topic, 1)?;
    b.put(&Message::new(&topic, "x").qos(1).properties(properties))?;
    Ok([there.take()?, b.open(&b.lasting(&id))?.take()?])
}

fn payload_format(b: &Broker) -> Outcome {
    for value in [0, 1] {
        let sent = Properties::new().byte(property::PAYLOAD_FORMAT, value);
        for delivery in passed_on(b, sent)? {
            // 0 says what its absence says.
            let came = delivery.properties.number(property::PAYLOAD_FORMAT);
            let right = came == Some(u32::from(value)) || (value == 0 && came.is_none());
            demand!(right, "{value} came as {came:?}");
        }
    }
    let none = passed_on(b, Properties::new())?;
    let came = none[0].properties.number(property::PAYLOAD_FORMAT);
    demand!(came.is_none(), "none came as {came:?}");
    held("0, 1 and none, at once and from a queue")
}

fn expiry(seconds: u32) -> Properties {
    Properties::new().four(property::MESSAGE_EXPIRY, seconds)
}

fn expired(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    client.disconnect()?;
    b.put(&Message::new(&topic, "short").qos(1).properties(expiry(1)))?;
    b.put(&Message::new(&topic, "short").qos(2).properties(expiry(1)))?;
    b.put(&Message::new(&topic, "long").qos(1).properties(expiry(600)))?;
    b.pass(Duration::from_millis(2500));
    let mut client = b.open(&b.lasting(&id))?;
    client.take_payload("long")?;
    client.silent()?;
    held("two of 1 s were gone after 2.5 s, one of 600 s came")
}

fn expiry_counts_down(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    let mut there = b.subscriber(&topic, 1)?;
    b.put(&Message::new(&topic, "x").qos(1).properties(expiry(600)))?;
    let at_once = there.take()?.properties.number(property::MESSAGE_EXPIRY);
    demand!(
        matches!(at_once, Some(590..=600)),
        "600 s came as {at_once:?} at once"
    );
    b.pass(Duration::from_millis(2100));
    let later = b
        .open(&b.lasting(&id))?
        .take()?
        .properties
        .number(property::MESSAGE_EXPIRY);
    demand!(
        matches!(later, Some(590..=598)),
        "600 s came as {later:?} after 2.1 s"
    );
    held(format!(
        "600 s came as {at_once:?}, and as {later:?} after 2.1 s"
    ))
}

fn retained_expires(b: &Broker) -> Outcome {
    let (short, long) = (b.topic(), b.topic());
    for (topic, seconds) in [(&short, 1), (&long, 600)] {
        b.put(
            &Message::new(topic, "x")
                .qos(1)
                .retain()
                .properties(expiry(seconds)),
        )?;
    }
    b.pass(Duration::from_millis(2500));
    let came = b.subscriber(&short, 1)?.rest()?;
    demand!(came.is_empty(), "{} after 2.5 s", came[0]);
    let left = b.subscriber(&long, 1)?.take_payload("x")?.properties;
    let left = left.number(property::MESSAGE_EXPIRY);
    demand!(
        matches!(left, Some(590..=598)),
        "600 s came as {left:?} after 2.5 s"
    );
    held(format!("1 s, gone after 2.5 s; 600 s came as {left:?}"))
}

fn response_topic_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        let properties = Properties::new().field(property::RESPONSE_TOPIC, bytes);
        b.after(
            &Message::new(b.topic(), "x")
                .properties(properties)
                .frame(b.version),
        )?;
    }
    held("5 ill-formed response topics, each closed")
}

fn response_topic_wildcards(b: &Broker) -> Outcome {
    for topic in ["a/#", "+/a", "#", "a+"] {
        let properties = Properties::new().field(property::RESPONSE_TOPIC, topic);
        let message = Message::new(b.topic(), "x").properties(properties);
        let said = b.after(&message.frame(b.version));
        said.map_err(|f| Failure(format!("{topic:?}: {}", f.0)))?;
    }
    held("4 response topics with + and #, each closed")
}

fn response_topic(b: &Broker) -> Outcome {
    let sent = "answers/\u{e9}/\u{1F30A}";
    for delivery in passed_on(b, Properties::new().field(property::RESPONSE_TOPIC, sent))? {
        let came = delivery.properties.text(property::RESPONSE_TOPIC);
        demand!(came == Some(sent), "{came:?}");
    }
    held("at once and from a queue")
}

fn correlation_data(b: &Broker) -> Outcome {
    let all: Vec<u8> = (0..=255).collect();
    for sent in [all.as_slice(), b""] {
        for delivery in passed_on(b, Properties::new().field(property::CORRELATION_DATA, sent))? {
            let came = delivery.properties.binary(property::CORRELATION_DATA);
            demand!(came == Some(sent), "{came:?} for {} bytes", sent.len());
        }
    }
    held("all 256 byte values, and no byte")
}

const PAIRS: [(&str, &str); 6] = [
    ("z", "1"),
    ("a", "2"),
    ("z", "3"),
    ("", "empty name"),
    ("empty value", ""),
    ("z", "1"),
];

fn with_pairs() -> Properties {
    PAIRS
        .iter()
        .fold(Properties::new(), |p, (name, value)| p.pair(name, value))
}

fn user_properties(b: &Broker) -> Outcome {
    for delivery in passed_on(b, with_pairs())? {
        let mut came = delivery.properties.pairs();
        let mut sent = PAIRS.to_vec();
        came.sort_unstable();
        sent.sort_unstable();
        demand!(came == sent, "{came:?}");
    }
    held("6 pairs, equal and empty ones among them")
}

fn user_properties_order(b: &Broker) -> Outcome {
    for delivery in passed_on(b, with_pairs())? {
        let came = delivery.properties.pairs();
        demand!(came == PAIRS, "{came:?}");
    }
    held("6 pairs in their order, at once and from a queue")
}

fn content_type_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        let properties = Properties::new().field(property::CONTENT_TYPE, bytes);
        b.after(
            &Message::new(b.topic(), "x")
                .properties(properties)
                .frame(b.version),
        )?;
    }
    held("5 ill-formed content types, each closed")
}

fn content_type(b: &Broker) -> Outcome {
    for sent in ["application/json; x=\u{e9}", ""] {
        for delivery in passed_on(b, Properties::new().field(property::CONTENT_TYPE, sent))? {
            let came = delivery.properties.text(property::CONTENT_TYPE);
            demand!(came == Some(sent), "{came:?}");
        }
    }
    held("at once and from a queue")
}

fn other_version(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut old = b.open(&Connect::new(Version::V3, &b.name()))?;
    let mut new = b.client()?;
    // The readers of both versions take their own packets only.
    old.subscribe(&topic, 2)?;
    new.subscribe(&topic, 2)?;
    for qos in 0..3 {
        let properties = Properties::new()
            .field(property::CONTENT_TYPE, "text")
            .pair("a", "b");
        new.put(
            &Message::new(&topic, "from 5.0")
                .qos(qos)
                .properties(properties),
        )?;
        let delivery = old.take_payload("from 5.0")?;
        demand!(delivery.qos == qos, "QoS {qos} came at {}", delivery.qos);
        let came = new.take_payload("from 5.0")?.properties;
        demand!(came.0.len() == 2, "{came:?}");
        old.put(&Message::new(&topic, "from 3.1.1").qos(qos))?;
        old.take_payload("from 3.1.1")?;
        let came = new.take_payload("from 3.1.1")?.properties;
        demand!(came.0.is_empty(), "{came:?}");
    }
    // Neither does a take-over over versions make the broker speak the wrong one.
    let id = b.name();
    let mut old = b.open(&Connect::new(Version::V3, &id))?;
    let mut new = b.open(&b.fresh(&id))?;
    let said = old.closed()?;
    demand!(said == "closed", "a 3.1.1 client: {said}");
    new.ping()?;
    b.open(&Connect::new(Version::V3, &id))?.ping()?;
    new.closed()?;
    held("both ways at each QoS, and taken over both ways")
}
