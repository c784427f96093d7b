//! AUTH and enhanced authentication: sections 3.15 and 4.12. No method is known that every broker has,
//! so these cases look at what happens without one and with an unknown one.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.15.1-1",
        "Reserved flags on AUTH end the connection.",
        flags,
    ),
    v5(
        "4.12.0-1",
        "An unknown method ends the connection.",
        unknown_method,
    ),
    v5(
        "4.12.0-6",
        "Without a method in CONNECT there is no AUTH and no method in CONNACK.",
        no_method,
    ),
    v5(
        "4.12.0-7",
        "AUTH from a client without a method ends the connection.",
        auth_without_method,
    ),
    v5(
        "4.12.0/data",
        "Authentication data without a method ends the connection.",
        data_without_method,
    ),
];

fn flags(b: &Broker) -> Outcome {
    for flags in [1, 2, 4, 8] {
        b.after(&Frame::flagged(kind::AUTH, flags).u8(0x18).u8(0))?;
    }
    held("4 values, each closed")
}

fn unknown_method(b: &Broker) -> Outcome {
    let method = Properties::new().field(property::AUTH_METHOD, "conformance-no-such-method");
    for properties in [method.clone(), method.field(property::AUTH_DATA, "data")] {
        let said = b
            .send(&b.fresh(&b.name()).properties(properties))?
            .refused()?;
        let right = said.contains("0x8c") || said.contains("0x87") || !said.contains("CONNACK");
        demand!(right, "{said}");
    }
    held("with and without data, refused")
}

fn no_method(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    demand!(
        !client.connack.has(property::AUTH_METHOD),
        "a method in CONNACK"
    );
    client.silent()?;
    held("neither")
}

fn auth_without_method(b: &Broker) -> Outcome {
    let method = Properties::new().field(property::AUTH_METHOD, "method");
    for code in [0x18, 0x19] {
        b.after(
            &Frame::new(kind::AUTH)
                .u8(code)
                .properties(b.version, &method),
        )?;
    }
    held(b.after(&Frame::new(kind::AUTH))?)
}

fn data_without_method(b: &Broker) -> Outcome {
    let data = Properties::new().field(property::AUTH_DATA, "data");
    held(b.send(&b.fresh(&b.name()).properties(data))?.refused()?)
}
