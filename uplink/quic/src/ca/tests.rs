//! What a CA keeps, and what it does when that is damaged.

use super::*;
use crate::name::Subject;
use std::os::unix::fs::PermissionsExt;

#[test]
fn is_made_once_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::open(dir.path()).unwrap();
    let mode = fs::metadata(dir.path().join(KEY_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Ca::open(dir.path()).unwrap();
    assert_eq!(first.certificate_pem(), again.certificate_pem());
}

#[test]
fn a_lost_key_is_not_made_anew_and_a_lost_certificate_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::open(dir.path()).unwrap();
    fs::remove_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
    let again = Ca::open(dir.path()).unwrap();
    assert_eq!(first.reset_key(), again.reset_key());
    let certificate = dir.path().join(CERTIFICATE_FILE);
    for damage in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&certificate, damage).unwrap();
        let again = Ca::open(dir.path()).unwrap();
        assert_eq!(first.reset_key(), again.reset_key());
        assert_eq!(fs::read(dir.path().join("ca.damaged.pem")).unwrap(), damage);
    }
    fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
    assert_eq!(Ca::open(dir.path()).unwrap().reset_key(), first.reset_key());
    for name in [KEY_FILE, KEY_COPY_FILE] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(matches!(Ca::open(dir.path()), Err(CaError::Half(_))));
}

#[test]
fn many_make_one_at_the_same_time() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let seen: Vec<String> = std::thread::scope(|scope| {
            let open = || Ca::open(dir.path()).unwrap().certificate_pem().to_owned();
            let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|pem| *pem == seen[0]));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            3,
            "temporary files stay behind"
        );
    }
}

#[test]
fn a_foreign_certificate_is_noticed() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Ca::open(a.path()).unwrap();
    Ca::open(b.path()).unwrap();
    fs::copy(
        a.path().join(CERTIFICATE_FILE),
        b.path().join(CERTIFICATE_FILE),
    )
    .unwrap();
    assert!(matches!(Ca::open(b.path()), Err(CaError::Content { .. })));
}

#[test]
fn an_edge_certificate_names_its_edge() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(dir.path()).unwrap();
    let name = EdgeName::new("gw-07").unwrap();
    let bundle = ca
        .issue_edge(&name, &["cloud.example:4433".into()])
        .unwrap();
    let identity = bundle.identity().unwrap();
    assert_eq!(Subject::of(&identity.chain[0]).unwrap().edge, name);
    assert!(Subject::of(&ca.issue_cloud().unwrap().chain[0]).is_err());
}

/// Any bit of either file, and all of it.
#[test]
fn a_damaged_key_is_taken_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::open(dir.path()).unwrap();
    for name in [KEY_FILE, KEY_COPY_FILE] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for bit in (0..whole.len() * 8).step_by(7) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, damaged).unwrap();
            let again = Ca::open(dir.path()).unwrap();
            assert_eq!(again.reset_key(), first.reset_key(), "bit {bit} of {name}");
        }
        fs::write(&path, "").unwrap();
        assert_eq!(Ca::open(dir.path()).unwrap().reset_key(), first.reset_key());
    }
}

/// With both gone there are no new bundles, and the certificate of an earlier start serves.
#[test]
fn without_a_key_a_node_serves_and_signs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = cloud_identity(dir.path()).unwrap();
    let stored = fs::read(dir.path().join(CLOUD_FILE)).unwrap();
    let mode = fs::metadata(dir.path().join(CLOUD_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    cloud_identity(dir.path()).unwrap();
    let again = fs::read(dir.path().join(CLOUD_FILE)).unwrap();
    assert_eq!(again, stored, "it is written once");
    for name in [KEY_FILE, KEY_COPY_FILE] {
        fs::write(dir.path().join(name), "rot").unwrap();
    }
    let served = cloud_identity(dir.path()).unwrap();
    assert_eq!(served.ca, first.ca);
    let anchor = webpki::anchor_from_trusted_cert(&served.ca).unwrap();
    let leaf = webpki::EndEntityCert::try_from(&served.chain[0]).unwrap();
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &[],
        rustls::pki_types::UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .unwrap();
    let error = Ca::open(dir.path()).err().unwrap().to_string();
    assert!(
        error.contains("ca.key") && error.contains("backup"),
        "{error}"
    );
    // And when that is damaged too the node says so.
    fs::write(dir.path().join(CLOUD_FILE), &stored[..stored.len() / 2]).unwrap();
    assert!(matches!(
        cloud_identity(dir.path()),
        Err(CaError::Content { .. })
    ));
}
