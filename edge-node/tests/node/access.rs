//! Who gets in and what they may do: passwords, certificates, rules.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustls::version::TLS13;

use crate::certs::Ca;
use crate::listeners::{listener, server_files};
use crate::peer::{Connect, Peer, tcp, tls};
use crate::process::{Process, program};

const NOT_AUTHORISED: u8 = 0x87;
const BAD_LOGIN: u8 = 0x86;
const BUSY: u8 = 0x89;

/// `edge-node passwd`; what it says.
pub fn passwd(file: &Path, user: &str, password: Option<&str>) -> Result<String, String> {
    let mut command = program();
    command.arg("passwd").arg(file).arg(user);
    if password.is_none() {
        command.arg("--delete");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = writeln!(stdin, "{}", password.unwrap_or_default());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(said(output.stdout)),
        false => Err(said(output.stderr)),
    }
}

/// Files beside a node's directory.
pub struct Place {
    pub scratch: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place {
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.scratch.path().join("edge")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// `[access]` with the files "passwords" and "acl", if they are there.
    pub fn access(&self) -> String {
        let mut toml = "[access]\n".to_owned();
        for (key, name) in [("password_file", "passwords"), ("acl_file", "acl")] {
            let file = self.file(name);
            if file.exists() {
                toml += &format!("{key} = \"{}\"\n", file.display());
            }
        }
        toml
    }
}

pub fn connect<'a>(version: u8, id: &'a str, login: Option<(&'a str, &'a str)>) -> Connect<'a> {
    Connect {
        version,
        id,
        login,
        will: None,
    }
}

#[test]
fn passwords_are_set_and_let_in() {
    let place = Place::new();
    let file = place.file("passwords");
    assert!(passwd(&file, "anna", None).is_err(), "there is no file");
    assert!(!file.exists());
    passwd(&file, "anna", Some("red")).unwrap();
    passwd(&file, "bob", Some("blue")).unwrap();
    passwd(&file, "carl", Some("green")).unwrap();
    passwd(&file, "bob", Some("black")).unwrap();
    passwd(&file, "carl", None).unwrap();
    assert!(passwd(&file, "carl", None).unwrap_err().contains("no user"));
    assert!(passwd(&file, "a:b", Some("x")).unwrap_err().contains("a:b"));
    assert!(
        passwd(&file, "dora", Some(""))
            .unwrap_err()
            .contains("1 to")
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|l| l.contains(":$argon2id$")), "{text}");

    let toml = listener("anonymous = \"never\"") + &listener("") + &place.access();
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let (closed, open) = (mqtt[0], mqtt[1]);
    let reason = |at, version, login| {
        Peer::connect(tcp(at), connect(version, "c", login))
            .unwrap()
            .1
    };
    for (login, v5, v3) in [
        (Some(("anna", "red")), 0, 0),
        (Some(("anna", "red")), 0, 0),
        (Some(("bob", "black")), 0, 0),
        (Some(("bob", "blue")), BAD_LOGIN, 4),
        (Some(("anna", "black")), BAD_LOGIN, 4),
        (Some(("anna", "")), BAD_LOGIN, 4),
        (Some(("carl", "green")), BAD_LOGIN, 4),
        (Some(("", "red")), BAD_LOGIN, 4),
        (None, NOT_AUTHORISED, 5),
    ] {
        assert_eq!(reason(closed, 5, login), v5, "{login:?}");
        assert_eq!(reason(closed, 4, login), v3, "{login:?}");
    }
    // Where nobody has to log in, who does must do it right.
    assert_eq!(reason(open, 5, None), 0);
    assert_eq!(reason(open, 5, Some(("anna", "red"))), 0);
    assert_eq!(reason(open, 5, Some(("anna", "blue"))), BAD_LOGIN);
}

