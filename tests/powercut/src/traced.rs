//! A node under strace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::process::Process;
use e2e::wait_for;

use crate::trace::CALLS;

/// Buffers are shown whole up to this; a longer one would be cut silently.
const STRING_BYTES_MAX: &str = "33554432";

/// A traced process. Its tracer ends with it.
pub struct Traced(Process);

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
        Traced(Process::spawn("strace", Path::new("env"), &all, log))
    }

    /// SIGKILL to the process itself, not to its tracer, which writes its trace to the end.
    pub fn kill(mut self) -> Result<(), String> {
        let file = format!("/proc/{0}/task/{0}/children", self.0.pid());
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        // The kernel may leave one out while another process comes or goes.
        let children = (0..50)
            .map(|_| read())
            .find(|children| !children.is_empty());
        let children = children.ok_or("it had ended by itself")?;
        let mut kill = Command::new("sh");
        let killed = kill.args(["-c", &format!("kill -9 {children}")]).status();
        assert!(
            killed.is_ok_and(|status| status.success()),
            "kill -9 {children}"
        );
        wait_for("strace to end", Duration::from_secs(20), || {
            (!self.0.alive()).then_some(())
        });
        Ok(())
    }
}
