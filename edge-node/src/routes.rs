//! From an MQTT message to a record of the log: topic, partition, key, value, headers, timestamp.
//!
//! Header order: `content-type`, `response-topic`, `correlation-data`, the user properties as they
//! came, and `edge` last. Names may repeat in Kafka and the usual accessor gives the last one, so a
//! client that sends a user property `edge` does not hide the device's name.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{NewHeader, NewRecord, TopicError, TopicName, TopicPartition, partition_for};
use headwater_log::store::Durability;
use headwater_mqtt::Publish;

use crate::config::{Route, RouteDurability};

/// Header with the MQTT 5 content type.
pub const HEADER_CONTENT_TYPE: &str = "content-type";
/// Header with the MQTT 5 response topic.
pub const HEADER_RESPONSE_TOPIC: &str = "response-topic";
/// Header with the MQTT 5 correlation data.
pub const HEADER_CORRELATION_DATA: &str = "correlation-data";
/// Header with the name of the edge.
pub const HEADER_EDGE: &str = "edge";

/// All routes of a node.
pub struct Routes {
    routes: Vec<Compiled>,
    edge: Bytes,
}

struct Compiled {
    filter: String,
    key: KeyTemplate,
    partitions: Vec<TopicPartition>,
    durability: Durability,
}

/// A message's place in the log.
#[derive(Debug)]
pub struct Routed {
    /// The partition.
    pub partition: TopicPartition,
    /// The record as it will be read in the cloud.
    pub record: NewRecord,
    /// When the publisher is answered.
    pub durability: Durability,
}

impl Routes {
    /// `routes` as configured, `edge` the name of this device.
    pub fn new(routes: &[Route], edge: &str) -> Result<Routes, TopicError> {
        let compile = |route: &Route| -> Result<Compiled, TopicError> {
            let topic = TopicName::new(&route.topic)?;
            let partition = |number| TopicPartition::new(topic.clone(), number);
            Ok(Compiled {
                filter: route.filter.clone(),
                key: KeyTemplate::parse(&route.key).unwrap_or_default(),
                partitions: (0..route.partitions.max(1)).map(partition).collect(),
                durability: match route.durability {
                    RouteDurability::Fsync => Durability::Fsync,
                    RouteDurability::Interval => Durability::Interval,
                    RouteDurability::Os => Durability::Os,
                },
            })
        };
        let routes = routes.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Routes {
            routes,
            edge: Bytes::copy_from_slice(edge.as_bytes()),
        })
    }

    /// How many partitions each routed topic has. Two routes into one topic agree on it.
    pub fn partitions(&self) -> BTreeMap<TopicName, u32> {
        let of = |route: &Compiled| {
            let count = route.partitions.len() as u32;
            (route.partitions[0].topic.clone(), count)
        };
        self.routes.iter().map(of).collect()
    }

    /// Where the message goes; `None` when no route matches.
    pub fn route(&self, publish: Publish, arrived_ms: i64) -> Option<Routed> {
        let route = self
            .routes
            .iter()
            .find(|r| matches(&r.filter, &publish.topic))?;
        let key = route.key.render(&publish);
        let number = match (&key, route.partitions.len()) {
            (_, 1) | (None, _) => 0,
            (Some(key), count) => partition_for(key, count as u32) as usize,
        };
        let headers = self.headers(&publish);
        Some(Routed {
            partition: route.partitions[number].clone(),
            record: NewRecord {
                timestamp: arrived_ms,
                key,
                value: Some(publish.payload),
                headers,
            },
            durability: route.durability,
        })
    }

    fn headers(&self, publish: &Publish) -> Vec<NewHeader> {
        let mut headers = Vec::with_capacity(1);
        let mut push = |key: &str, value: Bytes| {
            headers.push(NewHeader {
                key: key.to_owned(),
                value: Some(value),
            });
        };
        if let Some(properties) = publish.properties.as_deref() {
            let text = |text: &String| Bytes::copy_from_slice(text.as_bytes());
            if let Some(content_type) = &properties.content_type {
                push(HEADER_CONTENT_TYPE, text(content_type));
            }
            if let Some(response_topic) = &properties.response_topic {
                push(HEADER_RESPONSE_TOPIC, text(response_topic));
            }
            if let Some(data) = &properties.correlation_data {
                push(HEADER_CORRELATION_DATA, data.clone());
            }
            for (name, value) in &properties.user {
                push(name, text(value));
            }
        }
        push(HEADER_EDGE, self.edge.clone());
        headers
    }
}

/// A key as configured: text with `{topic}`, `{client}` and `{level:N}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Client,
    Level(usize),
}

