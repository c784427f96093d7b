//! The table: one line per figure, with the floor under which the command fails and the aim of
//! DESIGN.md beside it.

use std::fmt;

/// A figure and what it is held against.
pub struct Line {
    what: String,
    figure: String,
    floor: Option<Mark>,
    aim: Option<Mark>,
}

/// A bound and whether it is kept.
struct Mark {
    bound: String,
    is_kept: bool,
}

impl Line {
    pub fn new(what: impl Into<String>, figure: impl Into<String>) -> Line {
        Line {
            what: what.into(),
            figure: figure.into(),
            floor: None,
            aim: None,
        }
    }

    /// The command fails unless `is_kept`.
    pub fn floor(mut self, bound: impl Into<String>, is_kept: bool) -> Line {
        let bound = bound.into();
        self.floor = Some(Mark { bound, is_kept });
        self
    }

    /// Named at the end unless `is_kept`.
    pub fn aim(mut self, bound: impl Into<String>, is_kept: bool) -> Line {
        let bound = bound.into();
        self.aim = Some(Mark { bound, is_kept });
        self
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_kept { "kept" } else { "**missed**" };
        write!(f, "{}: {word}", self.bound)
    }
}

/// Prints lines as they come and remembers what was missed.
#[derive(Default)]
pub struct Table {
    floors_missed: Vec<String>,
    aims_missed: Vec<String>,
}

impl Table {
    pub fn begin() -> Table {
        println!("| what | figure | floor | aim |\n|---|---|---|---|");
        Table::default()
    }

    pub fn print(&mut self, line: Line) {
        let cell = |mark: &Option<Mark>| mark.as_ref().map(Mark::to_string).unwrap_or_default();
        println!(
            "| {} | {} | {} | {} |",
            line.what,
            line.figure,
            cell(&line.floor),
            cell(&line.aim)
        );
        for (mark, missed) in [
            (&line.floor, &mut self.floors_missed),
            (&line.aim, &mut self.aims_missed),
        ] {
            if let Some(mark) = mark.as_ref().filter(|mark| !mark.is_kept) {
                missed.push(format!("{} ({})", line.what, mark.bound));
            }
        }
    }

    /// Says what was missed. False: a floor was.
    pub fn end(self) -> bool {
        for (name, missed) in [("aim", &self.aims_missed), ("floor", &self.floors_missed)] {
            for what in missed {
                println!("{name} missed: {what}");
            }
        }
        self.floors_missed.is_empty()
    }
}

/// What repeated runs gave: sorted, never empty.
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a figure has at least one run");
        values.sort_by(f64::total_cmp);
        Spread(values)
    }

    pub fn median(&self) -> f64 {
        let (low, high) = (self.0[(self.0.len() - 1) / 2], self.0[self.0.len() / 2]);
        (low + high) / 2.0
    }

    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// "median (min to max)", each with so many decimals and scaled by `1 / unit`.
    pub fn show(&self, unit: f64, decimals: usize) -> String {
        let show = |value: f64| format!("{:.decimals$}", value / unit);
        let (min, max) = (self.0[0], self.max());
        if self.0.len() == 1 {
            return show(min);
        }
        format!("{} ({} to {})", show(self.median()), show(min), show(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Spread::of([3.0, 1.0]).median(), 2.0);
        assert_eq!(
            Spread::of([3000.0, 1000.0]).show(1000.0, 1),
            "2.0 (1.0 to 3.0)"
        );
        assert_eq!(Spread::of([5.0]).show(1.0, 0), "5");
    }

    #[test]
    fn a_missed_floor_fails_and_a_missed_aim_does_not() {
        let mut table = Table::default();
        table.print(Line::new("a", "1").floor("2", true).aim("3", false));
        assert!(table.end());
        let mut table = Table::default();
        table.print(Line::new("a", "1").floor("2", false));
        assert!(!table.end());
    }
}
