//! A node as a process, and the two Kafka requests that an idempotent producer needs.

// Helpers of tests are tests, which clippy does not see; not every test file uses them all.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, layout};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use serde_json::Value;

pub struct Node {
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
    config: std::path::PathBuf,
    child: Option<Child>,
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Node {
    /// As [`Node::new`], with one more line in the section `[log]`.
    pub fn with(dir: &Path, line: &str) -> Node {
        let node = Node::new(dir);
        let text = std::fs::read_to_string(&node.config).unwrap();
        std::fs::write(&node.config, format!("{text}{line}\n")).unwrap();
        node
    }

    /// Not started yet. Segments and journal files are small, so that a short test meets them all.
    pub fn new(dir: &Path) -> Node {
        let (kafka, admin) = (free_tcp(), free_tcp());
        let uplink = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = dir.join("config.toml");
        let text = format!(
            "data_dir = {:?}\n[kafka]\nlisten = \"{kafka}\"\n[uplink]\nlisten = \"{uplink}\"\n\
             [admin]\nlisten = \"{admin}\"\n[log]\njournal_file_bytes = 4194304\n\
             journal_files_max = 8\nhot_bytes = 1048576\nsegment_bytes_min = 20000\n\
             checkpoint_interval_s = 1\n",
            dir.join("data")
        );
        std::fs::write(&config, text).unwrap();
        Node {
            kafka,
            admin,
            config,
            child: None,
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-cluster"));
        command
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .env("RUST_LOG", "warn");
        command
    }

    /// Starts the node and waits until it answers.
    pub fn start(&mut self) {
        self.child = Some(self.command().spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while http(self.admin, "GET", "/healthz", "").is_none() {
            assert!(Instant::now() < deadline, "the node does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; how long it took, and whether it ended well.
    pub fn terminate(&mut self) -> (Duration, bool) {
        let mut child = self.child.take().expect("the node runs");
        let started = Instant::now();
        let kill = Command::new("sh")
            .args(["-c", "kill \"$@\"", "kill"])
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success());
        let status = child.wait().unwrap();
        (started.elapsed(), status.success())
    }

    pub fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = http(self.admin, method, path, body).expect("the node answers");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"))
    }

    /// Every record's (offset, value) of a partition.
    pub fn records(&self, topic: &str, partition: u32) -> Vec<(i64, String)> {
        let (mut records, mut from) = (Vec::new(), 0);
        loop {
            let path = format!("/topics/{topic}/{partition}/records?from={from}&max=10000");
            let read = self.json("GET", &path, "");
            let page = read["records"].as_array().expect("a list");
            if page.is_empty() {
                return records;
            }
            for record in page {
                let value = record["value"].as_str().unwrap().to_owned();
                records.push((record["offset"].as_i64().unwrap(), value));
            }
            from = read["resume_at"].as_i64().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The body of an answer; `None` when nobody answers.
pub fn http(at: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}

/// One connection that speaks Kafka.
pub struct Client {
    stream: TcpStream,
    correlation: i32,
}

impl Client {
    pub fn connect(at: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Client {
            stream,
            correlation: 0,
        })
    }

    fn send<T: Encodable>(&mut self, api: i16, version: i16, request: &T) -> std::io::Result<()> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(api)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("crash-test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, 2).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.stream.write_all(&(frame.len() as u32).to_be_bytes())?;
        self.stream.write_all(&frame)
    }

    fn receive<T: Decodable>(&mut self, version: i16) -> std::io::Result<T> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, 1).unwrap();
        Ok(T::decode(&mut frame, version).unwrap())
    }

    pub fn producer_id(&mut self) -> std::io::Result<i64> {
        self.send(
            22,
            4,
            &InitProducerIdRequest::default().with_transactional_id(None),
        )?;
        let response: InitProducerIdResponse = self.receive(4)?;
        assert_eq!(response.error_code, 0);
        Ok(response.producer_id.0)
    }

    /// Sends a batch with acks=all; the answer is for [`Client::acked`].
    pub fn produce(&mut self, topic: &str, batch: &Bytes) -> std::io::Result<()> {
        let data = PartitionProduceData::default()
            .with_index(0)
            .with_records(Some(batch.clone()));
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let topic = TopicProduceData::default()
            .with_name(name)
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        self.send(0, 9, &request)
    }

    /// The base offset of the oldest batch that is not answered yet, or its error code.
    pub fn acked(&mut self) -> std::io::Result<Result<i64, i16>> {
        let response: ProduceResponse = self.receive(9)?;
        let partition = &response.responses[0].partition_responses[0];
        Ok(match partition.error_code {
            0 => Ok(partition.base_offset),
            code => Err(code),
        })
    }
}

/// A batch of an idempotent producer with the values `[first, first + count)`.
pub fn batch(producer: i64, first: i32, count: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    for value in first..first + count {
        builder
            .push(&NewRecord::new(1_763_800_000_000, "key", value.to_string()))
            .unwrap();
    }
    let mut bytes = builder.finish().to_vec();
    bytes[layout::PRODUCER_ID].copy_from_slice(&producer.to_be_bytes());
    bytes[layout::PRODUCER_EPOCH].copy_from_slice(&0i16.to_be_bytes());
    bytes[layout::BASE_SEQUENCE].copy_from_slice(&first.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[layout::CRC_FROM..]);
    bytes[layout::CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// A batch of one record of so many bytes, not compressed.
pub fn large_batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), Level::None);
    builder
        .push(&NewRecord::new(1_763_800_000_000, "key", "x".repeat(bytes)))
        .unwrap();
    builder.finish().into()
}

/// What a process that must not start says.
pub fn fails(mut command: Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
