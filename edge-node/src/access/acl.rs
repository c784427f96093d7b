//! Access rules, in the syntax of Mosquitto's `acl_file`.
//!
//! ```text
//! # For clients without a user:
//! topic read public/#
//! user anna
//! topic write sensors/anna/#
//! topic deny  sensors/anna/secret
//! # For everybody; %c is the client id, %u the user:
//! pattern readwrite devices/%c/#
//! ```
//! `read`, `write`, `readwrite` (also if nothing stands there) or `deny`, then a topic filter up to
//! the end of the line. What no rule allows is forbidden.
//!
//! The rules of the client's user come first, then the patterns; in each of the two, `deny` before
//! all others. A client whose id or user holds one of `+ # /` gets nothing from a pattern: with such
//! a name it could reach what is others'.
//!
//! `read` decides at each delivery. A subscription is refused only if nothing of it could ever be
//! delivered: `#` may be subscribed to, and brings what may be read.

use std::collections::HashMap;

use headwater_mqtt::topic::{self, check_filter};

/// A file at most.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// The rules of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// For clients without a user.
    anonymous: Rules,
    users: HashMap<String, Rules>,
    patterns: Rules,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The client id.
    pub client: &'a str,
    /// The user, if it has proved to be one.
    pub user: Option<&'a str>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// To be sent a message.
    Read,
    /// To publish one.
    Write,
}

/// What a rule's filter says of a topic or filter; with names, it is a pattern.
type Test = fn(&str, &str, Option<Who<'_>>) -> bool;

#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    denied: Vec<String>,
    allowed: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    read: bool,
    write: bool,
    filter: String,
}

/// Whose rules the lines of a file are.
enum Section {
    Anonymous,
    User(String),
}

impl Acl {
    /// Reads a file's text; an error names the line.
    pub fn parse(text: &str) -> Result<Acl, String> {
        let mut acl = Acl::default();
        let mut section = Section::Anonymous;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            acl.line(line, &mut section)
                .map_err(|reason| format!("line {}: {reason}", number + 1))?;
        }
        Ok(acl)
    }

    fn line(&mut self, line: &str, section: &mut Section) -> Result<(), String> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return Err(format!(
                "{word:?} stands alone; valid: user NAME, or topic or pattern [read|write|readwrite|deny] FILTER"
            ));
        }
        let rules = match (word, &section) {
            ("user", _) => {
                self.users.entry(rest.to_owned()).or_default();
                *section = Section::User(rest.to_owned());
                return Ok(());
            }
            ("topic", Section::Anonymous) => &mut self.anonymous,
            ("topic", Section::User(name)) => self.users.entry(name.clone()).or_default(),
            ("pattern", _) => &mut self.patterns,
            _ => {
                return Err(format!(
                    "{word:?} is unknown; valid: user, topic, pattern, and # for a comment"
                ));
            }
        };
        let (first, filter) = rest.split_once(char::is_whitespace).unwrap_or(("", rest));
        let (read, write) = match first {
            "" | "readwrite" => (true, true),
            "read" => (true, false),
            "write" => (false, true),
            "deny" => (false, false),
            other => {
                return Err(format!(
                    "{other:?} is no kind of access; valid: read, write, readwrite, deny"
                ));
            }
        };
        let filter = filter.trim();
        let parts = check_filter(filter).map_err(|e| format!("the filter {filter:?}: {e}"))?;
        if parts.share.is_some() {
            return Err(format!(
                "{filter:?}: rules are for what follows $share/NAME/"
            ));
        }
        let filter = filter.to_owned();
        if read || write {
            rules.allowed.push(Rule {
                read,
                write,
                filter,
            });
        } else {
            rules.denied.push(filter);
        }
        Ok(())
    }

    /// Whether a message of this topic may pass.
    pub fn allows(&self, who: Who<'_>, act: Act, topic: &str) -> bool {
        self.decide(who, act, topic, (matches, matches))
    }

    /// Whether anything of this subscription may pass. `filter` is one that
    /// [`check_filter`] takes; of a shared one, what follows the share's name counts.
    pub fn allows_filter(&self, who: Who<'_>, filter: &str) -> bool {
        let Ok(parts) = check_filter(filter) else {
            return false;
        };
        self.decide(who, Act::Read, parts.filter, (covers, overlaps))
    }

    /// `what` is a topic or a filter; the two say whether a rule denies and whether one allows it.
    fn decide(&self, who: Who<'_>, act: Act, what: &str, (denies, allows): (Test, Test)) -> bool {
        let own = match who.user {
            None => Some(&self.anonymous),
            Some(user) => self.users.get(user),
        };
        let verdict = |rules: &Rules, names: Option<Who<'_>>| {
            // A pattern with %u is for those that have a user.
            let is_for = |filter: &str| {
                names.is_none_or(|names| names.user.is_some() || !filter.contains("%u"))
            };
            if rules
                .denied
                .iter()
                .any(|f| is_for(f) && denies(f, what, names))
            {
                return Some(false);
            }
            let may = |rule: &Rule| match act {
                Act::Read => rule.read,
                Act::Write => rule.write,
            };
            let mut allowed = rules.allowed.iter().filter(|rule| may(rule));
            allowed
                .any(|rule| is_for(&rule.filter) && allows(&rule.filter, what, names))
                .then_some(true)
        };
        if let Some(decided) = own.and_then(|rules| verdict(rules, None)) {
            return decided;
        }
        let is_safe = |name: &str| !name.contains(['+', '#', '/']);
        is_safe(who.client)
            && who.user.is_none_or(is_safe)
            && verdict(&self.patterns, Some(who)) == Some(true)
    }
}

/// Whether a level of a rule, %c and %u replaced in a pattern, is this text.
fn is_level(level: &str, text: &str, names: Option<Who<'_>>) -> bool {
    let Some(names) = names else {
        return level == text;
    };
    let (mut level, mut text) = (level, text);
    while let Some(at) = level.find('%') {
        let (value, len) = match level.as_bytes().get(at + 1) {
            Some(b'c') => (names.client, 2),
            Some(b'u') => (names.user.unwrap_or_default(), 2),
            _ => ("%", 1),
        };
        let rest = text.strip_prefix(&level[..at]);
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix(value)) else {
            return false;
        };
        (text, level) = (rest, &level[at + len..]);
    }
    level == text
}

/// As [`topic::matches`], for patterns too.
fn matches(rule: &str, topic: &str, names: Option<Who<'_>>) -> bool {
    if names.is_none() {
        return topic::matches(rule, topic);
    }
    if topic.starts_with('$') && rule.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in rule.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(text)) if is_level(level, text, names) => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether the rule matches everything that the filter matches.
fn covers(rule: &str, filter: &str, names: Option<Who<'_>>) -> bool {
    if filter.starts_with('$') && rule.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = filter.split('/');
    for level in rule.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            (_, Some("#")) => return false,
            ("+", Some(_)) => {}
            (_, Some("+")) => return false,
            (level, Some(text)) if is_level(level, text, names) => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether there can be a topic that rule and filter match.
fn overlaps(rule: &str, filter: &str, names: Option<Who<'_>>) -> bool {
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    if (filter.starts_with('$') && is_wild(rule)) || (rule.starts_with('$') && is_wild(filter)) {
        return false;
    }
    let (mut rule, mut filter) = (rule.split('/'), filter.split('/'));
    loop {
        match (rule.next(), filter.next()) {
            // It matches the level above, too.
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(level), Some(text)) if is_level(level, text, names) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
