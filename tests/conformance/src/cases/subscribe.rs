//! SUBSCRIBE and SUBACK: sections 3.8 and 3.9.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.8.1-1",
        "3.8.1-1",
        "Other flags than 0010 on SUBSCRIBE end the connection.",
        flags,
    ),
    both(
        "3.8.3-1",
        "3.8.3-1",
        "Topic filters are UTF-8.",
        filter_text,
    ),
    v3(
        "3.8.3-2",
        "A broker without wildcards refuses filters that have some.",
        wildcards,
    ),
    both(
        "3.8.3-3",
        "3.8.3-2",
        "A SUBSCRIBE has at least one filter.",
        no_filter,
    ),
    v3(
        "3.8.3-4",
        "Reserved bits, or QoS 3, end the connection.",
        reserved_bits,
    ),
    v5(
        "3.8.3-5",
        "Reserved bits in the options end the connection.",
        reserved_bits,
    ),
    both(
        "3.8.4-1",
        "3.8.4-1",
        "SUBSCRIBE is answered with SUBACK.",
        answered,
    ),
    both(
        "3.8.4-2",
        "3.8.4-2",
        "SUBACK has the identifier of the SUBSCRIBE.",
        identifier,
    ),
    both(
        "3.8.4-3",
        "3.8.4-3",
        "The same filter again replaces the subscription.",
        replaced,
    ),
    v5(
        "3.8.4-4",
        "Replacing sends retained messages again and loses none of the others.",
        replaced_without_loss,
    ),
    both(
        "3.8.4-4",
        "3.8.4-5",
        "Several filters are taken as several SUBSCRIBEs, with one SUBACK.",
        several,
    ),
    both(
        "3.8.4-5",
        "3.8.4-6",
        "SUBACK has a code for each filter.",
        code_for_each,
    ),
    v5(
        "3.8.4-7",
        "Each code is the granted QoS or says that it failed.",
        granted_or_failed,
    ),
    both(
        "3.8.4-6",
        "3.8.4-8",
        "Messages come at the lower of their QoS and the granted one.",
        lower_qos,
    ),
    both(
        "3.9.3-1",
        "3.9.3-1",
        "The codes have the order of the filters.",
        order,
    ),
    both(
        "3.9.3-2",
        "3.9.3-2",
        "Only the listed codes are used.",
        codes,
    ),
];

const NONE: &Properties = &Properties(Vec::new());

fn flags(b: &Broker) -> Outcome {
    for flags in [0, 1, 3, 6, 10] {
        let frame = subscribe(b.version, 1, NONE, &[(b.topic(), 0)]).flags(flags);
        b.after(&frame)
            .map_err(|f| Failure(format!("flags {flags}: {}", f.0)))?;
    }
    held("5 other values, each closed")
}

fn filter_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        let good = (b.topic().into_bytes(), 0);
        b.after(&subscribe(b.version, 1, NONE, &[good, (bytes.to_vec(), 0)]))?;
    }
    held("5 ill-formed filters behind a good one, each closed")
}

fn wildcards(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    let filters = [(format!("{topic}/+"), 1), (format!("{topic}/a/#"), 1)];
    let codes = client.subscribe_all(&filters, NONE)?;
    if codes == [0x80, 0x80] {
        return held("refused with 0x80");
    }
    demand!(codes == [1, 1], "{codes:02x?}");
    b.put(&Message::new(format!("{topic}/x"), "x").qos(1))?;
    client.take_payload("x")?;
    b.put(&Message::new(format!("{topic}/a/b/c"), "y").qos(1))?;
    client.take_payload("y")?;
    held("granted, and they match")
}

fn no_filter(b: &Broker) -> Outcome {
    let none: [(&str, u8); 0] = [];
    held(b.after(&subscribe(b.version, 1, NONE, &none))?)
}

fn reserved_bits(b: &Broker) -> Outcome {
    let all: &[u8] = match b.version {
        Version::V3 => &[0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80],
        Version::V5 => &[0x40, 0x80, 0xc1],
    };
    for options in all {
        let said = b.after(&subscribe(b.version, 1, NONE, &[(b.topic(), *options)]));
        said.map_err(|f| Failure(format!("options 0x{options:02x}: {}", f.0)))?;
    }
    held(format!("{all:02x?}, each closed"))
}

fn answered(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for filter in [b.topic(), format!("{}/+/#", b.topic())] {
        client.subscribe(&filter, 1)?;
    }
    held("a plain filter and one with wildcards")
}

fn identifier(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for id in [1, 256, 65535, 1] {
        client.send(&subscribe(b.version, id, NONE, &[(b.topic(), 0)]));
        client.suback(id)?;
    }
    held("1, 256, 65535, and 1 again")
}

fn replaced(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    for qos in [2, 0, 1] {
        client.subscribe(&topic, qos)?;
        b.put(&Message::new(&topic, "x").qos(2))?;
        let delivery = client.take_payload("x")?;
        demand!(
            delivery.qos == qos,
            "QoS {} under a subscription at {qos}",
            delivery.qos
        );
        client.silent()?;
    }
    match b.version {
        // Retained messages come again; on 5.0 that is a statement of its own.
        Version::V3 => {
            b.put(&Message::new(&topic, "retained").qos(1).retain())?;
            client.take_payload("retained")?;
            client.subscribe(&topic, 1)?;
            let delivery = client.take_payload("retained")?;
            demand!(delivery.retain, "the retained message without RETAIN");
        }
        // The options are replaced as well.
        Version::V5 => {
            client.subscribe(&topic, 1 | option::NO_LOCAL)?;
            client.subscribe(&topic, 1)?;
            client.put(&Message::new(&topic, "own").qos(1))?;
            client
                .take_payload("own")
                .map_err(|f| Failure(format!("no local stays: {}", f.0)))?;
        }
    }
    held("at QoS 2, 0 and 1, one copy each")
}

