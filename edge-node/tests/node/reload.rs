//! Files that change while the node runs.

use std::path::Path;

use rustls::version::{TLS12, TLS13};

use crate::access::{Place, connect, passwd};
use crate::certs::{Ca, Pair};
use crate::listeners::{listener, server_files};
use crate::peer::{Peer, tcp, tls};
use crate::process::{Process, log_path, until};

const NOT_AUTHORISED: u8 = 0x87;

/// How a node learns of a change.
#[derive(Clone, Copy)]
enum By {
    /// It sees it itself.
    Looking,
    Hangup,
}

/// Lines of the log that hold this.
fn lines(place: &Place, what: &str) -> usize {
    let log = std::fs::read_to_string(log_path(&place.dir())).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

/// Makes a change and waits until the node says that it took it, or did not.
fn change(place: &Place, process: &Process, by: By, what: &str, change: impl FnOnce()) {
    let before = lines(place, what);
    change();
    if let By::Hangup = by {
        process.signal("HUP");
    }
    until(what, || lines(place, what) > before);
}

#[test]
fn users_come_and_go_by_a_look_and_by_a_signal() {
    for by in [By::Looking, By::Hangup] {
        let place = Place::new();
        let file = place.file("passwords");
        for user in ["anna", "bob", "carl"] {
            passwd(&file, user, Some("x")).unwrap();
        }
        let toml = listener("anonymous = \"never\"") + &place.access();
        let (process, mqtt) = Process::start_config(&place.dir(), &toml);
        let peer = |user| Peer::connect(tcp(mqtt[0]), connect(5, user, Some((user, "x"))));
        let (mut anna, mut bob, mut carl) = (
            peer("anna").unwrap().0,
            peer("bob").unwrap().0,
            peer("carl").unwrap().0,
        );
        let good = std::fs::read_to_string(&file).unwrap();
        // All in one step, so that one look sees one change.
        let other = place.file("other");
        std::fs::write(&other, &good).unwrap();
        passwd(&other, "bob", None).unwrap();
        passwd(&other, "carl", Some("another")).unwrap();
        passwd(&other, "dora", Some("x")).unwrap();
        let rename = || std::fs::rename(&other, &file).unwrap();
        change(&place, &process, by, "read again", rename);
        assert_eq!(bob.disconnected(), NOT_AUTHORISED);
        assert_eq!(carl.disconnected(), NOT_AUTHORISED);
        assert!(anna.ping().unwrap());
        assert_eq!(peer("bob").unwrap().1, 0x86);
        assert_eq!(peer("carl").unwrap().1, 0x86);
        assert_eq!(peer("dora").unwrap().1, 0);
        // Broken: what was in force stays, and the log says why.
        let broken = || std::fs::write(&file, "anna:plain\n").unwrap();
        change(&place, &process, by, "is not taken", broken);
        assert_eq!(lines(&place, "line 1: not a hash"), 1);
        assert!(anna.ping().unwrap());
        assert_eq!(peer("dora").unwrap().1, 0);
        let gone = || std::fs::remove_file(&file).unwrap();
        change(&place, &process, by, "is not taken", gone);
        assert_eq!(peer("dora").unwrap().1, 0);
        let back = || std::fs::write(&file, &good).unwrap();
        change(&place, &process, by, "read again", back);
        assert_eq!(peer("bob").unwrap().1, 0);
    }
}

#[test]
fn rules_change_for_those_that_are_connected() {
    let place = Place::new();
    place.write("acl", "topic #\n");
    let toml = listener("") + &place.access();
    let (process, mqtt) = Process::start_config(&place.dir(), &toml);
    let mut reader = Peer::welcome(tcp(mqtt[0]), connect(5, "reader", None));
    assert_eq!(reader.subscribe("#").unwrap(), 1);
    let will = crate::peer::Connect {
        will: Some("will/x"),
        ..connect(5, "with-will", None)
    };
    let mut with_will = Peer::welcome(tcp(mqtt[0]), will);
    let mut writer = Peer::welcome(tcp(mqtt[0]), connect(5, "writer", None));
    for topic in ["a", "b"] {
        assert_eq!(writer.publish(topic, b"1").unwrap(), 0);
        assert_eq!(reader.receive().unwrap().0, topic);
    }
    let write = |text: &'static str| {
        let file = place.file("acl");
        move || std::fs::write(file, text).unwrap()
    };
    let less = write("topic write a\ntopic b\n");
    change(&place, &process, By::Looking, "read again", less);
    assert_eq!(with_will.disconnected(), NOT_AUTHORISED);
    for (topic, reason) in [("a", 0), ("c", NOT_AUTHORISED), ("b", 0)] {
        assert_eq!(writer.publish(topic, b"2").unwrap(), reason);
    }
    // Neither a nor the will: the subscription is as it was, and brings what may be read.
    assert_eq!(reader.receive().unwrap(), ("b".to_owned(), b"2".to_vec()));
    let broken = write("topic sometimes a\n");
    change(&place, &process, By::Hangup, "is not taken", broken);
    assert_eq!(lines(&place, "line 1: \"sometimes\""), 1);
    assert_eq!(writer.publish("c", b"3").unwrap(), NOT_AUTHORISED);
    let all = write("topic #\n\n");
    change(&place, &process, By::Hangup, "read again", all);
    assert_eq!(writer.publish("c", b"3").unwrap(), 0);
    assert_eq!(reader.receive().unwrap().0, "c");
}

