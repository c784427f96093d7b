//! Topic aliases in both directions: sections 3.1.2.11.5, 3.2.2.3.8 and 3.3.2.3.4.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.1.2-26",
        "The broker's aliases stay within the client's maximum.",
        within_maximum,
    ),
    v5(
        "3.1.2-27",
        "Without a maximum the broker sends no alias.",
        none_without_maximum,
    ),
    v5(
        "3.2.2-17",
        "An alias above the broker's maximum ends the connection.",
        above_maximum,
    ),
    v5(
        "3.2.2-18",
        "Where the broker takes no alias, one ends the connection.",
        none_taken,
    ),
    v5(
        "3.3.2-7",
        "Aliases are not carried over to another connection.",
        not_carried_over,
    ),
    v5("3.3.2-8", "Alias 0 ends the connection.", zero),
    v5(
        "3.3.2-9",
        "A client's alias is not above the broker's maximum.",
        above_maximum,
    ),
    v5(
        "3.3.2-11",
        "The broker's alias is not above the client's maximum.",
        within_maximum,
    ),
    v5(
        "3.3.2-12",
        "Every alias up to the broker's maximum is taken.",
        all_taken,
    ),
    v5(
        "3.3.2.3.4/unknown",
        "An alias without a topic that was never set ends the connection.",
        unknown,
    ),
    v5(
        "3.3.2.3.4/again",
        "An alias can be given another topic.",
        set_again,
    ),
];

fn alias(value: u16) -> Properties {
    Properties::new().two(property::TOPIC_ALIAS, value)
}

/// How many aliases the broker takes.
fn maximum(b: &Broker) -> Result<u16, Failure> {
    let told = b.client()?.connack.number(property::TOPIC_ALIAS_MAXIMUM);
    Ok(told.unwrap_or(0) as u16)
}

/// The aliases that the broker uses for 8 topics, each published 3 times, when it may use so many.
fn used(b: &Broker, maximum: Option<u16>) -> Result<Vec<u32>, Failure> {
    let topic = b.topic();
    let mut connect = b.fresh(&b.name());
    if let Some(maximum) = maximum {
        connect = connect.properties(Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, maximum));
    }
    let mut subscriber = b.open(&connect)?;
    subscriber.subscribe(&format!("{topic}/#"), 1)?;
    let mut publisher = b.client()?;
    let mut known: Vec<(u32, String)> = Vec::new();
    for n in 0..24 {
        let name = format!("{topic}/{}", n % 8);
        publisher.put(&Message::new(&name, n.to_string()).qos(n % 2))?;
        let delivery = subscriber.take_payload(&n.to_string())?;
        let mut came = delivery.topic;
        if let Some(alias) = delivery.properties.number(property::TOPIC_ALIAS) {
            if came.is_empty() {
                let known = known.iter().rev().find(|(a, _)| *a == alias);
                let Some((_, topic)) = known else {
                    return Err(Failure(format!("alias {alias} was never set")));
                };
                came.clone_from(topic);
            } else {
                known.push((alias, came.clone()));
            }
        }
        demand!(came == name, "{came:?} instead of {name:?}");
    }
    Ok(known.into_iter().map(|(alias, _)| alias).collect())
}

fn within_maximum(b: &Broker) -> Outcome {
    let used = used(b, Some(3))?;
    demand!(used.iter().all(|alias| *alias <= 3), "aliases {used:?}");
    held(format!("of 3 it used {}, for 8 topics", used.len().min(3)))
}

fn none_without_maximum(b: &Broker) -> Outcome {
    for maximum in [None, Some(0)] {
        let used = used(b, maximum)?;
        demand!(
            used.is_empty(),
            "aliases {used:?} with a maximum of {maximum:?}"
        );
    }
    held("without the property, and with 0: none")
}

fn above_maximum(b: &Broker) -> Outcome {
    let Some(above) = maximum(b)?.checked_add(1) else {
        return not_offered("the maximum is 65535");
    };
    let message = Message::new(b.topic(), "x").properties(alias(above));
    held(format!(
        "alias {above}: {}",
        b.after(&message.frame(b.version))?
    ))
}

fn none_taken(b: &Broker) -> Outcome {
    let maximum = maximum(b)?;
    if maximum > 0 {
        return not_offered(format!("the maximum is {maximum}"));
    }
    let message = Message::new(b.topic(), "x").properties(alias(1));
    held(b.after(&message.frame(b.version))?)
}

/// A PUBLISH that has nothing but the alias to say where it goes.
fn by_alias(value: u16, payload: &str) -> Message {
    Message::new("", payload)
        .qos(1)
        .id(1)
        .properties(alias(value))
}

fn not_carried_over(b: &Broker) -> Outcome {
    if maximum(b)? == 0 {
        return not_offered("no aliases are taken");
    }
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.put(&Message::new(&topic, "x").qos(1).properties(alias(1)))?;
    client.disconnect()?;
    let mut client = b.open(&b.lasting(&id))?;
    client.send(&by_alias(1, "y").frame(b.version));
    held(client.closed()?)
}

fn zero(b: &Broker) -> Outcome {
    held(
        b.after(
            &Message::new(b.topic(), "x")
                .properties(alias(0))
                .frame(b.version),
        )?,
    )
}

fn all_taken(b: &Broker) -> Outcome {
    let maximum = maximum(b)?;
    if maximum == 0 {
        return not_offered("no aliases are taken");
    }
    let topic = b.topic();
    let mut subscriber = b.subscriber(&format!("{topic}/+"), 1)?;
    let mut publisher = b.client()?;
    let mut some: Vec<u16> = (1..=maximum.min(64))
        .chain([maximum / 2 + 1, maximum])
        .collect();
    some.sort_unstable();
    some.dedup();
    for value in &some {
        let set = Message::new(format!("{topic}/{value}"), "set")
            .qos(1)
            .properties(alias(*value));
        publisher.put(&set)?;
        subscriber.take_payload("set")?;
    }
    for value in &some {
        let mut used = by_alias(*value, "used");
        used.id = 0;
        publisher.put(&used)?;
        let delivery = subscriber.take_payload("used")?;
        demand!(
            delivery.topic == format!("{topic}/{value}"),
            "{value}: {}",
            delivery.topic
        );
    }
    held(format!("{} of {maximum}, set and used", some.len()))
}

fn unknown(b: &Broker) -> Outcome {
    if maximum(b)? == 0 {
        return not_offered("no aliases are taken");
    }
    held(b.after(&by_alias(1, "x").frame(b.version))?)
}

fn set_again(b: &Broker) -> Outcome {
    if maximum(b)? == 0 {
        return not_offered("no aliases are taken");
    }
    let topic = b.topic();
    let mut subscriber = b.subscriber(&format!("{topic}/+"), 1)?;
    let mut publisher = b.client()?;
    for name in ["first", "second"] {
        let name = format!("{topic}/{name}");
        publisher.put(&Message::new(&name, "set").qos(1).properties(alias(1)))?;
        subscriber.take_payload("set")?;
        let mut used = by_alias(1, "used");
        used.id = 0;
        publisher.put(&used)?;
        let delivery = subscriber.take_payload("used")?;
        demand!(
            delivery.topic == name,
            "{} instead of {name}",
            delivery.topic
        );
    }
    held("the second topic replaced the first")
}
