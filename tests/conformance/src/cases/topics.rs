//! Topic names and filters: section 4.7.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "4.7.1-1",
        "4.7.0-1",
        "Wildcards are for filters, not for topic names.",
        not_in_names,
    ),
    both(
        "4.7.1-2",
        "4.7.1-1",
        "# stands alone or behind a /, and last.",
        multi_level,
    ),
    both(
        "4.7.1-3",
        "4.7.1-2",
        "+ takes a whole level, any of them.",
        single_level,
    ),
    both(
        "4.7.2-1",
        "4.7.2-1",
        "Filters that start with a wildcard do not match topics that start with $.",
        dollar,
    ),
    both(
        "4.7.3-1",
        "4.7.3-1",
        "Topic names and filters have at least one character.",
        not_empty,
    ),
    both(
        "4.7.3-2",
        "4.7.3-2",
        "Topic names and filters have no U+0000.",
        no_null,
    ),
    both(
        "4.7.3-3",
        "4.7.3-3",
        "Topic names and filters have up to 65535 bytes.",
        longest,
    ),
    both(
        "4.7.3-4",
        "4.7.3-4",
        "Topics are compared as they are, without normalisation.",
        as_they_are,
    ),
];

fn not_in_names(b: &Broker) -> Outcome {
    for name in [
        "#",
        "+",
        "conformance/#",
        "conformance/+/x",
        "conformance/a+",
    ] {
        let said = b.after(&Message::new(name, "x").qos(1).id(1).frame(b.version));
        said.map_err(|f| Failure(format!("{name:?}: {}", f.0)))?;
    }
    for name in ["#", "conformance/+"] {
        let said = b
            .send(&b.fresh(&b.name()).will(Will::new(name, "x")))?
            .refused();
        said.map_err(|f| Failure(format!("will topic {name:?}: {}", f.0)))?;
    }
    held("5 names and 2 will topics, each closed")
}

/// A filter that must not be granted: refused by code, or by the end of the connection.
fn filters_refused(b: &Broker, filters: &[&str]) -> Result<String, Failure> {
    let mut seen = Vec::new();
    for filter in filters {
        let mut client = b.client()?;
        client.send(&subscribe(b.version, 1, &Properties::new(), &[(filter, 1)]));
        match client.suback(1) {
            Ok(codes) => {
                demand!(
                    codes.len() == 1 && codes[0] >= 0x80,
                    "{filter:?}: {codes:02x?}"
                );
                seen.push(format!("{filter:?} 0x{:02x}", codes[0]));
            }
            Err(failure) => {
                demand!(failure.0.starts_with("closed"), "{filter:?}: {}", failure.0);
                seen.push(format!("{filter:?} closed"));
            }
        }
    }
    Ok(seen.join(", "))
}

/// What a subscriber with this filter gets of messages to these topics. `$` stands for the case's own
/// first levels.
fn matches(b: &Broker, filter: &str, topics: &[&str]) -> Result<Vec<String>, Failure> {
    let own = b.topic();
    let mut subscriber = b.subscriber(&filter.replace('$', &own), 1)?;
    let mut publisher = b.client()?;
    for topic in topics {
        publisher.put(&Message::new(topic.replace('$', &own), *topic).qos(1))?;
    }
    let mut came = Vec::new();
    loop {
        let packets = subscriber.rest()?;
        if packets.is_empty() {
            return Ok(came);
        }
        for packet in packets {
            let Packet::Publish(delivery) = packet else {
                continue;
            };
            subscriber.acknowledge(&delivery)?;
            came.push(String::from_utf8_lossy(&delivery.payload).into_owned());
        }
    }
}

fn all_match(b: &Broker, table: &[(&str, &[&str], &[&str])]) -> Result<(), Failure> {
    for (filter, yes, no) in table {
        let came = matches(b, filter, &[*yes, *no].concat())?;
        demand!(came == *yes, "{filter:?} let {came:?} through, not {yes:?}");
    }
    Ok(())
}

