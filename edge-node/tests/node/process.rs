//! An edge-node process of its own, on a directory and on ports of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far above what any step needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    pub status: SocketAddr,
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_edge-node"))
}

impl Process {
    /// Starts on `dir` and waits until it takes connections.
    pub fn start(dir: &Path, mqtt: SocketAddr) -> Process {
        Process::start_with(dir, mqtt, &[])
    }

    pub fn start_with(dir: &Path, mqtt: SocketAddr, flags: &[&str]) -> Process {
        Process::start_in(dir, mqtt, flags, &[])
    }

    /// With variables in its environment beyond ours.
    pub fn start_in(
        dir: &Path,
        mqtt: SocketAddr,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let status = free_port();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_path(dir))
            .unwrap();
        let mut command = program();
        command.arg("run").arg("--data-dir").arg(dir);
        command.args(["--mqtt", &mqtt.to_string(), "--status", &status.to_string()]);
        let child = command
            .args(flags)
            .envs(environment.iter().copied())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Process { child, status };
        until("the node listens", || {
            if let Some(ended) = process.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(log_path(dir)).unwrap();
                panic!("the node ended with {ended}: {log}");
            }
            std::net::TcpStream::connect(mqtt).is_ok()
        });
        process
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit status and the time it took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let id = self.child.id().to_string();
        assert!(
            Command::new("sh")
                .args(["-c", "kill \"$@\"", "kill"])
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        (self.child.wait().unwrap(), started.elapsed())
    }

    pub fn status(&self) -> serde_json::Value {
        let addr = self.status.to_string();
        let output = program()
            .args(["status", "--json", "--addr", &addr])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).expect("the status is JSON")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the node wrote to stderr, beside its directory.
pub fn log_path(dir: &Path) -> PathBuf {
    dir.with_extension("stderr")
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
