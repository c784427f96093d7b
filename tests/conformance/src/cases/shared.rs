//! Shared subscriptions: section 4.8.2.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.8.3-4",
        "No local on a shared subscription ends the connection.",
        no_local,
    ),
    v5(
        "4.8.2-1",
        "A shared filter starts with $share/ and has a name.",
        name_missing,
    ),
    v5(
        "4.8.2-2",
        "The share name has no / + #, and a filter follows it.",
        name_wrong,
    ),
    v5(
        "4.8.2-3",
        "The granted QoS of each member counts.",
        granted_qos,
    ),
    v5(
        "4.8.2-4",
        "A QoS 2 delivery that has begun is completed with the same member.",
        same_member,
    ),
    v5(
        "4.8.2-5",
        "If that member's session ends, nobody else gets the message.",
        ended_member,
    ),
    v5(
        "4.8.2-6",
        "A message that a member refuses goes to nobody else.",
        refused_by_member,
    ),
    v5(
        "4.8.2/unavailable",
        "Where shared subscriptions are not available, SUBSCRIBE says 0x9e or the connection ends.",
        unavailable,
    ),
    v5(
        "4.8.2/one-of-many",
        "Each message goes to one member of each group.",
        one_of_many,
    ),
    v5(
        "4.8.2/not-shared-too",
        "A shared and a plain subscription of one client are two.",
        beside_plain,
    ),
    v5(
        "4.8.2/leaving",
        "Who unsubscribes or goes is left out; the others get all.",
        leaving,
    ),
    v5(
        "4.8.2/no-retained",
        "A shared subscription is given no retained messages.",
        no_retained,
    ),
    v5(
        "4.8.2/identifier",
        "A shared subscription has its identifier.",
        identifier,
    ),
];

const NOT: &str = "shared subscriptions are not available";

/// Whether the broker says that it has none.
fn missing(b: &Broker) -> Result<bool, Failure> {
    Ok(b.client()?.connack.number(property::SHARED_AVAILABLE) == Some(0))
}

fn no_local(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let filter = format!("$share/{}/{}", b.name(), b.topic());
    let none = Properties::new();
    held(b.after(&subscribe(
        b.version,
        1,
        &none,
        &[(filter, 1 | option::NO_LOCAL)],
    ))?)
}

/// Every one of these is refused, by code or by the end of the connection.
fn all_refused(b: &Broker, filters: &[String]) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
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
                seen.push(format!("{:02x}", codes[0]));
            }
            Err(failure) => {
                demand!(failure.0.starts_with("closed"), "{filter:?}: {}", failure.0);
                seen.push("closed".into());
            }
        }
    }
    held(seen.join(", "))
}

fn name_missing(b: &Broker) -> Outcome {
    all_refused(
        b,
        &[
            format!("$share//{}", b.topic()),
            "$share/".into(),
            "$share//".into(),
        ],
    )
}

fn name_wrong(b: &Broker) -> Outcome {
    let topic = b.topic();
    let filters = [
        format!("$share/a+/{topic}"),
        format!("$share/+/{topic}"),
        format!("$share/a#/{topic}"),
        format!("$share/#/{topic}"),
        "$share/name".into(),
        "$share/name/".into(),
        format!("$share/name/{topic}/#/x"),
    ];
    all_refused(b, &filters)
}

fn group<'b, const N: usize>(
    b: &'b Broker,
    filter: &str,
    qos: [u8; N],
) -> Result<[Client<'b>; N], Failure> {
    let mut clients = Vec::new();
    for qos in qos {
        clients.push(b.subscriber(filter, qos)?);
    }
    clients
        .try_into()
        .map_err(|_| Failure("the case miscounted".into()))
}

/// What each of them got, in order.
fn payloads(clients: &mut [Client<'_>]) -> Result<Vec<Vec<String>>, Failure> {
    let mut all = Vec::new();
    for client in clients {
        let mut own = Vec::new();
        // Flow control may hold some back until the first are acknowledged.
        loop {
            let came = client.rest()?;
            if came.is_empty() {
                break;
            }
            for packet in came {
                if let Packet::Publish(delivery) = packet {
                    client.acknowledge(&delivery)?;
                    own.push(String::from_utf8_lossy(&delivery.payload).into_owned());
                }
            }
        }
        all.push(own);
    }
    Ok(all)
}

fn one_of_many(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let mut first = group(b, &format!("$share/first/{topic}"), [1; 3])?;
    let mut second = group(b, &format!("$share/second/{topic}"), [1; 2])?;
    let mut plain = [b.subscriber(&topic, 1)?];
    let mut publisher = b.client()?;
    for n in 10..22 {
        publisher.put(&Message::new(&topic, n.to_string()).qos(1))?;
    }
    let wanted: Vec<String> = (10..22).map(|n| n.to_string()).collect();
    let mut shares = Vec::new();
    for clients in [&mut first[..], &mut second[..], &mut plain[..]] {
        let parts = payloads(clients)?;
        shares.push(parts.iter().map(Vec::len).collect::<Vec<_>>());
        let mut all = parts.concat();
        all.sort();
        demand!(all == wanted, "a group of {} got {all:?}", clients.len());
    }
    held(format!(
        "of 12 messages the members of two groups and a plain one got {shares:?}"
    ))
}

fn granted_qos(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let mut members = group(b, &format!("$share/group/{topic}"), [0, 1, 2])?;
    let mut publisher = b.client()?;
    for published in [2, 2, 2, 2, 2, 2, 1, 0] {
        publisher.put(&Message::new(&topic, published.to_string()).qos(published))?;
    }
    let mut seen = Vec::new();
    for (client, granted) in members.iter_mut().zip(0..) {
        for packet in client.rest()? {
            let Packet::Publish(delivery) = packet else {
                continue;
            };
            let published = delivery.payload[0] - b'0';
            let wanted = published.min(granted);
            demand!(
                delivery.qos == wanted,
                "published at {published}, granted {granted}: came at {}",
                delivery.qos
            );
            client.acknowledge(&delivery)?;
            seen.push(wanted);
        }
    }
    demand!(seen.len() == 8, "{} of 8 came", seen.len());
    held(format!("members of QoS 0, 1, 2 got {seen:?}"))
}

/// Two members with sessions, one of which has been sent a QoS 2 message and did nothing about it.
struct Begun<'b> {
    chosen_id: String,
    chosen: Client<'b>,
    other: Client<'b>,
    message: Delivery,
}

