//! Log lines: to stderr under a filter that can be changed while the node runs, and the last warnings
//! and errors, kept for the status page whatever the filter is.
//!
//! Bounds: [`LINES_MAX`] lines are kept, [`LINE_BYTES_MAX`] of each; one that comes again and again is
//! one line with a count.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as lines, reload};

/// See the module's docs.
pub const LINES_MAX: usize = 50;
/// See the module's docs.
pub const LINE_BYTES_MAX: usize = 500;
/// What rustls warns of here is what a client did and what it makes nothing of, such as mosquitto_pub's
/// address for a name, at each handshake. A filter may ask for it.
const BESIDE_THE_POINT: &str = "rustls::msgs";
/// The longest filter.
pub const FILTER_BYTES_MAX: usize = 1_000;

/// tracing has one subscriber a process, and this is what can be asked of it.
static INSTALLED: OnceLock<Logging> = OnceLock::new();

/// The process's log.
pub struct Logging {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Mutex<String>,
    recent: Recent,
}

#[derive(Default)]
struct Recent {
    lines: Mutex<VecDeque<Line>>,
    warnings: AtomicU64,
    errors: AtomicU64,
}

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it last came: wall clock, ms since 1970.
    pub at_ms: u64,
    /// "warn" or "error".
    pub level: &'static str,
    /// The module.
    pub target: String,
    /// Message and fields, cut at [`LINE_BYTES_MAX`].
    pub text: String,
    /// How often it came without another in between.
    pub times: u64,
}

/// Writes the process's log to stderr under `filter`. Once a process.
pub fn install(filter: &str) -> Result<(), String> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let stderr = lines::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(layer);
    let logging = Logging {
        handle,
        filter: Mutex::new(filter.to_owned()),
        recent: Recent::default(),
    };
    if INSTALLED.set(logging).is_err() {
        return Err("the log is written already".to_owned());
    }
    let recent = Keep.with_filter(parse("warn")?);
    let subscriber = tracing_subscriber::registry().with(stderr).with(recent);
    subscriber.try_init().map_err(|error| error.to_string())
}

/// The process's log, if it was installed here.
pub fn installed() -> Option<&'static Logging> {
    INSTALLED.get()
}

impl Logging {
    /// The filter in force.
    pub fn filter(&self) -> String {
        lock(&self.filter).clone()
    }

    /// Changes the filter until the next start; gives the one before.
    pub fn set_filter(&self, text: &str) -> Result<String, String> {
        let parsed = parse(text)?;
        let mut filter = lock(&self.filter);
        let reloaded = self.handle.reload(parsed);
        reloaded.map_err(|error| error.to_string())?;
        Ok(std::mem::replace(&mut filter, text.to_owned()))
    }

    /// The last warnings and errors, newest first.
    pub fn recent(&self) -> Vec<Line> {
        lock(&self.recent.lines).iter().rev().cloned().collect()
    }

    /// Warnings and errors since the start.
    pub fn counts(&self) -> (u64, u64) {
        let recent = &self.recent;
        (recent.warnings.load(Relaxed), recent.errors.load(Relaxed))
    }
}

/// A filter in `tracing`'s syntax. Stricter than that: it takes a word that is no level for the name
/// of a module, so a misspelt level would silence the log.
pub fn parse(text: &str) -> Result<EnvFilter, String> {
    let wrong = |why: &dyn fmt::Display| {
        let text: String = text.chars().take(FILTER_BYTES_MAX).collect();
        format!(
            "log filter {text:?}: {why}; valid: error, warn, info, debug, trace or off, \
             also per module: info,headwater_quic=debug"
        )
    };
    if text.len() > FILTER_BYTES_MAX {
        return Err(wrong(&format_args!("longer than {FILTER_BYTES_MAX} bytes")));
    }
    let words = text.split(',').map(str::trim);
    for word in words.filter(|word| !word.contains(['=', '[', ']', '{', '}'])) {
        if LevelFilter::from_str(word).is_err() || word.is_empty() {
            return Err(wrong(&format_args!("{word:?} is no level")));
        }
    }
    EnvFilter::try_new(format!("{BESIDE_THE_POINT}=error,{text}")).map_err(|error| wrong(&error))
}

