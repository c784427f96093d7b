//! Text for terminals. What clients call themselves and send is hostile until shown otherwise: a
//! control character could rewrite what stands on the screen, or type on it.

use std::fmt::Write;

/// The text with everything that does not print as itself escaped as in Rust's literals.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\'' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// JSON in which everything that does not print as itself is escaped as JSON allows.
pub fn json(value: &serde_json::Value, pretty: bool) -> String {
    let text = match pretty {
        true => serde_json::to_string_pretty(value),
        false => serde_json::to_string(value),
    };
    let text = text.expect("a JSON value always encodes");
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        let prints = matches!(char, '"' | '\'' | '\\' | '\n') || char.escape_debug().len() == 1;
        if prints {
            shown.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// Columns as wide as their widest cell. Those named in `right` are numbers.
pub fn table(heads: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(heads[column].len())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            let _ = match right.contains(&column) {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut heads.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// "1.5 MB": powers of a thousand, as disks are sold.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {}", units[unit]),
        _ => format!("{value:.0} {}", units[unit]),
    }
}

/// "3 h 5 min": the two largest units.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// "12,345".
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A wall clock in UTC, from ms since 1970: "2026-11-27T21:48:30.123Z".
pub fn time(ms: i64) -> String {
    let (day, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to a date, as in Howard Hinnant's civil_from_days: years begin in March.
    let z = day + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (s, ms) = (in_day / 1000, in_day % 1000);
    let (h, min, s) = (s / 3_600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{min:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        // Escape, C1's CSI, a right-to-left override, a zero-width space, line ends, a backslash.
        let hostile = "a\x1b[2J\u{9b}31m\u{202e}b\u{200b}\r\n\t\\ \"ä→\"";
        let text = escaped(hostile);
        assert_eq!(
            text,
            "a\\u{1b}[2J\\u{9b}31m\\u{202e}b\\u{200b}\\r\\n\\t\\\\ \"ä→\""
        );
        let value = serde_json::json!({ "t": hostile, "high": "\u{e0001}" });
        let text = json(&value, false);
        assert!(
            text.chars()
                .all(|c| c.escape_debug().len() == 1 || "\"\\".contains(c)),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(999_600), "1.0 MB");
        assert_eq!(bytes(10_737_418_240), "11 GB");
        assert_eq!(bytes(u64::MAX), "18 EB");
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(90_061_000), "1 d 1 h");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(time(1_763_800_000_001), "2025-11-22T08:26:40.001Z");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["ä".into(), "7".into()],
            vec!["bcd".into(), "1,000".into()],
        ];
        let text = table(&["ID", "N"], &[1], &rows);
        assert_eq!(text, "ID       N\nä        7\nbcd  1,000\n");
    }
}
