//! The certificate authority of a cloud: made on first use, kept in one directory.
//!
//! ```text
//! DIR/ca.pem       the CA's certificate; goes into every bundle
//! DIR/ca.key       its private key, mode 0600
//! DIR/revoked.txt  optional; see [`crate::Revoked`]
//! ```
//!
//! Every certificate is valid from 1970-01-01, since a gateway without a clock starts there, and
//! never expires by itself (9999-12-31, RFC 5280 section 4.1.2.5): an edge that was off for years
//! must be able to deliver. The revocation list is what ends a certificate.
//!
//! Invariant: a certificate serves one side only. Edges get `clientAuth`, the cloud `serverAuth`,
//! so no edge can pose as the cloud although one CA signs both.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use headwater_proto::EdgeName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    Ia5String, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::bundle::Bundle;
use crate::name::{hex, uri_of};

/// The DNS name in every cloud certificate; edges ask for it whatever address they dial.
pub const CLOUD_DNS_NAME: &str = "headwater-cloud";

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const DAMAGED_FILE: &str = "ca.damaged.pem";

/// Why the CA could not be opened, or could not sign.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the CA could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the two files is missing: making a new one would lock out every edge.
    #[error("{0} is missing while its other half exists; restore it from a backup")]
    Half(PathBuf),
    /// A file does not hold what its name says.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The crypto library refused.
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A certificate with its key and the CA to trust: what one end of the uplink presents.
#[derive(Debug)]
pub struct Identity {
    /// The certificate chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// The only CA whose certificates the other end may show.
    pub ca: CertificateDer<'static>,
    /// Signs stateless resets (RFC 9000 section 10.3). The same at every start of a cloud, so that
    /// a node that was killed can tell edges at once that their connections are gone.
    pub reset_key: Option<[u8; 32]>,
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            ca: self.ca.clone(),
            reset_key: self.reset_key,
        }
    }
}

/// The private CA of one cloud.
pub struct Ca {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    signer: rcgen::Certificate,
    key: KeyPair,
}

impl Ca {
    /// Opens the CA in `dir`; makes it on first use. Several processes may do so at the same time:
    /// the key decides, and the first one to put it there wins. A key whose certificate a power cut
    /// took, or that does not parse any more, gets another, which is as good to every edge: it names
    /// the same authority with the same key. A certificate without its key is an error.
    pub fn open(dir: &Path) -> Result<Ca, CaError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let (certificate, key) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
        if !key.exists() {
            if certificate.exists() {
                return Err(CaError::Half(key));
            }
            install_first(&key, KeyPair::generate()?.serialize_pem().as_bytes(), 0o600)?;
        }
        let pair = load_key(&key)?;
        let is_damaged =
            certificate.exists() && fs::read(&certificate).is_ok_and(|pem| !is_certificate(&pem));
        if is_damaged {
            let aside = dir.join(DAMAGED_FILE);
            tracing::error!(path = %certificate.display(), aside = %aside.display(), "damaged; made anew from its key");
            fs::rename(&certificate, &aside).map_err(|source| io_error(&certificate, source))?;
        }
        if !certificate.exists() {
            let signed = ca_params()?.self_signed(&pair)?;
            install_first(&certificate, signed.pem().as_bytes(), 0o644)?;
            tracing::info!(certificate = %certificate.display(), "made a new certificate authority");
        }
        load(&certificate, pair)
    }

    /// The CA's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs a certificate for an edge and packs the bundle that the edge needs.
    ///
    /// `addresses` are `host:port` of the uplink listeners, tried in this order.
    pub fn issue_edge(&self, name: &EdgeName, addresses: &[String]) -> Result<Bundle, CaError> {
        let mut params = leaf(name.as_str(), ExtendedKeyUsagePurpose::ClientAuth)?;
        params.subject_alt_names = vec![
            SanType::DnsName(Ia5String::try_from(name.as_str())?),
            SanType::URI(Ia5String::try_from(uri_of(name))?),
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.signer, &self.key)?;
        Ok(Bundle {
            name: name.clone(),
            addresses: addresses.to_vec(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.certificate_pem.clone(),
        })
    }

    /// Signs a fresh certificate for a node of the cloud. It is not stored: every start may take
    /// a new one, since edges check the CA and [`CLOUD_DNS_NAME`] only.
    pub fn issue_cloud(&self) -> Result<Identity, CaError> {
        let mut params = leaf(CLOUD_DNS_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(CLOUD_DNS_NAME)?)];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.signer, &self.key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .expect("rcgen serialises keys as PKCS#8, which this reads");
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key,
            ca: self.certificate.clone(),
            reset_key: Some(self.reset_key()),
        })
    }
}

