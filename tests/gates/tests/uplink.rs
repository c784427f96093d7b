//! Who gets in at the uplink, with real certificates and a peer that sends what it likes: every
//! stranger is named in the log with the reason, and an honest edge goes on beside it.
#![allow(clippy::unwrap_used)] // A test may.

use std::process::Command;
use std::time::Duration;

use e2e::process::binary;
use e2e::wait_for;
use gates::honest::publish_once;
use gates::peer::{Peer, hello, identity, stranger};
use gates::{LIMIT, Pair, assert_grown_at_most};
use headwater_proto::bounds::{FRAME_BODY_BYTES_MAX, FRAME_TAIL_BYTES_MAX, FRAME_VERSION};

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// The honest edge's messages still arrive.
fn goes_on(pair: &Pair, payload: &str) {
    publish_once(pair.edge.mqtt, "honest", payload).unwrap();
    wait_for("the honest edge's record", LIMIT, || {
        let mut consumer = e2e::kafka::Consumer::connect(pair.cloud.kafka).ok()?;
        let records = consumer.read_all("mqtt").ok()?;
        let found = records
            .iter()
            .any(|r| r.value.as_deref() == Some(payload.as_bytes()));
        found.then_some(())
    });
}

fn revoke(pair: &Pair, name: &str) {
    let admin = pair.cloud.admin.to_string();
    let done = Command::new(binary("cloud-cluster"))
        .args(["edge", "revoke", name, "--admin", &admin])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "edge revoke {name}: {words}");
}

#[test]
fn strangers_are_refused_by_name_and_reason() {
    let pair = Pair::start();
    let log = pair.cloud_log();
    let uplink = pair.cloud.uplink;
    let known = identity(&pair.cloud.add_edge("gw-a", uplink));
    let other = stranger("gw-a", &pair.scratch.path().join("ca"), &known);

    // Of a CA of its own, and with no certificate at all.
    for (peer, with_certificate) in [(&other, true), (&known, false)] {
        let ended = run(async {
            match Peer::connect(uplink, peer, with_certificate).await {
                Ok(peer) => peer.ended().await,
                Err(reason) => reason,
            }
        });
        assert!(
            ended.contains("closed by peer") || ended.contains("aborted"),
            "{ended}"
        );
    }
    log.wait(&["certificate refused", "claims=\"gw-a\""]);
    log.wait(&[
        "refused",
        "listener=\"uplink\"",
        "who=127.0.0.1:",
        "invalid peer certificate",
    ]);
    log.wait(&[
        "refused",
        "listener=\"uplink\"",
        "who=127.0.0.1:",
        "no certificates",
    ]);

    // A known edge that says it is another one.
    let (address, ended) = run(async {
        let peer = Peer::connect(uplink, &known, true).await.unwrap();
        let _streams = peer.control(&hello("honest")).await.unwrap();
        (peer.address(), peer.ended().await)
    });
    assert!(ended.contains("the certificate decides"), "{ended}");
    let port = format!("127.0.0.1:{}", address.port());
    log.wait(&["gw-a", &port, "says in HELLO that it is", "honest"]);
    goes_on(&pair, "after-strangers");
}

#[test]
fn a_revoked_edge_is_cut_off_and_stays_out() {
    let pair = Pair::start();
    let log = pair.cloud_log();
    let known = identity(&pair.cloud.add_edge("stolen", pair.cloud.uplink));
    run(async {
        let peer = Peer::connect(pair.cloud.uplink, &known, true)
            .await
            .unwrap();
        let _streams = peer.control(&hello("stolen")).await.unwrap();
        log.wait(&["edge connected", "stolen"]);
        revoke(&pair, "stolen");
        let ended = peer.ended().await;
        assert!(ended.contains("revoked"), "{ended}");
        log.wait(&[
            "edge sent away",
            "edge=stolen",
            "remote=127.0.0.1:",
            "revoked",
        ]);
        let again = match Peer::connect(pair.cloud.uplink, &known, true).await {
            Ok(peer) => peer.ended().await,
            Err(reason) => reason,
        };
        assert!(again.contains("revoked"), "{again}");
    });
    log.wait(&[
        "refused",
        "who=127.0.0.1:",
        "certificate of edge stolen",
        "revoked",
    ]);
    goes_on(&pair, "after-revocation");
}

