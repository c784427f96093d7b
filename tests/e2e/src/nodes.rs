//! A cloud node and edges as their users start them: one data directory each, a bundle, flags for
//! the addresses. Ports stay the same over restarts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::link::Link;
use crate::process::{Process, binary, free_port, wait_listening};

/// A cloud node's place: start and kill it as often as needed.
pub struct Cloud {
    pub dir: PathBuf,
    pub kafka: SocketAddr,
    pub uplink: SocketAddr,
    pub admin: SocketAddr,
    /// Settings beyond the flags.
    pub config: Option<PathBuf>,
}

impl Cloud {
    pub fn new(dir: &Path) -> Cloud {
        std::fs::create_dir_all(dir).expect("a test's folder can be made");
        Cloud {
            dir: dir.to_owned(),
            kafka: free_port(),
            uplink: free_port(),
            admin: free_port(),
            config: None,
        }
    }

    /// With these settings, which the flags for addresses and directory still override.
    pub fn with_config(mut self, toml: &str) -> Cloud {
        self.config = Some(write_config(&self.dir, "cloud-cluster.toml", toml));
        self
    }

    /// Edges are told the link's address. Told the node's own, they would soon go around the link.
    pub fn behind(mut self, link: &Link) -> Cloud {
        let before = self.config.as_ref();
        let before = before.map(|path| std::fs::read_to_string(path).expect("it was just written"));
        let toml = before.unwrap_or_default();
        let address = link.address();
        let toml = format!("{toml}\n[uplink]\nadvertised = [\"{address}\"]\n");
        self.config = Some(write_config(&self.dir, "cloud-cluster.toml", &toml));
        self
    }

    /// Starts the node and waits until it serves Kafka.
    pub fn start(&self) -> Process {
        let mut args = strings(&["run", "--data-dir"]);
        args.push(self.dir.join("data").display().to_string());
        for (flag, address) in [
            ("--kafka", self.kafka),
            ("--uplink", self.uplink),
            ("--admin", self.admin),
        ] {
            args.extend([flag.to_owned(), address.to_string()]);
        }
        args.extend(config_flag(self.config.as_deref()));
        let process = Process::spawn(
            "cloud-cluster",
            &binary("cloud-cluster"),
            &args,
            &self.dir.join("log"),
        );
        wait_listening("the cloud node", self.kafka);
        process
    }

    /// `cloud-cluster edge add`: the bundle names `uplink`, which may be a link's address.
    pub fn add_edge(&self, name: &str, uplink: SocketAddr) -> PathBuf {
        let bundle = self.dir.join(format!("{name}.bundle"));
        let made = Command::new(binary("cloud-cluster"))
            .args(["edge", "add", name, "--data-dir"])
            .arg(self.dir.join("data"))
            .args(["--address", &uplink.to_string(), "--out"])
            .arg(&bundle)
            .output()
            .expect("cloud-cluster runs");
        assert!(
            made.status.success(),
            "edge add: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        bundle
    }
}

/// An edge's place.
pub struct Edge {
    pub dir: PathBuf,
    pub bundle: Option<PathBuf>,
    pub mqtt: SocketAddr,
    pub status: SocketAddr,
    /// In a WebSocket; `None`: no such listener.
    pub websocket: Option<SocketAddr>,
    /// Settings beyond the flags.
    pub config: Option<PathBuf>,
}

impl Edge {
    pub fn new(dir: &Path, bundle: Option<PathBuf>) -> Edge {
        std::fs::create_dir_all(dir).expect("a test's folder can be made");
        Edge {
            dir: dir.to_owned(),
            bundle,
            mqtt: free_port(),
            status: free_port(),
            websocket: None,
            config: None,
        }
    }

    /// With a listener for WebSockets beside the plain one.
    pub fn with_websocket(mut self) -> Edge {
        let websocket = free_port();
        let toml = format!(
            "[[listeners]]\naddress = \"{}\"\n[[listeners]]\naddress = \"{websocket}\"\n\
             websocket = true\n",
            self.mqtt
        );
        self.websocket = Some(websocket);
        self.with_config(&toml)
    }

    /// With these settings, which the flags for addresses and directory still override.
    pub fn with_config(mut self, toml: &str) -> Edge {
        self.config = Some(write_config(&self.dir, "edge-node.toml", toml));
        self
    }

    /// Starts the node and waits until it takes MQTT connections.
    pub fn start(&self) -> Process {
        self.start_binary(&binary("edge-node"))
    }

    pub fn start_binary(&self, program: &Path) -> Process {
        let process = self.spawn(program);
        wait_listening("the edge", self.mqtt);
        process
    }

    /// Starts the node and waits for nothing.
    pub fn spawn(&self, program: &Path) -> Process {
        let mut args = strings(&["run", "--data-dir"]);
        args.push(self.dir.join("data").display().to_string());
        args.extend(["--status".to_owned(), self.status.to_string()]);
        // The flag takes the place of all listeners in the file.
        if self.websocket.is_none() {
            args.extend(["--mqtt".to_owned(), self.mqtt.to_string()]);
        }
        args.extend(config_flag(self.config.as_deref()));
        if let Some(bundle) = &self.bundle {
            args.extend(["--bundle".to_owned(), bundle.display().to_string()]);
        }
        Process::spawn("edge-node", program, &args, &self.dir.join("log"))
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn write_config(dir: &Path, name: &str, toml: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, toml).expect("a test's folder can be written");
    path
}

fn config_flag(config: Option<&Path>) -> Vec<String> {
    config.map_or(Vec::new(), |path| {
        vec!["--config".to_owned(), path.display().to_string()]
    })
}