impl KeyTemplate {
    /// Parses; the error says what would be valid.
    pub fn parse(text: &str) -> Result<KeyTemplate, String> {
        const VALID: &str = "text with {topic}, {client} or {level:N} (N from 1), or empty";
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or(VALID)? + open;
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(match &rest[open + 1..close] {
                "topic" => Part::Topic,
                "client" => Part::Client,
                name => {
                    let number = name.strip_prefix("level:").and_then(|n| n.parse().ok());
                    Part::Level(number.filter(|n| *n > 0).ok_or(VALID)?)
                }
            });
            rest = &rest[close + 1..];
        }
        if rest.contains('}') {
            return Err(VALID.to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(KeyTemplate(parts))
    }

    /// The key of a message; `None` for the empty template. A level that the topic lacks is "".
    fn render(&self, publish: &Publish) -> Option<Bytes> {
        match &self.0[..] {
            [] => None,
            [Part::Topic] => Some(Bytes::copy_from_slice(publish.topic.as_bytes())),
            parts => {
                let mut key = String::new();
                for part in parts {
                    key.push_str(match part {
                        Part::Text(text) => text,
                        Part::Topic => &publish.topic,
                        Part::Client => &publish.client_id,
                        Part::Level(n) => publish.topic.split('/').nth(n - 1).unwrap_or_default(),
                    });
                }
                Some(Bytes::from(key))
            }
        }
    }
}

/// Whether a text is an MQTT topic filter (section 4.7.1).
pub fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let level_fits = |(index, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => index + 1 == levels.len(),
        other => !other.contains(['+', '#', '\0']),
    };
    !text.is_empty() && text.len() <= 65_535 && levels.iter().enumerate().all(level_fits)
}

/// Whether a topic matches a filter (section 4.7); wildcards do not match a leading `$`.
fn matches(filter: &str, topic: &str) -> bool {
    if filter == "#" {
        return !topic.starts_with('$');
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_mqtt::{Properties, QoS};

    fn publish(topic: &str) -> Publish {
        Publish {
            topic: topic.into(),
            payload: Bytes::from_static(b"21.43"),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            properties: None,
            client_id: "probe".into(),
        }
    }

    #[test]
    fn filters_match_as_in_the_specification() {
        for (filter, topic, hit) in [
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("+", "a", true),
            ("/+", "/a", true),
            ("+", "/a", false),
            ("a/+/c", "a/b/c", true),
        ] {
            assert_eq!(matches(filter, topic), hit, "{filter} {topic}");
        }
        for bad in ["", "a#", "#/a", "a/+b", "a\0"] {
            assert!(!is_filter(bad), "{bad:?}");
        }
    }

    #[test]
    fn keys() {
        let key = |template: &str| {
            let message = publish("plant/7/temp");
            KeyTemplate::parse(template).unwrap().render(&message)
        };
        assert_eq!(key(""), None);
        assert_eq!(key("{topic}").unwrap(), "plant/7/temp");
        assert_eq!(key("{level:2}-{client}").unwrap(), "7-probe");
        assert_eq!(key("x{level:9}y").unwrap(), "xy");
        for bad in ["{", "}", "{x}", "{level:0}", "{level:}", "a}b"] {
            assert!(KeyTemplate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn properties_become_headers_byte_for_byte() {
        let routes = Routes::new(&[Route::default()], "gw-07").unwrap();
        let mut message = publish("t");
        message.properties = Some(Box::new(Properties {
            content_type: Some("application/json".into()),
            response_topic: Some("re/ply".into()),
            correlation_data: Some(Bytes::from_static(&[0, 255, 1])),
            user: vec![
                ("b".into(), "2".into()),
                ("a".into(), "1".into()),
                ("b".into(), "".into()),
            ],
            ..Properties::default()
        }));
        let routed = routes.route(message, 42).unwrap();
        assert_eq!(routed.partition.to_string(), "mqtt-0");
        assert_eq!(routed.record.timestamp, 42);
        assert_eq!(routed.record.key.as_deref(), Some(&b"t"[..]));
        assert_eq!(routed.record.value.as_deref(), Some(&b"21.43"[..]));
        let headers: Vec<(&[u8], &[u8])> = routed
            .record
            .headers
            .iter()
            .map(|h| (h.key.as_bytes(), h.value.as_deref().unwrap()))
            .collect();
        let expected: Vec<(&[u8], &[u8])> = vec![
            (b"content-type", b"application/json"),
            (b"response-topic", b"re/ply"),
            (b"correlation-data", &[0, 255, 1]),
            (b"b", b"2"),
            (b"a", b"1"),
            (b"b", b""),
            (b"edge", b"gw-07"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn first_route_wins_and_keys_choose_partitions() {
        let wide = Route {
            filter: "plant/#".into(),
            topic: "plant".into(),
            partitions: 4,
            ..Route::default()
        };
        let routes = Routes::new(&[wide], "e").unwrap();
        assert!(routes.route(publish("other"), 0).is_none());
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..64 {
            let topic = format!("plant/{n}");
            let routed = routes.route(publish(&topic), 0).unwrap();
            assert_eq!(
                routed.partition.partition,
                partition_for(topic.as_bytes(), 4)
            );
            seen.insert(routed.partition.partition);
        }
        assert_eq!(seen.len(), 4);
    }
}
