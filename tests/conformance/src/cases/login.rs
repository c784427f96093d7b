//! The flags of CONNECT against its payload: will, user name, password (section 3.1.2), and their text.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.1.2-9",
        "3.1.2-9",
        "With the will flag the will's fields are there and are used.",
        will_fields,
    ),
    both(
        "3.1.2-11",
        "3.1.2-11",
        "Without the will flag no other will bit and no will field is there.",
        no_will_fields,
    ),
    v3(
        "3.1.2-13",
        "Without the will flag the will QoS is 0.",
        no_will_qos,
    ),
    both(
        "3.1.2-14",
        "3.1.2-12",
        "A will QoS of 3 ends the connection, 0 to 2 are taken.",
        will_qos,
    ),
    both(
        "3.1.2-15",
        "3.1.2-13",
        "Without the will flag will retain is 0.",
        no_will_retain,
    ),
    both(
        "3.1.2-18",
        "3.1.2-16",
        "Without its flag no user name is there.",
        user_surplus,
    ),
    both(
        "3.1.2-19",
        "3.1.2-17",
        "With its flag a user name is there.",
        user_missing,
    ),
    both(
        "3.1.2-20",
        "3.1.2-18",
        "Without its flag no password is there.",
        password_surplus,
    ),
    both(
        "3.1.2-21",
        "3.1.2-19",
        "With its flag a password is there.",
        password_missing,
    ),
    v3(
        "3.1.2-22",
        "Without a user name there is no password.",
        password_alone,
    ),
    both(
        "3.1.3-10",
        "3.1.3-11",
        "The will topic is UTF-8.",
        will_topic_text,
    ),
    both("3.1.3-11", "3.1.3-12", "The user name is UTF-8.", user_text),
];

fn refused(b: &Broker, connect: &Connect) -> Outcome {
    held(b.send(connect)?.refused()?)
}

fn will_fields(b: &Broker) -> Outcome {
    b.send(&b.fresh(&b.name()).flip(flag::WILL))?.refused()?;
    let cut_short = b.fresh(&b.name()).flip(flag::WILL).frame();
    let cut_short = cut_short
        .properties(b.version, &Properties::new())
        .field(b.topic());
    b.send_bytes(&cut_short.bytes())?.refused()?;
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 2)?;
    for qos in 0..3 {
        let will = Will::new(&topic, &format!("at {qos}")).qos(qos);
        b.open(&b.fresh(&b.name()).will(will))?.cut()?;
        let delivery = watcher.take_payload(&format!("at {qos}"))?;
        demand!(
            delivery.qos == qos,
            "a will at QoS {qos} came at {}",
            delivery.qos
        );
    }
    held("missing fields closed; wills at QoS 0, 1, 2 as asked")
}

fn no_will_fields(b: &Broker) -> Outcome {
    for bits in [flag::WILL_QOS_1, flag::WILL_RETAIN] {
        b.send(&b.fresh(&b.name()).flip(bits))?.refused()?;
    }
    let with_fields = b.willing(&b.topic(), "x").flip(flag::WILL);
    refused(b, &with_fields)
}

fn no_will_qos(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).flip(flag::WILL_QOS_1))
}

fn will_qos(b: &Broker) -> Outcome {
    let topic = b.topic();
    for qos in 0..3 {
        b.open(&b.fresh(&b.name()).will(Will::new(&topic, "x").qos(qos)))?
            .disconnect()?;
    }
    refused(b, &b.willing(&topic, "x").flip(flag::WILL_QOS_3))
}

fn no_will_retain(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).flip(flag::WILL_RETAIN))
}

fn user_surplus(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).user("someone").flip(flag::USER))
}

fn user_missing(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).flip(flag::USER))
}

fn password_surplus(b: &Broker) -> Outcome {
    refused(
        b,
        &b.fresh(&b.name())
            .user("someone")
            .password("word")
            .flip(flag::PASSWORD),
    )
}

fn password_missing(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).user("someone").flip(flag::PASSWORD))
}

fn password_alone(b: &Broker) -> Outcome {
    refused(b, &b.fresh(&b.name()).password("word"))
}

fn will_topic_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        b.send(&b.fresh(&b.name()).will(Will::new(bytes, "x")))?
            .refused()?;
    }
    held("5 ill-formed will topics, each closed")
}

fn user_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        b.send(&b.fresh(&b.name()).user(bytes))?.refused()?;
    }
    held("5 ill-formed user names, each closed")
}