impl Recent {
    fn keep(&self, line: Line) {
        let count = if line.level == "error" {
            &self.errors
        } else {
            &self.warnings
        };
        count.fetch_add(1, Relaxed);
        let mut lines = lock(&self.lines);
        match lines.back_mut() {
            Some(last) if last.is_as(&line) => {
                last.times += 1;
                last.at_ms = line.at_ms;
            }
            _ => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        }
    }
}

impl Line {
    fn is_as(&self, other: &Line) -> bool {
        (self.level, &self.target, &self.text) == (other.level, &other.target, &other.text)
    }
}

/// The layer that keeps lines for [`Logging::recent`].
struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(logging) = installed() else { return };
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        logging.recent.keep(Line {
            at_ms: wall_ms(),
            level: match *metadata.level() {
                Level::ERROR => "error",
                _ => "warn",
            },
            target: metadata.target().to_owned(),
            text: text.written.0,
            times: 1,
        });
    }
}

/// Message first, then fields, as in the log's lines.
#[derive(Default)]
struct Text {
    written: Bounded,
}

/// Takes no more than [`LINE_BYTES_MAX`].
#[derive(Default)]
struct Bounded(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = &mut self.written;
        let between = if text.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(text, "{between}{value:?}"),
            name => write!(text, "{between}{name}={value:?}"),
        };
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = LINE_BYTES_MAX - self.0.len();
        let fits = (0..=left.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        self.0.push_str(&text[..fits.unwrap_or(0)]);
        if text.len() > left {
            // Ends the formatting of whatever it is.
            return Err(fmt::Error);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            at_ms: 1,
            level: "warn",
            target: "t".into(),
            text: text.into(),
            times: 1,
        }
    }

    #[test]
    fn a_filter_that_would_silence_the_log_is_refused_by_name() {
        for good in [
            "info",
            "off",
            "warn,headwater_quic=trace",
            "edge_node[x]=debug",
            "INFO",
        ] {
            parse(good).unwrap();
        }
        for (bad, named) in [
            ("loud", "\"loud\" is no level"),
            ("info,headwater_quic", "\"headwater_quic\" is no level"),
            ("info,x=verbose", "x=verbose"),
            ("", "\"\" is no level"),
            (&"x".repeat(2_000), "longer than 1000"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(named) && error.contains("trace"), "{error}");
            assert!(error.len() < 2_000);
        }
    }

    #[test]
    fn what_clients_do_in_handshakes_is_told_to_who_asks() {
        struct Count(std::sync::Arc<AtomicU64>);
        impl<S: Subscriber> Layer<S> for Count {
            fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let told = |filter: &str| {
            let count = std::sync::Arc::new(AtomicU64::new(0));
            let layer = Count(count.clone()).with_filter(parse(filter).unwrap());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::warn!(target: "rustls::msgs::handshake", "Illegal SNI extension");
                tracing::warn!("another");
            });
            count.load(Relaxed)
        };
        assert_eq!((told("info"), told("trace")), (1, 1));
        assert_eq!(told("info,rustls::msgs=warn"), 2);
    }

    #[test]
    fn so_many_lines_are_kept_and_a_line_that_repeats_is_one() {
        let recent = Recent::default();
        for n in 0..LINES_MAX + 10 {
            recent.keep(line(&n.to_string()));
            recent.keep(line(&n.to_string()));
        }
        let lines = lock(&recent.lines);
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].text.as_str(), lines[0].times), ("10", 2));
        assert_eq!(recent.warnings.load(Relaxed), 2 * (LINES_MAX as u64 + 10));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut text = Bounded::default();
        assert!(write!(text, "{}", "ä".repeat(10_000)).is_err());
        assert_eq!(text.0.len(), LINE_BYTES_MAX);
        let mut text = Bounded::default();
        assert!(write!(text, "x{}", "ä".repeat(10_000)).is_err());
        assert_eq!(text.0.len(), LINE_BYTES_MAX - 1);
        assert!(write!(text, "ä").is_err(), "nor half of one");
    }
}
