//! Topic names by Kafka's rule, and the name of a partition's directory.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest topic name (Kafka: a directory name, less the partition's number).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The highest partition number: Kafka's are signed.
pub const PARTITION_MAX: u32 = i32::MAX as u32;

/// A valid topic name: `[a-zA-Z0-9._-]{1,249}`, neither `.` nor `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// One partition of a topic. Displays as its directory's name: `readings-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicName,
    /// At most [`PARTITION_MAX`].
    #[serde(deserialize_with = "partition_in_range")]
    pub partition: u32,
}

/// Why a text is not a topic, or not a topic's partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic name is empty")]
    Empty,
    #[error("a topic name has {bytes} bytes, at most {TOPIC_NAME_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("topic name {name:?}: {found:?} is not one of a-z A-Z 0-9 . _ -")]
    Character { name: String, found: char },
    #[error("topic names \".\" and \"..\" mean directories")]
    Dots,
    #[error("{0:?} is not TOPIC-PARTITION, such as readings-3")]
    Partition(String),
}

impl TopicName {
    pub fn new(name: &str) -> Result<TopicName, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicError::TooLong { bytes: name.len() });
        }
        if name == "." || name == ".." {
            return Err(TopicError::Dots);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|c| !allowed(*c)) {
            Some(found) => Err(TopicError::Character {
                name: name.to_owned(),
                found,
            }),
            None => Ok(TopicName(name.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TopicPartition {
    pub const fn new(topic: TopicName, partition: u32) -> TopicPartition {
        TopicPartition { topic, partition }
    }
}

impl std::ops::Deref for TopicName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl FromStr for TopicName {
    type Err = TopicError;
    fn from_str(name: &str) -> Result<TopicName, TopicError> {
        TopicName::new(name)
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicError;
    fn try_from(name: &str) -> Result<TopicName, TopicError> {
        TopicName::new(name)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicError;
    fn try_from(name: String) -> Result<TopicName, TopicError> {
        TopicName::new(&name)
    }
}

/// Reads what [`Display`](fmt::Display) writes and nothing else, so that one directory never has
/// two names: `readings-03` and `readings-+3` are refused.
impl FromStr for TopicPartition {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<TopicPartition, TopicError> {
        let malformed = || TopicError::Partition(text.to_owned());
        let (topic, number) = text.rsplit_once('-').ok_or_else(malformed)?;
        let partition: u32 = number.parse().map_err(|_| malformed())?;
        if partition > PARTITION_MAX || partition.to_string() != number {
            return Err(malformed());
        }
        Ok(TopicPartition {
            topic: TopicName::new(topic)?,
            partition,
        })
    }
}

impl Serialize for TopicName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TopicName, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = TopicName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic name")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<TopicName, E> {
                TopicName::new(name).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

fn partition_in_range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        partition if partition <= PARTITION_MAX => Ok(partition),
        partition => Err(serde::de::Error::custom(format!(
            "partition {partition} is over {PARTITION_MAX}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        let long = "x".repeat(249);
        for good in ["a", "mqtt", "a.b_c-D9", "...", "-", long.as_str()] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        let longer = "x".repeat(250);
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", longer.as_str()] {
            TopicName::new(bad).unwrap_err();
        }
    }

    #[test]
    fn a_directory_has_one_name() {
        for good in ["mqtt-0", "a-b-12", "--1", "x-2147483647"] {
            assert_eq!(good.parse::<TopicPartition>().unwrap().to_string(), good);
        }
        for bad in [
            "mqtt",
            "mqtt-",
            "-1",
            "mqtt-01",
            "mqtt-+1",
            "mqtt--",
            "..-1",
            "x-2147483648",
        ] {
            bad.parse::<TopicPartition>().unwrap_err();
        }
    }

    #[test]
    fn serde_validates() {
        let tp: TopicPartition = "readings-3".parse().unwrap();
        let bytes = postcard::to_stdvec(&tp).unwrap();
        assert_eq!(postcard::from_bytes::<TopicPartition>(&bytes).unwrap(), tp);
        let bad = postcard::to_stdvec(&("no/slash", 3u32)).unwrap();
        postcard::from_bytes::<TopicPartition>(&bad).unwrap_err();
        let bad = postcard::to_stdvec(&("mqtt", PARTITION_MAX + 1)).unwrap();
        postcard::from_bytes::<TopicPartition>(&bad).unwrap_err();
    }
}
