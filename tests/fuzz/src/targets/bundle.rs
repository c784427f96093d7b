//! Bundles, and the certificates of peers (as the uplink looks at them once TLS has).
//!
//! Memory: a bundle is at most 64 KiB; its parts are copied a few times.

use headwater_quic::{Bundle, Subject};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::named;
use crate::Target;

pub const TARGET: Target = Target {
    name: "bundle",
    run,
    seeds,
    input_bytes_max: 64 << 10,
    memory_bytes_max: 2 << 20,
};

const CERTIFICATE: u8 = 0;

fn run(data: &[u8]) {
    match data.split_first() {
        Some((&CERTIFICATE, der)) => drop(Subject::of(&CertificateDer::from(der))),
        _ => text(&String::from_utf8_lossy(data)),
    }
}

fn text(text: &str) {
    if let Ok(bundle) = Bundle::parse(text) {
        let again = Bundle::parse(&bundle.to_text()).expect("what was written parses");
        assert_eq!(again, bundle);
    }
}

/// Made once by `cloud-cluster edge add`: keys differ from run to run, and the corpus should not.
const SAMPLE: &str = include_str!("../../corpus/bundle/sample.bundle");

fn seeds() -> Vec<(String, Vec<u8>)> {
    let bundle = Bundle::parse(SAMPLE).expect("the sample is a bundle");
    let der = CertificateDer::from_pem_slice(bundle.certificate_pem.as_bytes());
    let der = der.expect("the sample holds a certificate");
    vec![
        named("certificate", [&[CERTIFICATE][..], &der].concat()),
        named(
            "short",
            SAMPLE.lines().take(6).collect::<Vec<_>>().join("\n"),
        ),
        named(
            "two-names",
            SAMPLE.replace("name = ", "name = gw-2\nname = "),
        ),
    ]
}