impl Ca {
    /// Known to whoever holds the CA's key, and to nobody else.
    fn reset_key(&self) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.serialized_der());
        let mut reset_key = [0; 32];
        reset_key.copy_from_slice(ring::hmac::sign(&key, b"headwater stateless reset").as_ref());
        reset_key
    }
}

/// What every leaf certificate has in common.
fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(name)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The CA's own parameters. Invariant: a function of nothing but the file format, so that the
/// issuer rebuilt from the key has the subject that `ca.pem` shows.
fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated("Headwater CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn dated(common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// 126 random bits (RFC 5280 section 4.1.2.2 allows 20 octets, positive).
fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut serial = [0u8; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random
        .fill(&mut serial)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    // Top bits 01: positive in DER, and always 16 bytes long.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

fn load_key(path: &Path) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(&read(path)?)
        .map_err(|e| content(path, format!("not a private key in PEM: {e}")))
}

fn read(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|source| io_error(path, source))
}

fn content(path: &Path, reason: String) -> CaError {
    CaError::Content {
        path: path.into(),
        reason,
    }
}

/// Whether this parses as a certificate.
fn is_certificate(pem: &[u8]) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem) else {
        return false;
    };
    webpki::EndEntityCert::try_from(&certificate).is_ok()
}

fn load(certificate_path: &Path, key: KeyPair) -> Result<Ca, CaError> {
    let certificate_pem = read(certificate_path)?;
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|e| content(certificate_path, format!("not a certificate in PEM: {e}")))?;
    let parsed = webpki::EndEntityCert::try_from(&certificate)
        .map_err(|e| content(certificate_path, format!("not a certificate: {e}")))?;
    let spki = parsed.subject_public_key_info();
    if spki.as_ref() != key.public_key_der() {
        let reason = format!("is not the certificate of the key in {KEY_FILE} beside it");
        return Err(content(certificate_path, reason));
    }
    let signer = ca_params()?.self_signed(&key)?;
    tracing::debug!(
        serial = hex(parsed.serial()),
        "certificate authority opened"
    );
    Ok(Ca {
        certificate_pem,
        certificate,
        signer,
        key,
    })
}

/// Writes a small file so that it is whole or absent after a power cut.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let written = write_beside(path, bytes, mode)
        .and_then(|temporary| fs::rename(&temporary, path))
        .and_then(|()| sync_parent(path));
    written.map_err(|source| io_error(path, source))
}

/// As [`write_durably`], but a file that is there by now stays and counts.
fn install_first(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let installed = write_beside(path, bytes, mode).and_then(|temporary| {
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    let installed = installed.and_then(|()| sync_parent(path));
    installed.map_err(|source| io_error(path, source))
}

/// A synced file of this thread's own in the directory of `path`.
fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let own = format!(
        "{}-{:?}.new",
        std::process::id(),
        std::thread::current().id()
    );
    let temporary = path.with_extension(own);
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent)?.sync_all()
}

fn io_error(path: &Path, source: io::Error) -> CaError {
    CaError::Io {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
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
    fn a_lost_key_is_not_replaced_and_a_lost_certificate_is() {
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
            assert_eq!(fs::read(dir.path().join(DAMAGED_FILE)).unwrap(), damage);
        }
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
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
                2,
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
}
