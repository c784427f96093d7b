//! The reference file equals the defaults, and errors are useful.

use super::*;

const REFERENCE: &str = include_str!("../../../config/edge-node.toml");

#[test]
fn the_reference_file_is_the_default() {
    let parsed = Config::parse(REFERENCE, Path::new("config/edge-node.toml")).unwrap();
    assert_eq!(parsed, Config::default());
    parsed.check().unwrap();
}

/// A key left out of the file would still parse to its default, so the keys are compared too.
#[test]
fn the_reference_file_shows_every_key() {
    fn keys(value: &toml::Value, path: &str, all: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    keys(value, &format!("{path}.{key}"), all);
                }
            }
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                list.iter().for_each(|value| keys(value, path, all));
            }
            _ => all.push(path.to_owned()),
        }
    }
    let (mut shown, mut known) = (Vec::new(), Vec::new());
    keys(&toml::from_str(REFERENCE).unwrap(), "", &mut shown);
    keys(
        &toml::from_str(&Config::default().to_toml()).unwrap(),
        "",
        &mut known,
    );
    shown.sort();
    known.sort();
    assert_eq!(shown, known);
}

#[test]
fn print_config_reads_back() {
    let mut config = Config::default();
    config.log.when_full = WhenFull::DropOldest;
    config.routes.push(Route {
        filter: "a/+".into(),
        topic: "a".into(),
        ..Route::default()
    });
    let again = Config::parse(&config.to_toml(), Path::new("printed")).unwrap();
    assert_eq!(again, config);
}

/// Each text must be refused with an error that holds all of the words: key, value, valid.
#[test]
fn errors_name_key_value_and_what_is_valid() {
    let cases: &[(&str, &[&str])] = &[
        ("[log]\nlinger = 5", &["linger", "linger_ms"]),
        ("[log]\nlinger_ms = \"soon\"", &["linger_ms", "soon", "u64"]),
        (
            "[log]\nwhen_full = \"panic\"",
            &["panic", "refuse", "drop-oldest"],
        ),
        ("[log]\nbatch_bytes = 5", &["log.batch_bytes", "5", "1024"]),
        (
            "[log]\ncompression_level = 99",
            &["log.compression_level", "99", "19"],
        ),
        (
            "[log]\ninterval_ms = 60000",
            &["log.interval_ms", "60000", "5000"],
        ),
        (
            "[log]\ncommit_gather_ms = 2000",
            &["log.commit_gather_ms", "2000", "1000"],
        ),
        (
            "[[listeners]]\naddress = \"nowhere\"",
            &["listeners[0].address", "nowhere", "host:port"],
        ),
        ("listeners = []", &["listeners", "at least one"]),
        (
            "[[listeners]]\naddress = \"0.0.0.0:1883\"",
            &[
                "listeners[0].anonymous",
                "loopback",
                "password_file",
                "always",
            ],
        ),
        (
            "[[listeners]]\nanonymous = \"never\"",
            &["listeners[0].anonymous", "never", "password_file"],
        ),
        ("[[listeners]]\nanonymous = true", &["anonymous", "string"]),
        (
            "[[listeners]]\n[[listeners]]\ncertificate = \"x.pem\"",
            &["listeners[1].key", "PEM"],
        ),
        (
            "[[listeners]]\nkey = \"x.key\"",
            &["listeners[0].certificate", "PEM"],
        ),
        (
            "[[listeners]]\nclient_certificates = \"required\"",
            &["listeners[0].certificate", "client_certificates"],
        ),
        (
            "[[listeners]]\nclient_certificates = \"sometimes\"",
            &["sometimes", "optional", "required"],
        ),
        (
            "[[listeners]]\ncertificate = \"a\"\nkey = \"b\"\nclient_certificates = \"required\"",
            &["listeners[0].client_ca", "CAs"],
        ),
        (
            "[[listeners]]\nclient_crl = \"revoked.pem\"",
            &["listeners[0].client_certificates", "none", "client_crl"],
        ),
        (
            "[[listeners]]\ncertificate_user = \"cn\"",
            &["listeners[0].client_certificates", "none", "required"],
        ),
        (
            "[[listeners]]\nwebsocket_origins = [\"https://a.example\"]",
            &[
                "listeners[0].websocket_origins",
                "a.example",
                "websocket = true",
            ],
        ),
        (
            "[[listeners]]\nwebsocket = true\nwebsocket_origins = [\"a.example\"]",
            &["listeners[0].websocket_origins", "a.example", "https://"],
        ),
        (
            "[[listeners]]\npacket_bytes_max = 2000000",
            &["listeners[0].packet_bytes_max", "2000000", "1048576"],
        ),
        (
            "[uplink]\nidle_timeout_s = 30",
            &["uplink.idle_timeout_s", "30", "keep_alive_s = 20"],
        ),
        ("log_level = \"loud\"", &["log_level", "loud", "trace"]),
        ("name = \"a b\"", &["name", "a b", "letters"]),
        (
            "[[routes]]\nfilter = \"a/#/b\"\ntopic = \"t\"",
            &["routes[0].filter", "a/#/b"],
        ),
        (
            "[[routes]]\nfilter = \"#\"\ntopic = \"a/b\"",
            &["routes[0].topic", "a/b", "a-z"],
        ),
        (
            "[[routes]]\nfilter = \"#\"\ntopic = \"t\"\nkey = \"{x}\"",
            &["routes[0].key", "{topic}"],
        ),
        (
            "[[routes]]\nfilter = \"#\"\ntopic = \"t\"\npartitions = 0",
            &["partitions", "0", "64"],
        ),
        (
            "[[routes]]\nfilter = \"a\"\ntopic = \"t\"\npartitions = 2\n\
             [[routes]]\nfilter = \"b\"\ntopic = \"t\"\npartitions = 3",
            &["routes[1].partitions", "3", "routes[0].partitions"],
        ),
    ];
    for (text, words) in cases {
        let checked = Config::parse(text, Path::new("x.toml")).and_then(|config| config.check());
        let error = checked.expect_err(text).to_string();
        for word in *words {
            assert!(
                error.contains(word),
                "{text:?} gives {error:?} without {word:?}"
            );
        }
    }
}
