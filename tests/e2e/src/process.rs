//! The real binaries as child processes in their own data directories.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait_for;

/// How long a node may take to listen, on a loaded machine.
const START: Duration = Duration::from_secs(30);

/// What Linux counts processor time in, on every architecture (USER_HZ).
const TICKS_PER_S: u64 = 100;

/// A running binary. Killed when dropped, unless stopped before.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program` with `args`; both outputs are appended to `log`.
    pub fn spawn(name: &str, program: &Path, args: &[String], log: &Path) -> Process {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log can be written");
        let err = out.try_clone().expect("files can be cloned");
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Process {
            child,
            name: name.to_owned(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no destructor runs, what was not handed to the kernel is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// SIGTERM, and the time it took to end. Panics when the exit was not clean.
    pub fn stop(mut self) -> Duration {
        let started = std::time::Instant::now();
        let sent = Command::new("sh")
            .args(["-c", "kill \"$@\"", "kill"])
            .arg(self.pid().to_string())
            .status()
            .expect("a shell runs");
        assert!(sent.success());
        let name = self.name.clone();
        let status = wait_for(
            &format!("{name} to end on SIGTERM"),
            Duration::from_secs(20),
            || {
                self.child
                    .try_wait()
                    .expect("our own child can be waited for")
            },
        );
        assert!(status.success(), "{name} ended with {status}");
        started.elapsed()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.status().is_none()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("our own child can be waited for")
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The part of it that is no page of a file: what the kernel cannot drop and read again.
    pub fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = kilobytes.unwrap_or("0 kB").trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap_or(0) * 1024
    }

    /// Time that this process has spent on processors, in all its threads.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(&self.pid().to_string(), 14)
    }

    /// Bytes that this process caused to be written to the storage layer.
    pub fn written_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).unwrap_or_default();
        io.lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time that children of the running program, which it has waited for, spent on processors.
pub fn children_cpu_time() -> Duration {
    cpu_time("self", 16)
}

/// The sum of two fields of `/proc/PID/stat`, counted from 1 as in proc(5): 14 and 15 are a
/// process's own times, 16 and 17 those of its children.
fn cpu_time(pid: &str, field: usize) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks; field 3 comes after it.
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let two = fields.split(' ').skip(field - 3).take(2);
    let ticks: u64 = two.filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// The workspace's binary `name`, beside the running test or program.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("the running program has a path");
    let found = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build -p {name}` first"))
}

/// A loopback TCP and UDP port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = tcp.local_addr().expect("the listener is bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until something accepts connections on `address`.
pub fn wait_listening(what: &str, address: SocketAddr) {
    wait_for(&format!("{what} to listen on {address}"), START, || {
        TcpStream::connect(address).ok()
    });
}
