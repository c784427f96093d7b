//! What a topic name and a filter may look like, and when they match.

use crate::limits::TOPIC_LEVELS_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it holds U+0000")]
    Nul,
    #[error("it is longer than 65,535 bytes")]
    Long,
    #[error("it has too many levels")]
    Deep,
    #[error("a topic name holds a wildcard")]
    Wildcard,
    #[error("a wildcard does not stand alone in its level, or # is not the last")]
    Misplaced,
    #[error("a share name is empty or holds a wildcard, or no filter follows")]
    Share,
}

fn check_common(text: &str) -> Result<(), NameError> {
    match text {
        "" => Err(NameError::Empty),
        t if t.len() > 65_535 => Err(NameError::Long),
        t if t.contains('\0') => Err(NameError::Nul),
        t if t.bytes().filter(|b| *b == b'/').count() >= TOPIC_LEVELS_MAX => Err(NameError::Deep),
        _ => Ok(()),
    }
}

/// A topic name: no wildcard [MQTT-3.3.2-2], at least one character [MQTT-4.7.3-1].
pub fn check_name(topic: &str) -> Result<(), NameError> {
    check_common(topic)?;
    match topic.contains(['+', '#']) {
        true => Err(NameError::Wildcard),
        false => Ok(()),
    }
}

/// A filter, taken apart if it is a shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterParts<'a> {
    /// The share name of `$share/name/filter` (section 4.8.2 of 5.0).
    pub share: Option<&'a str>,
    pub filter: &'a str,
}

/// A filter: `#` alone in the last level [MQTT-4.7.1-1], `+` alone in its level [MQTT-4.7.1-2].
/// Whether `$share/` means a shared subscription is the protocol version's matter; on v3.1.1 too
/// it is read so, as Mosquitto and others do.
pub fn check_filter(filter: &str) -> Result<FilterParts<'_>, NameError> {
    check_common(filter)?;
    let parts = match filter.strip_prefix("$share/") {
        None => FilterParts {
            share: None,
            filter,
        },
        Some(rest) => {
            let (name, filter) = rest.split_once('/').ok_or(NameError::Share)?;
            if name.is_empty() || name.contains(['+', '#']) || filter.is_empty() {
                return Err(NameError::Share);
            }
            FilterParts {
                share: Some(name),
                filter,
            }
        }
    };
    let mut levels = parts.filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let misplaced = match level {
            "#" => levels.peek().is_some(),
            "+" => false,
            other => other.contains(['+', '#']),
        };
        if misplaced {
            return Err(NameError::Misplaced);
        }
    }
    Ok(parts)
}

/// Whether a valid filter matches a valid topic. Wildcards in the first level do not match a topic
/// that starts with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (a, Some(b)) if a == b => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_with_misplaced_wildcards_are_refused() {
        for bad in [
            "",
            "a/#/b",
            "#/a",
            "a#",
            "a+",
            "+a/b",
            "a/b+",
            "a/##",
            "\0",
            "$share/g",
            "$share//a",
            "$share/g/",
            "$share/+/a",
            "$share/g#/a",
        ] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
        for good in [
            "#", "+", "/", "+/+", "a/#", "/#", "+/a/#", "//", "$SYS/#", "ü/+", " ",
        ] {
            assert!(check_filter(good).is_ok(), "{good:?}");
        }
        let shared = check_filter("$share/g/a/#").unwrap();
        assert_eq!(
            shared,
            FilterParts {
                share: Some("g"),
                filter: "a/#"
            }
        );
    }

    #[test]
    fn topic_names_have_no_wildcards_and_a_bounded_depth() {
        for bad in ["", "a/#", "+", "a+b", "\0"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            check_name(&"/".repeat(TOPIC_LEVELS_MAX)),
            Err(NameError::Deep)
        );
        assert!(check_name(&"/".repeat(TOPIC_LEVELS_MAX - 1)).is_ok());
        assert!(check_name("température/\u{1F321}/$x").is_ok());
    }

    #[test]
    fn matching_follows_the_examples_of_section_4_7() {
        let yes = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("#", "a/b"),
            ("+/+", "/f"),
            ("/+", "/finance"),
            ("sport/#", "sport"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/+/c", "a//c"),
            ("+", ""),
        ];
        let no = [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("a", "A"),
            ("a/b", "a/b/c"),
            ("/a", "a"),
        ];
        for (filter, topic) in yes {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in no {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
}