#[test]
fn certificates_change() {
    let place = Place::new();
    let dir = place.scratch.path();
    let (old, new) = (Ca::new(dir, "old"), Ca::new(dir, "new"));
    let (server, next) = (old.server("server"), new.server("next"));
    let clients = place.file("clients.pem");
    std::fs::copy(old.file(), &clients).unwrap();
    let more = format!(
        "{}client_ca = \"{}\"\nclient_certificates = \"required\"",
        server_files(&server),
        clients.display()
    );
    let toml = listener(&more) + &place.access();
    let (process, mqtt) = Process::start_config(&place.dir(), &toml);
    let peer = |ca: &Ca, of: &Ca| {
        let client = of.client("c");
        let stream = tls(mqtt[0], &ca.file(), Some(&client), &TLS13);
        Peer::connect(stream, connect(5, "c", None))
    };
    let mut first = peer(&old, &old).unwrap().0;
    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).map(drop).unwrap();
    // The key is still the old one: both stay.
    let half = || copy(&next.certificate, &server.certificate);
    change(&place, &process, By::Looking, "is not taken", half);
    assert!(lines(&place, "it is not the key of the first certificate") >= 1);
    assert!(first.ping().unwrap());
    // New handshakes show the new certificate, connections stay.
    let whole = || copy(&next.key, &server.key);
    change(&place, &process, By::Looking, "read again", whole);
    assert!(first.ping().unwrap());
    assert!(
        peer(&old, &old).is_err(),
        "it still shows the old certificate"
    );
    let mut second = peer(&new, &old).unwrap().0;
    assert!(second.ping().unwrap());
    // Another CA of clients: who came by the old one is closed.
    let other = || copy(&new.file(), &clients);
    change(&place, &process, By::Hangup, "read again", other);
    assert_eq!(second.disconnected(), NOT_AUTHORISED);
    assert!(peer(&new, &old).is_err());
    assert!(peer(&new, &new).unwrap().0.ping().unwrap());
}

/// Who is revoked is closed and does not come back; others stay, whoever else is there.
#[test]
fn certificates_are_revoked() {
    let place = Place::new();
    let dir = place.scratch.path();
    let (ca, other) = (Ca::new(dir, "ca"), Ca::new(dir, "other"));
    let server = ca.server("server");
    let (clients, list) = (place.file("clients.pem"), place.file("revoked.pem"));
    let both = [ca.file(), other.file()].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&clients, both.concat()).unwrap();
    ca.revoke(&list, &[7]);
    let more = format!(
        "{}client_ca = \"{}\"\nclient_crl = \"{}\"\nclient_certificates = \"required\"",
        server_files(&server),
        clients.display(),
        list.display()
    );
    let toml = listener(&more) + &place.access();
    let (process, mqtt) = Process::start_config(&place.dir(), &toml);
    let attempt = |client: &Pair, version| {
        let stream = tls(mqtt[0], &ca.file(), Some(client), version);
        Peer::connect(stream, connect(5, "c", None))
    };
    let (lost, kept) = (ca.numbered("lost", 7), ca.numbered("kept", 8));
    for version in [&TLS12, &TLS13] {
        let error = attempt(&lost, version).err().unwrap().to_string();
        assert!(error.contains("CertificateRevoked"), "{error}");
        // The CA whose clients nothing is known of: none of them gets in.
        assert!(attempt(&other.numbered("unlisted", 8), version).is_err());
    }
    let mut peer = attempt(&kept, &TLS13).unwrap().0;
    let broken = || std::fs::write(&list, "nothing").unwrap();
    change(&place, &process, By::Looking, "is not taken", broken);
    assert!(lines(&place, "it holds no revocation list") >= 1);
    assert!(peer.ping().unwrap() && attempt(&lost, &TLS13).is_err());
    let more = || ca.revoke(&list, &[8]);
    change(&place, &process, By::Hangup, "read again", more);
    assert_eq!(peer.disconnected(), NOT_AUTHORISED);
    assert!(attempt(&kept, &TLS13).is_err());
    assert!(attempt(&lost, &TLS13).unwrap().0.ping().unwrap());
}