fn begun<'b>(b: &'b Broker, topic: &str) -> Result<Begun<'b>, Failure> {
    let ids = [b.name(), b.name()];
    let mut members = Vec::new();
    for id in &ids {
        let mut client = b.open(&b.lasting(id))?;
        client.subscribe(&format!("$share/group/{topic}"), 2)?;
        members.push(client);
    }
    b.put(&Message::new(topic, "x").qos(2))?;
    let mut had = Vec::new();
    for member in &mut members {
        had.push(member.rest()?);
    }
    let at = usize::from(had[0].is_empty());
    demand!(had[1 - at].is_empty(), "both members got it");
    let message = match had[at].as_slice() {
        [Packet::Publish(delivery)] => delivery.clone(),
        other => return Err(Failure(format!("{other:?} to a member"))),
    };
    let chosen = members.remove(at);
    let other = members.remove(0);
    Ok(Begun {
        chosen_id: ids[at].clone(),
        chosen,
        other,
        message,
    })
}

fn same_member(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let mut begun = begun(b, &b.topic())?;
    begun.chosen.cut()?;
    begun.other.silent()?;
    let mut back = b.open(&b.lasting(&begun.chosen_id))?;
    let again = back.take_payload("x")?;
    demand!(again.id == begun.message.id, "identifier {}", again.id);
    begun.other.silent()?;
    held("it came again to the member that had it, and to no other")
}

fn ended_member(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let mut begun = begun(b, &b.topic())?;
    begun.chosen.cut()?;
    // A clean start ends the session.
    b.open(&b.fresh(&begun.chosen_id))?.silent()?;
    begun.other.silent()?;
    held("the other member did not get it")
}

fn refused_by_member(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let mut begun = begun(b, &topic)?;
    begun
        .chosen
        .send(&ack(kind::PUBREC, begun.message.id).u8(0x80));
    begun.chosen.silent()?;
    begun.other.silent()?;
    let mut members = group(b, &format!("$share/ones/{topic}"), [1, 1])?;
    b.put(&Message::new(&topic, "y").qos(1))?;
    let mut got = 0;
    for member in &mut members {
        for packet in member.rest()? {
            let Packet::Publish(delivery) = packet else {
                continue;
            };
            member.send(&ack(kind::PUBACK, delivery.id).u8(0x80));
            got += 1;
        }
    }
    for member in &mut members {
        member.silent()?;
    }
    demand!(got == 1, "{got} members got it");
    held("PUBREC 0x80 and PUBACK 0x80: nobody else got it")
}

fn unavailable(b: &Broker) -> Outcome {
    if !missing(b)? {
        return not_offered("they are available");
    }
    let mut client = b.client()?;
    let filter = format!("$share/group/{}", b.topic());
    client.send(&subscribe(b.version, 1, &Properties::new(), &[(filter, 1)]));
    match client.suback(1) {
        Ok(codes) => {
            demand!(codes == [0x9e], "{codes:02x?}");
            held("SUBACK 0x9e")
        }
        Err(_) => held(client.closed()?),
    }
}

fn beside_plain(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let mut both = b.subscriber(&topic, 1)?;
    both.subscribe(&format!("$share/group/{topic}"), 1)?;
    both.unsubscribe(&[&topic])?;
    b.put(&Message::new(&topic, "shared").qos(1))?;
    both.take_payload("shared")?;
    both.unsubscribe(&[&format!("$share/group/{topic}")])?;
    both.subscribe(&topic, 1)?;
    b.put(&Message::new(&topic, "plain").qos(1))?;
    both.take_payload("plain")?;
    both.silent()?;
    held("each was removed without the other")
}

fn leaving(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let filter = format!("$share/group/{topic}");
    let [mut one, two, three] = group(b, &filter, [1; 3])?;
    let codes = one.unsubscribe(&[&filter])?;
    demand!(codes == [0], "UNSUBACK {codes:02x?}");
    two.disconnect()?;
    let mut publisher = b.client()?;
    for n in 0..6 {
        publisher.put(&Message::new(&topic, n.to_string()).qos(1))?;
    }
    let parts = payloads(&mut [one, three])?;
    demand!(parts[0].is_empty() && parts[1].len() == 6, "{parts:?}");
    held("the one that stayed got all 6")
}

fn no_retained(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    b.put(&Message::new(&topic, "retained").qos(1).retain())?;
    b.subscriber(&format!("$share/group/{topic}"), 1)?
        .silent()?;
    held("none came")
}

fn identifier(b: &Broker) -> Outcome {
    if missing(b)? {
        return not_offered(NOT);
    }
    let topic = b.topic();
    let mut client = b.client()?;
    let identifier = Properties::new().variable(property::SUBSCRIPTION_ID, 9);
    client.subscribe_all(&[(format!("$share/group/{topic}"), 1)], &identifier)?;
    b.put(&Message::new(&topic, "x").qos(1))?;
    let ids = client.take_payload("x")?.properties.subscription_ids();
    demand!(ids == [9], "{ids:?}");
    held("9")
}