/// A frame's header, whose lengths are whatever is wanted.
fn header(body: u32, tail: u32, sequence: u32) -> Vec<u8> {
    let mut header = vec![FRAME_VERSION];
    for word in [body, tail, sequence, 0] {
        header.extend(word.to_le_bytes());
    }
    header
}

#[test]
fn frames_of_no_length_too_long_or_sent_again_end_the_session() {
    let pair = Pair::start();
    let log = pair.cloud_log();
    let known = identity(&pair.cloud.add_edge("odd", pair.cloud.uplink));
    let before = pair.cloud_process.rss_bytes();
    let too_long = FRAME_BODY_BYTES_MAX as u32 + 1;
    let too_large = FRAME_TAIL_BYTES_MAX as u32 + 1;
    let cases = [
        (header(0, 0, 1), "a body of 0 bytes"),
        (header(too_long, 0, 1), "at most 65536"),
        (header(9, too_large, 1), "at most 1048576"),
        (header(u32::MAX, u32::MAX, 1), "at most 65536"),
        (hello("odd"), "sequence 0 where 1 is due"),
        (vec![9; 40], "version 9"),
    ];
    for (frame, reason) in &cases {
        // On the control stream, behind a good HELLO.
        let control = run(async {
            let peer = Peer::connect(pair.cloud.uplink, &known, true)
                .await
                .unwrap();
            let bytes = [hello("odd"), frame.clone()].concat();
            let _streams = peer.control(&bytes).await.unwrap();
            peer.ended().await
        });
        assert!(control.contains(reason), "control: {control}, not {reason}");
        log.wait(&["edge disconnected", "odd", "127.0.0.1:", reason]);
    }
    // On a data lane numbers begin anew, so what is due there is 0.
    let lanes = [
        (header(0, 0, 0), "a body of 0 bytes"),
        (header(too_long, 0, 0), "at most 65536"),
        (header(9, too_large, 0), "at most 1048576"),
        (hello("odd"), "HELLO on a data lane"),
    ];
    for (frame, reason) in &lanes {
        let lane = run(async {
            let peer = Peer::connect(pair.cloud.uplink, &known, true)
                .await
                .unwrap();
            let _streams = peer.control(&hello("odd")).await.unwrap();
            let _lane = peer.lane(frame).await.unwrap();
            peer.ended().await
        });
        assert!(lane.contains(reason), "lane: {lane}, not {reason}");
    }
    goes_on(&pair, "after-frames");
    assert_grown_at_most("cloud", &pair.cloud_process, before, 32 << 20);
}

/// A header that promises a large frame which never comes holds what came, and no more.
#[test]
fn promises_cost_nothing() {
    let pair = Pair::start();
    let known = identity(&pair.cloud.add_edge("promise", pair.cloud.uplink));
    run(async {
        let peer = Peer::connect(pair.cloud.uplink, &known, true)
            .await
            .unwrap();
        let _streams = peer.control(&hello("promise")).await.unwrap();
        let before = pair.cloud_process.rss_bytes();
        let mut lanes = Vec::new();
        for _ in 0..60 {
            let frame = header(FRAME_BODY_BYTES_MAX as u32, FRAME_TAIL_BYTES_MAX as u32, 0);
            lanes.push(peer.lane(&frame).await.unwrap());
        }
        // One more round trip than they need to be read.
        for lane in &mut lanes {
            lane.write_all(&[0; 100]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_grown_at_most("cloud", &pair.cloud_process, before, 16 << 20);
    });
    goes_on(&pair, "after-promises");
}
