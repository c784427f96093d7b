//! FORMAT.md is normative: a constant that changes without it, or the other way round, fails here.

use std::collections::BTreeMap;

use headwater_batch::{Compression, layout::*};

const FORMAT: &str = include_str!("../../FORMAT.md");
const LAYOUT: &str = include_str!("../../src/layout.rs");

/// The rows of the table whose first column is `title`: first column and the next `N` as numbers.
fn table<const N: usize>(title: &str) -> BTreeMap<&'static str, [usize; N]> {
    let rows = FORMAT
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {title} |")));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().unwrap();
            (
                name,
                [(); N].map(|()| cells.next().unwrap().parse().unwrap()),
            )
        })
        .collect();
    assert!(!table.is_empty(), "FORMAT.md has no table {title}");
    table
}

#[test]
fn fields_are_where_the_table_says() {
    let fields = [
        ("BASE_OFFSET", BASE_OFFSET),
        ("BATCH_LENGTH", BATCH_LENGTH),
        ("LEADER_EPOCH", LEADER_EPOCH),
        ("MAGIC_AT", MAGIC_AT),
        ("CRC", CRC),
        ("ATTRIBUTES", ATTRIBUTES),
        ("LAST_OFFSET_DELTA", LAST_OFFSET_DELTA),
        ("BASE_TIMESTAMP", BASE_TIMESTAMP),
        ("MAX_TIMESTAMP", MAX_TIMESTAMP),
        ("PRODUCER_ID", PRODUCER_ID),
        ("PRODUCER_EPOCH", PRODUCER_EPOCH),
        ("BASE_SEQUENCE", BASE_SEQUENCE),
        ("RECORD_COUNT", RECORD_COUNT),
    ];
    let mut end = 0;
    for (name, range) in &fields {
        assert_eq!(range.start, end, "{name} follows the field before it");
        end = range.end;
    }
    assert_eq!(end, HEADER_BYTES);
    assert_eq!(
        table("field"),
        fields.map(|(name, at)| (name, [at.start, at.end])).into()
    );
}

#[test]
fn constants_are_what_the_table_says() {
    let constants = [
        ("MAGIC", MAGIC.into()),
        ("HEADER_BYTES", HEADER_BYTES),
        ("LENGTH_PREFIX_BYTES", LENGTH_PREFIX_BYTES),
        ("CRC_FROM", CRC_FROM),
        ("RECORD_BYTES_MIN", RECORD_BYTES_MIN),
        ("BATCH_BYTES_MAX", BATCH_BYTES_MAX),
        ("ATTRIBUTE_COMPRESSION", ATTRIBUTE_COMPRESSION.into()),
        (
            "ATTRIBUTE_LOG_APPEND_TIME",
            ATTRIBUTE_LOG_APPEND_TIME.into(),
        ),
        ("ATTRIBUTE_TRANSACTIONAL", ATTRIBUTE_TRANSACTIONAL.into()),
        ("ATTRIBUTE_CONTROL", ATTRIBUTE_CONTROL.into()),
        ("ATTRIBUTE_DELETE_HORIZON", ATTRIBUTE_DELETE_HORIZON.into()),
    ];
    assert_eq!(
        table("constant"),
        constants.map(|(name, value)| (name, [value])).into()
    );
}

#[test]
fn codecs_are_what_the_table_says() {
    let codecs: BTreeMap<_, _> = (0..8)
        .filter_map(Compression::from_bits)
        .map(|codec| (codec.name(), [codec.bits() as usize]))
        .collect();
    assert_eq!(table("codec"), codecs);
}

/// A constant that is new to `layout` has a row too.
#[test]
fn every_layout_constant_has_a_row() {
    let names = LAYOUT
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let (fields, constants) = (table::<2>("field"), table::<1>("constant"));
    let missing: Vec<_> = names
        .filter(|n| !fields.contains_key(n) && !constants.contains_key(n))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "not in FORMAT.md");
}