fn multi_level(b: &Broker) -> Outcome {
    let seen = filters_refused(b, &["a#", "a/b#", "a/#/b", "#/a", "##", "#a"])?;
    all_match(
        b,
        &[("$/#", &["$", "$/", "$/a", "$/a/b/c"], &["$a", "x/$"])],
    )?;
    // On its own it takes everything.
    let topic = b.topic();
    let mut client = b.subscriber("#", 0)?;
    b.put(&Message::new(&topic, "x"))?;
    while client.take()?.topic != topic {}
    held(seen)
}

fn single_level(b: &Broker) -> Outcome {
    let seen = filters_refused(b, &["a+", "+a", "a/b+/c", "a/++", "+#"])?;
    all_match(
        b,
        &[
            ("$/+", &["$/a", "$/"], &["$", "$/a/b"]),
            ("$/+/b", &["$/a/b", "$//b"], &["$/a/c", "$/b", "$/a/a/b"]),
            ("$/+/+", &["$/a/b", "$//"], &["$/a"]),
            ("+/$/a", &["/$/a", "x/$/a"], &["$/a", "x/y/$/a"]),
            ("$/+/#", &["$/a", "$/a/b/c"], &["$"]),
        ],
    )?;
    held(seen)
}

fn dollar(b: &Broker) -> Outcome {
    let own = b.name();
    let name = format!("$conformance/{own}/x");
    let mut wild = b.subscriber("#", 0)?;
    wild.subscribe(&format!("+/{own}/x"), 0)?;
    wild.subscribe(&format!("+/{own}/#"), 0)?;
    let mut exact = b.client()?;
    let codes = exact.subscribe_all(&[(format!("$conformance/{own}/#"), 1)], &Properties::new())?;
    let mut publisher = b.client()?;
    let taken = publisher.put(&Message::new(&name, "dollar").qos(1));
    b.put(&Message::new(format!("plain/{own}/x"), "marker"))?;
    loop {
        let delivery = wild.take()?;
        demand!(
            !delivery.topic.starts_with('$'),
            "{:?} came",
            delivery.topic
        );
        if delivery.payload == b"marker" && delivery.topic == format!("plain/{own}/x") {
            break;
        }
    }
    // Whether clients may use such topics is the broker's own affair.
    if codes == [1] && taken.is_ok() {
        exact.take_payload("dollar")?;
        return held("a message under $conformance reached its own filter, and no wildcard");
    }
    held("none came to #, +/... and +/.../#; clients may not publish there")
}

fn not_empty(b: &Broker) -> Outcome {
    let said = b.after(&Message::new("", "x").frame(b.version))?;
    let filter = filters_refused(b, &[""])?;
    held(format!("name: {said}; filter: {filter}"))
}

fn no_null(b: &Broker) -> Outcome {
    let topic = format!("{}\0x", b.topic());
    b.after(&Message::new(&topic, "x").frame(b.version))?;
    let none = Properties::new();
    b.after(&subscribe(b.version, 1, &none, &[(&topic, 1)]))?;
    b.after(&unsubscribe(b.version, 1, &[&topic]))?;
    b.send(&b.fresh(&b.name()).will(Will::new(&topic, "x")))?
        .refused()?;
    held("in PUBLISH, SUBSCRIBE, UNSUBSCRIBE and a will, each closed")
}

fn longest(b: &Broker) -> Outcome {
    let topic = b.topic();
    let long = format!("{topic}/{}", "x".repeat(65_535 - topic.len() - 1));
    let mut client = b.subscriber(&long, 1)?;
    b.put(&Message::new(&long, "x").qos(1))?;
    let delivery = client.take_payload("x")?;
    demand!(
        delivery.topic == long,
        "another topic of {} bytes",
        delivery.topic.len()
    );
    held("one of 65535 bytes, subscribed to, published and delivered")
}

fn as_they_are(b: &Broker) -> Outcome {
    let names = [
        "$/\u{e9}",
        "$/e\u{301}",
        "$/E\u{301}",
        "$/a",
        "$/A",
        "$/a/",
        "$//a",
        "$/ a",
        "$/a ",
        "$/./a",
        "$/\u{fb01}",
        "$/fi",
        "$/%61",
    ];
    for filter in names {
        let came = matches(b, filter, &names)?;
        demand!(came == [filter], "{filter:?} let {came:?} through");
    }
    held("13 names that look alike: each matches itself alone")
}
