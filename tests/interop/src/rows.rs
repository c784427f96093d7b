//! What was published and what was read, as the clients report it: JSON lines with bytes in hex.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;

/// A message that its publisher saw acknowledged.
#[derive(Debug, Clone, Deserialize)]
pub struct Published {
    pub topic: String,
    pub value: String,
    pub headers: Vec<(String, Option<String>)>,
}

/// A record as a consumer saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Consumed {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
    #[serde(default)]
    pub member: String,
}

/// Headers that Headwater adds itself are not part of what a publisher sent.
fn sent_headers(headers: &[(String, Option<String>)]) -> Vec<(String, Option<String>)> {
    let added = ["edge", "content-type"].map(hex);
    headers
        .iter()
        .filter(|(name, _)| !added.contains(name))
        .cloned()
        .collect()
}

/// Lower-case hex of a text.
pub fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Equal multisets, and per key the order of publishing. The error names the first difference.
pub fn compare(
    published: &[Published],
    consumed: &[Consumed],
    span_ms: &RangeInclusive<i64>,
) -> Result<(), String> {
    let mut wanted: BTreeMap<&str, Vec<(&str, Vec<_>)>> = BTreeMap::new();
    for message in published {
        wanted
            .entry(&message.topic)
            .or_default()
            .push((&message.value, message.headers.clone()));
    }
    let mut read: BTreeMap<&str, Vec<(&str, Vec<_>)>> = BTreeMap::new();
    let mut in_order: Vec<&Consumed> = consumed.iter().collect();
    in_order.sort_by_key(|record| (record.partition, record.offset));
    for record in in_order {
        let at = format!("record {}-{}", record.partition, record.offset);
        if !span_ms.contains(&record.timestamp) {
            return Err(format!(
                "{at}: timestamp {} outside {span_ms:?}",
                record.timestamp
            ));
        }
        if !record
            .headers
            .iter()
            .any(|(name, value)| *name == hex("edge") && *value == Some(hex("interop")))
        {
            return Err(format!("{at}: no header that names the edge"));
        }
        let key = record
            .key
            .as_deref()
            .ok_or_else(|| format!("{at}: no key"))?;
        let value = record
            .value
            .as_deref()
            .ok_or_else(|| format!("{at}: no value"))?;
        read.entry(key)
            .or_default()
            .push((value, sent_headers(&record.headers)));
    }
    if wanted.len() != read.len() {
        return Err(format!(
            "{} keys published, {} read",
            wanted.len(),
            read.len()
        ));
    }
    for (key, wanted) in &wanted {
        let read = read
            .get(key)
            .ok_or_else(|| format!("key {key} was not read"))?;
        if wanted.len() != read.len() {
            return Err(format!(
                "key {key}: {} published, {} read",
                wanted.len(),
                read.len()
            ));
        }
        if let Some(n) = (0..wanted.len()).find(|&n| wanted[n] != read[n]) {
            return Err(format!(
                "key {key}: message {n} was published as {:?}, read as {:?}",
                wanted[n], read[n]
            ));
        }
    }
    Ok(())
}

/// That two consumers saw the same bytes at the same offsets with the same times.
pub fn same(first: &[Consumed], second: &[Consumed]) -> Result<(), String> {
    let normal = |rows: &[Consumed]| {
        let mut rows: Vec<Consumed> = rows
            .iter()
            .map(|row| Consumed {
                member: String::new(),
                ..row.clone()
            })
            .collect();
        rows.sort();
        rows
    };
    match normal(first)
        .into_iter()
        .zip(normal(second))
        .find(|(a, b)| a != b)
    {
        _ if first.len() != second.len() => Err(format!(
            "{} records and {} records",
            first.len(),
            second.len()
        )),
        Some((a, b)) => Err(format!("{a:?} and {b:?}")),
        None => Ok(()),
    }
}