/// Hundreds of wrong logins at once: who is connected does not notice, who is known comes in at once,
/// the rest is told to come later, and memory stays.
#[test]
fn a_flood_of_logins_stalls_nobody() {
    let place = Place::new();
    let file = place.file("passwords");
    passwd(&file, "anna", Some("red")).unwrap();
    let toml = listener("anonymous = \"never\"") + &place.access();
    let (process, mqtt) = Process::start_config(&place.dir(), &toml);
    let anna = |id| {
        let started = Instant::now();
        let peer = Peer::connect(tcp(mqtt[0]), connect(5, id, Some(("anna", "red")))).unwrap();
        (peer.0, peer.1, started.elapsed())
    };
    let (mut standing, reason, _) = anna("standing");
    assert_eq!(reason, 0);
    let before = process.rss_bytes();
    // CONNECT of nobody@wrong, sent and not waited for.
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0xc2, 0, 0, 0, 0, 0];
    crate::client::put_text(&mut body, "nobody");
    crate::client::put_text(&mut body, &"x".repeat(100));
    let packet = [&[0x10, body.len() as u8 | 0x80, 1], &body[..]].concat();
    let packet = match body.len() {
        0..=127 => [&[0x10, body.len() as u8], &body[..]].concat(),
        _ => packet,
    };
    let mut flood: Vec<_> = (0..400)
        .map(|_| {
            let mut stream = tcp(mqtt[0]);
            stream.write_all(&packet).unwrap();
            stream
        })
        .collect();
    let limit = Duration::from_secs(5);
    let (_again, reason, took) = anna("again");
    assert_eq!(reason, 0);
    assert!(took < limit, "a known user waited {took:?}");
    for _ in 0..50 {
        let started = Instant::now();
        assert_eq!(standing.publish("t", b"x").unwrap(), 0);
        assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    }
    let mut answers = [0; 2];
    for stream in &mut flood {
        let mut connack = [0; 4];
        std::io::Read::read_exact(stream, &mut connack).unwrap();
        answers[usize::from(connack[3] == BUSY)] += 1;
        assert!([BUSY, BAD_LOGIN].contains(&connack[3]), "{connack:?}");
    }
    assert!(answers[0] > 0 && answers[1] > 0, "{answers:?}");
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

const ACL: &str = "
topic read public/#
user anna
topic readwrite a/#
topic deny a/secret/#
topic write wills/anna
user bob
topic read #
topic deny b/secret
pattern readwrite clients/%c/#
pattern read users/%u/#
";

#[test]
fn rules_decide_on_publish_subscribe_delivery_and_will() {
    let place = Place::new();
    let file = place.file("passwords");
    passwd(&file, "anna", Some("x")).unwrap();
    passwd(&file, "bob", Some("x")).unwrap();
    passwd(&file, "root", Some("x")).unwrap();
    place.write("acl", &(ACL.to_owned() + "user root\ntopic #\n"));
    let toml = listener("") + &place.access();
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let peer = |version, id, user| {
        let login = Some(user)
            .filter(|u: &&str| !u.is_empty())
            .map(|user| (user, "x"));
        Peer::connect(tcp(mqtt[0]), connect(version, id, login))
            .unwrap()
            .0
    };
    // User, client id, topic, PUBACK's reason.
    for (user, id, topic, reason) in [
        ("", "n", "public/x", NOT_AUTHORISED),
        ("", "n", "clients/n/x", 0),
        ("", "n", "clients/m/x", NOT_AUTHORISED),
        ("", "#", "clients/n/x", NOT_AUTHORISED),
        ("", "+", "clients/n/x", NOT_AUTHORISED),
        ("", "n/x", "clients/n/x/y", NOT_AUTHORISED),
        ("anna", "n", "a/b", 0),
        ("anna", "n", "a", 0),
        ("anna", "n", "a/secret/b", NOT_AUTHORISED),
        ("anna", "n", "b", NOT_AUTHORISED),
        ("anna", "n", "users/anna/x", NOT_AUTHORISED),
        ("bob", "n", "b", NOT_AUTHORISED),
        ("root", "n", "b/secret", 0),
    ] {
        assert_eq!(
            peer(5, id, user).publish(topic, b"x").unwrap(),
            reason,
            "{user} {id} {topic}"
        );
        let mut old = peer(4, id, user);
        match reason {
            0 => assert_eq!(old.publish(topic, b"x").unwrap(), 0),
            // 3.1.1 has no answer for it [MQTT-3.3.5-2].
            _ => assert!(old.publish(topic, b"x").is_err(), "{user} {id} {topic}"),
        }
    }
    // User, client id, filter, SUBACK's reason.
    for (user, id, filter, reason) in [
        ("", "n", "public/+", 1),
        ("", "n", "a/#", NOT_AUTHORISED),
        ("", "n", "clients/n/#", 1),
        ("", "n", "clients/m/#", NOT_AUTHORISED),
        ("", "#", "clients/m/#", NOT_AUTHORISED),
        ("", "+", "clients/m/#", NOT_AUTHORISED),
        ("anna", "n", "a/+", 1),
        ("anna", "n", "a/secret/#", NOT_AUTHORISED),
        ("anna", "n", "users/anna/#", 1),
        ("anna", "n", "users/bob/#", NOT_AUTHORISED),
        ("anna", "n", "#", 1),
    ] {
        assert_eq!(
            peer(5, id, user).subscribe(filter).unwrap(),
            reason,
            "{user} {id} {filter}"
        );
        let v3 = if reason == 1 { 1 } else { 0x80 };
        assert_eq!(
            peer(4, id, user).subscribe(filter).unwrap(),
            v3,
            "{user} {id} {filter}"
        );
    }
    // What # brings is what may be read, new or retained.
    let mut root = peer(5, "r", "root");
    for topic in [
        "b/secret",
        "a/secret/x",
        "a/open",
        "public/x",
        "users/bob/x",
        "clients/n/x",
    ] {
        let mut body = Vec::new();
        crate::client::put_text(&mut body, topic);
        body.extend([0, 3, 0]);
        body.extend(b"kept");
        root.send(0x33, &body).unwrap();
        assert_eq!(root.acked().unwrap(), 0);
    }
    let all = |user, id| {
        let mut reader = peer(5, id, user);
        assert_eq!(reader.subscribe("#").unwrap(), 1);
        reader
    };
    let mut readers = [
        all("anna", "n"),
        all("bob", "o"),
        all("", "p"),
        all("root", "q"),
    ];
    for topic in [
        "b/secret",
        "a/secret/x",
        "a/open",
        "public/x",
        "users/bob/x",
        "clients/n/x",
    ] {
        assert_eq!(root.publish(topic, b"new").unwrap(), 0);
    }
    let wanted: [&[&str]; 4] = [
        &["a/open", "clients/n/x"],
        &[
            "a/secret/x",
            "a/open",
            "public/x",
            "users/bob/x",
            "clients/n/x",
        ],
        &["public/x"],
        &[
            "b/secret",
            "a/secret/x",
            "a/open",
            "public/x",
            "users/bob/x",
            "clients/n/x",
        ],
    ];
    for (reader, wanted) in readers.iter_mut().zip(wanted) {
        let mut received: Vec<(String, Vec<u8>)> = (0..2 * wanted.len())
            .map(|_| reader.receive().unwrap())
            .collect();
        received.sort();
        let both = |topic: &&str| {
            let with = |payload: &[u8]| (topic.to_string(), payload.to_vec());
            [with(b"kept"), with(b"new")]
        };
        let mut wanted: Vec<_> = wanted.iter().flat_map(both).collect();
        wanted.sort();
        assert_eq!(received, wanted);
        assert!(reader.ping().unwrap(), "more came");
    }
    // Wills are publishes.
    let will = |user, topic| {
        let connect = Connect {
            will: Some(topic),
            ..connect(5, "w", Some((user, "x")))
        };
        Peer::connect(tcp(mqtt[0]), connect).unwrap().1
    };
    assert_eq!(will("anna", "wills/anna"), 0);
    assert_eq!(will("anna", "wills/bob"), NOT_AUTHORISED);
    assert_eq!(will("bob", "b/x"), NOT_AUTHORISED);
}

