//! An edge-node process of its own, on a directory and on ports of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far above what any step needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    dir: PathBuf,
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
        let (address, status) = (mqtt.to_string(), free_port());
        let flags = [&["--mqtt", &address], flags].concat();
        let mut process = Process::spawn(dir, status, &flags, environment);
        process.until("the node listens", || {
            std::net::TcpStream::connect(mqtt).is_ok()
        });
        process
    }

    /// Starts with these settings; gives the addresses of their listeners, which may ask for port 0.
    pub fn start_config(dir: &Path, toml: &str) -> (Process, Vec<SocketAddr>) {
        let file = dir.with_extension("toml");
        std::fs::write(&file, toml).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut process = Process::spawn(dir, any, &["--config", &file.display().to_string()], &[]);
        let (mut mqtt, mut status) = (Vec::new(), None);
        process.until("the node says where it listens", || {
            let log = std::fs::read_to_string(log_path(dir)).unwrap();
            let line = log.lines().find(|line| line.contains("edge node runs"));
            let Some(line) = line else { return false };
            let between = |from: &str, to: char| {
                let rest = line.split_once(from).unwrap().1;
                rest.split_once(to).unwrap().0
            };
            let all = between("mqtt=[", ']').split(", ");
            mqtt = all.map(|address| address.parse().unwrap()).collect();
            status = between("status=Some(", ')').parse().ok();
            true
        });
        process.status = status.unwrap();
        (process, mqtt)
    }

    fn spawn(
        dir: &Path,
        status: SocketAddr,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_path(dir))
            .unwrap();
        let mut command = program();
        command.arg("run").arg("--data-dir").arg(dir);
        command.args(["--status", &status.to_string()]);
        let child = command
            .args(flags)
            .envs(environment.iter().copied())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let dir = dir.to_owned();
        Process { child, status, dir }
    }

    /// Waits for it, unless the node ends.
    fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        until(what, || {
            if let Some(ended) = self.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(log_path(&self.dir)).unwrap();
                panic!("the node ended with {ended}: {log}");
            }
            condition()
        });
    }

    /// Sends a signal by its name, such as "HUP".
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let flag = format!("-{name}");
        let sent = Command::new("sh")
            .args(["-c", "kill \"$@\"", "kill", &flag, &id])
            .status()
            .unwrap();
        assert!(sent.success());
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
        self.signal("TERM");
        (self.child.wait().unwrap(), started.elapsed())
    }

    /// Resident memory.
    pub fn rss_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kb = line.split_whitespace().nth(1).unwrap();
        kb.parse::<u64>().unwrap() << 10
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
