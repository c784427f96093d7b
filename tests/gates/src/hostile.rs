//! Plain connections that keep no rules.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A listener whose queue is full makes a connecting thread wait for a second: so there are several.
const THREADS: usize = 10;
/// Connections that the other side has ended are let go of after so many, to save files.
const LET_GO: usize = 100;

/// Silent connections: those that stand, and how many the other side has ended.
pub struct Silent {
    pub standing: Vec<TcpStream>,
    pub ended: usize,
}

impl Silent {
    fn sort(&mut self) {
        let before = self.standing.len();
        self.standing.retain(|stream| !is_closed(stream));
        self.ended += before - self.standing.len();
    }
}

/// Opens `count` connections that never send.
pub fn silent(address: SocketAddr, count: usize) -> Silent {
    let open = move || {
        let mut mine = Silent {
            standing: Vec::new(),
            ended: 0,
        };
        for n in 0..count / THREADS {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10));
            mine.standing.extend(stream);
            if n % LET_GO == 0 {
                mine.sort();
            }
        }
        mine
    };
    let threads: Vec<_> = (0..THREADS).map(|_| std::thread::spawn(open)).collect();
    let mut all = Silent {
        standing: Vec::new(),
        ended: 0,
    };
    for thread in threads {
        let some = thread.join().expect("it does not panic");
        all.standing.extend(some.standing);
        all.ended += some.ended;
    }
    all.sort();
    all
}

/// Sends `bytes` on a new connection and keeps it, reading nothing.
pub fn deaf(address: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Whether the other side has ended the connection.
pub fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    stream
        .set_nonblocking(true)
        .expect("a socket's mode can be set");
    match stream.peek(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// A CONNECT of MQTT 3.1.1.
pub fn mqtt_connect(id: &str) -> Vec<u8> {
    let mut packet = vec![0x10, 12 + id.len() as u8];
    packet.extend(b"\x00\x04MQTT\x04\x02\x00\x3c\x00");
    packet.push(id.len() as u8);
    packet.extend(id.as_bytes());
    packet
}

/// SUBSCRIBE to one filter at QoS 1.
pub fn mqtt_subscribe(filter: &str) -> Vec<u8> {
    let mut packet = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    packet.extend(filter.as_bytes());
    packet.push(1);
    packet
}

/// A Kafka request frame with its length, header version 1.
pub fn kafka_request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = ((12 + body.len()) as i32).to_be_bytes().to_vec();
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7]);
    frame.extend(b"\x00\x02me");
    frame.extend(body);
    frame
}

/// Fetch v4 of one partition from offset 0, for as much as there may be.
pub fn kafka_fetch(topic: &str, partition: i32) -> Vec<u8> {
    let mut body = Vec::new();
    // Replica, longest wait, least bytes, most bytes, isolation.
    for n in [-1, 100, 1, i32::MAX] {
        body.extend(n.to_be_bytes());
    }
    body.push(0);
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(0i64.to_be_bytes());
    body.extend(i32::MAX.to_be_bytes());
    kafka_request(1, 4, &body)
}