fn replaced_without_loss(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "retained").qos(1).retain())?;
    let mut client = b.subscriber(&topic, 1)?;
    client.take_payload("retained")?;
    let mut publisher = b.client()?;
    for n in 0..20_u16 {
        let frame = Message::new(&topic, n.to_string())
            .qos(1)
            .id(n + 1)
            .frame(b.version);
        publisher.send(&frame);
        client.send(&subscribe(b.version, n + 1, NONE, &[(&topic, 1)]));
        publisher.acked(kind::PUBACK, n + 1)?;
    }
    let (mut live, mut again, mut subacks) = (Vec::new(), 0, 0);
    while live.len() < 20 || again < 20 || subacks < 20 {
        match client.packet()? {
            Packet::Publish(delivery) => {
                client.acknowledge(&delivery)?;
                let payload = String::from_utf8_lossy(&delivery.payload).into_owned();
                if delivery.retain {
                    demand!(payload == "retained", "RETAIN on {payload}");
                    again += 1;
                } else {
                    live.push(payload);
                }
            }
            Packet::SubAck { .. } => subacks += 1,
            other => demand!(false, "{other}"),
        }
    }
    let wanted: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    demand!(live == wanted, "{live:?}");
    held("20 times replaced under 20 messages: all came once, and the retained one each time")
}

fn several(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    let filters: Vec<(String, u8)> = (0..6).map(|n| (format!("{topic}/{n}"), n % 3)).collect();
    let codes = client.subscribe_all(&filters, NONE)?;
    demand!(codes == [0, 1, 2, 0, 1, 2], "{codes:02x?}");
    client.silent()?;
    for (name, qos) in &filters {
        b.put(&Message::new(name, name).qos(2))?;
        let delivery = client.take_payload(name)?;
        demand!(delivery.qos == *qos, "QoS {} at {name}", delivery.qos);
    }
    // The same filter twice in one packet: the second replaces the first.
    let codes = client.subscribe_all(&[(&topic, 2), (&topic, 0)], NONE)?;
    demand!(codes == [2, 0], "{codes:02x?}");
    b.put(&Message::new(&topic, "twice").qos(1))?;
    let delivery = client.take_payload("twice")?;
    demand!(delivery.qos == 0, "QoS {}", delivery.qos);
    client.silent()?;
    held("6 filters and one SUBACK; of the same filter twice the second counts")
}

fn code_for_each(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for count in [1, 2, 50] {
        let filters: Vec<(String, u8)> = (0..count).map(|_| (b.topic(), 1)).collect();
        let codes = client.subscribe_all(&filters, NONE)?;
        demand!(
            codes == vec![1; count],
            "{} codes for {count} filters",
            codes.len()
        );
    }
    held("for 1, 2 and 50 filters")
}

fn granted_or_failed(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let filters = [(b.topic(), 0), (b.topic(), 1), (b.topic(), 2)];
    let codes = client.subscribe_all(&filters, NONE)?;
    demand!(
        codes.iter().zip(0..).all(|(code, asked)| *code <= asked),
        "{codes:02x?}"
    );
    for ((topic, _), granted) in filters.iter().zip(&codes) {
        b.put(&Message::new(topic, "x").qos(2))?;
        let delivery = client.take_payload("x")?;
        demand!(
            delivery.qos == *granted,
            "QoS {} where {granted} is granted",
            delivery.qos
        );
    }
    held(format!("{codes:02x?}, and the messages come like that"))
}

fn lower_qos(b: &Broker) -> Outcome {
    let mut publisher = b.client()?;
    for granted in 0..3 {
        let topic = b.topic();
        let mut client = b.subscriber(&topic, granted)?;
        for published in 0..3 {
            publisher.put(&Message::new(&topic, "x").qos(published))?;
            let delivery = client.take_payload("x")?;
            let wanted = published.min(granted);
            demand!(
                delivery.qos == wanted,
                "published at {published}, granted {granted}: came at {}",
                delivery.qos
            );
        }
    }
    held("3 by 3")
}

fn order(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    let asked = [2, 0, 1, 1, 0, 0];
    let filters: Vec<_> = asked
        .iter()
        .zip(0..)
        .map(|(q, n)| (format!("{topic}/{n}"), *q))
        .collect();
    let codes = client.subscribe_all(&filters, NONE)?;
    demand!(codes == asked, "{codes:02x?} for {asked:?}");
    held(format!("{codes:02x?}"))
}

fn codes(b: &Broker) -> Outcome {
    // The reader takes no others. Filters that brokers may refuse by code are asked for one by one,
    // as they may as well close the connection.
    let mut seen = Vec::new();
    for filter in ["$SYS/#", "$share/group/a", "a/#/b", "a+", ""] {
        let mut client = b.client()?;
        client.send(&subscribe(b.version, 1, NONE, &[(filter, 1)]));
        match client.suback(1) {
            Ok(codes) => seen.push(format!("{filter:?} {codes:02x?}")),
            Err(failure) => {
                demand!(failure.0.starts_with("closed"), "{filter:?}: {}", failure.0);
                seen.push(format!("{filter:?} closed"));
            }
        }
    }
    held(seen.join(", "))
}
