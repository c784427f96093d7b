//! Subscription options of MQTT 5.0: section 3.8.3.1. Retain handling is in `retain`.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.8.3-3",
        "With no local a client's own messages do not come back to it.",
        no_local,
    ),
    v5(
        "3.8.3.1/retain-handling",
        "Retain handling 3 ends the connection.",
        retain_handling_three,
    ),
    v5(
        "3.8.3.1/qos",
        "A maximum QoS of 3 ends the connection.",
        qos_three,
    ),
    v5("3.8.3.1/kept", "The options are part of the session.", kept),
];

fn no_local(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1 | option::NO_LOCAL)?;
    for qos in 0..3 {
        client.put(&Message::new(&topic, "own").qos(qos))?;
    }
    client.silent()?;
    b.put(&Message::new(&topic, "foreign").qos(1))?;
    client.take_payload("foreign")?;
    // The client id counts, not the connection.
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    client.put(&Message::new(&topic, "own").qos(1))?;
    client.silent()?;
    held("own ones at QoS 0 to 2 stayed away, over a reconnect too; a foreign one came")
}

fn refused(b: &Broker, options: u8) -> Outcome {
    let none = Properties::new();
    held(b.after(&subscribe(b.version, 1, &none, &[(b.topic(), options)]))?)
}

fn retain_handling_three(b: &Broker) -> Outcome {
    refused(b, 0x31)
}

fn qos_three(b: &Broker) -> Outcome {
    refused(b, 0x03)
}

fn kept(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1 | option::RETAIN_AS_PUBLISHED | option::NO_LOCAL)?;
    client.disconnect()?;
    b.put(&Message::new(&topic, "away").qos(1).retain())?;
    let mut client = b.open(&b.lasting(&id))?;
    client.put(&Message::new(&topic, "own").qos(1))?;
    b.put(&Message::new(&topic, "back").qos(1).retain())?;
    for payload in ["away", "back"] {
        let delivery = client.take_payload(payload)?;
        demand!(delivery.retain, "no RETAIN on {payload}");
    }
    held("retain as published and no local after a reconnect")
}
