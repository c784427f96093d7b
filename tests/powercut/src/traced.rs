//! A node under strace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::process::Process;
use e2e::wait_for;

use crate::trace::CALLS;

/// Buffers are shown whole up to this; a longer one would be cut silently.
const STRING_BYTES_MAX: &str = "33554432";

/// Lines of a log or a trace that a report shows.
const TAIL_LINES: usize = 20;

/// A traced process. Its tracer ends with it.
pub struct Traced {
    tracer: Process,
    trace: PathBuf,
    log: PathBuf,
}

impl Traced {
    /// Runs `program` in `home`, from where relative paths are, and traces it into `trace`.
    pub fn spawn(program: &Path, args: &[String], home: &Path, trace: &Path, log: &Path) -> Traced {
        let mut all: Vec<String> = [
            "-C",
            &home.display().to_string(),
            "strace",
            "-f",
            "-xx",
            "-s",
        ]
        .map(str::to_owned)
        .into();
        all.extend([STRING_BYTES_MAX, "-e"].map(str::to_owned));
        all.push(format!("trace={CALLS}"));
        all.extend(["-o".to_owned(), trace.display().to_string()]);
        all.push(program.display().to_string());
        all.extend_from_slice(args);
        // `env -C` is the one way to set a folder that needs no code here.
        Traced {
            tracer: Process::spawn("strace", Path::new("env"), &all, log),
            trace: trace.to_owned(),
            log: log.to_owned(),
        }
    }

    /// SIGKILL to the process itself, not to its tracer, which writes its trace to the end.
    pub fn kill(mut self) -> Result<(), String> {
        let Some(child) = child_of(self.tracer.pid()) else {
            return Err(self.end());
        };
        let mut kill = Command::new("sh");
        let killed = kill.args(["-c", &format!("kill -9 {child}")]).status();
        if !killed.is_ok_and(|status| status.success()) {
            return Err(format!("kill -9 {child}: {}", self.end()));
        }
        wait_for("strace to end", Duration::from_secs(20), || {
            (!self.tracer.alive()).then_some(())
        });
        Ok(())
    }

    /// How it ended by itself, and what it said last.
    fn end(&mut self) -> String {
        let status = match self.tracer.status() {
            Some(status) => format!("it had ended by itself, {status}"),
            None => "it is gone, and its tracer runs".to_owned(),
        };
        // The tracer says of every thread how it ended.
        let ends = tail(&self.trace, |line| line.contains("+++"));
        let said = tail(&self.log, |_| true);
        format!("{status}\nlast ends of threads:\n{ends}\nlast lines of its log:\n{said}")
    }
}

fn tail(path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| wanted(line)).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The one child of a process. The kernel's own list may leave one out while another process comes or
/// goes (proc(5)), so every process is asked for its parent.
fn child_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name in parentheses may hold blanks; state and parent come after it.
        let parent_of = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        parent_of.and_then(|id| id.parse().ok()) == Some(parent) && state != Some("Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that ends while nobody looks: the report says how, and what it said.
    #[test]
    fn a_node_that_ended_by_itself_is_told_with_its_status_and_its_last_words() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let (log, trace) = (dir.path().join("log"), dir.path().join("trace"));
        std::fs::write(&trace, "7 +++ exited with 3 +++\n").expect("a file");
        let args = ["-c", "echo its last words; exit 3"].map(str::to_owned);
        let tracer = Process::spawn("sh", Path::new("sh"), &args, &log);
        let mut node = Traced { tracer, trace, log };
        wait_for("it to end", Duration::from_secs(20), || {
            (!node.tracer.alive()).then_some(())
        });
        let told = node.kill().expect_err("it is gone");
        for part in ["exit status: 3", "exited with 3", "its last words"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn the_child_is_found_and_only_the_child() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let args = ["-c", "sleep 60 & wait"].map(str::to_owned);
        let parent = Process::spawn("sh", Path::new("sh"), &args, &dir.path().join("log"));
        let child = wait_for("the child", Duration::from_secs(20), || {
            child_of(parent.pid())
        });
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).expect("it runs");
        assert!(["sleep\n", "sh\n"].contains(&&name[..]), "{name}");
        assert_eq!(child_of(child), None);
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -9 {child}")])
            .status();
        assert!(killed.is_ok_and(|status| status.success()));
    }
}