/// The certificate says who it is, whatever CONNECT says.
#[test]
fn certificates_name_users() {
    let place = Place::new();
    let ca = Ca::new(place.scratch.path(), "ca");
    let server = ca.server("server");
    passwd(&place.file("passwords"), "bob", Some("x")).unwrap();
    place.write("acl", "user anna\ntopic a/#\nuser bob\ntopic b/#\n");
    let more = format!(
        "{}client_ca = \"{}\"\nclient_certificates = \"optional\"\ncertificate_user = \"cn\"\nanonymous = \"never\"",
        server_files(&server),
        ca.file().display(),
    );
    let toml = listener(&more) + &place.access();
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let file = ca.file();
    let open = |client| tls(mqtt[0], &file, client, &TLS13);
    let anna = ca.client("anna");
    for login in [None, Some(("bob", "x")), Some(("bob", "wrong"))] {
        let mut peer = Peer::welcome(open(Some(&anna)), connect(5, "c", login));
        assert_eq!(peer.publish("a/x", b"1").unwrap(), 0);
        assert_eq!(
            peer.publish("b/x", b"1").unwrap(),
            NOT_AUTHORISED,
            "{login:?}"
        );
    }
    // Without a certificate a password is needed.
    let mut bob = Peer::welcome(open(None), connect(5, "c", Some(("bob", "x"))));
    assert_eq!(bob.publish("b/x", b"1").unwrap(), 0);
    assert_eq!(
        Peer::connect(open(None), connect(5, "c", None)).unwrap().1,
        NOT_AUTHORISED
    );
    // One that names nobody is no way in.
    let unnamed = ca.server("unnamed");
    assert_eq!(
        Peer::connect(open(Some(&unnamed)), connect(5, "c", None))
            .unwrap()
            .1,
        NOT_AUTHORISED
    );
}

/// A name in CONNECT that nobody checks gives no rights.
#[test]
fn without_a_password_file_a_name_is_no_proof() {
    let place = Place::new();
    place.write("acl", "topic anybody\nuser root\ntopic #\n");
    let toml = listener("") + &place.access();
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let mut peer = Peer::welcome(tcp(mqtt[0]), connect(5, "c", Some(("root", "x"))));
    assert_eq!(peer.publish("anybody", b"1").unwrap(), 0);
    assert_eq!(peer.publish("secret", b"1").unwrap(), NOT_AUTHORISED);
}
