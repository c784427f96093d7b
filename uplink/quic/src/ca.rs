//! The certificate authority of a cloud: made on first use, kept in one directory.
//!
//! ```text
//! DIR/ca.pem         the CA's certificate; goes into every bundle
//! DIR/ca.key         its private key, mode 0600
//! DIR/ca.copy.key    the same once more
//! DIR/cloud.pem      a node's certificate with its key and the CA's certificate, mode 0600
//! DIR/ca.damaged.*   a damaged certificate or key, moved aside
//! DIR/revoked.txt    optional; see [`crate::Revoked`]
//! ```
//!
//! A damaged or lost key is taken from its copy. When both are, the node serves with `cloud.pem`: edges
//! that have a bundle know no difference, and only new bundles are refused.
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
const KEY_COPY_FILE: &str = "ca.copy.key";
const CLOUD_FILE: &str = "cloud.pem";

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
    #[error(
        "{0} is missing, and so is its copy, while its other half exists: no certificate can be \
         signed until it is restored from a backup"
    )]
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
        let certificate = dir.join(CERTIFICATE_FILE);
        let pair = open_key(dir, certificate.exists())?;
        let is_damaged =
            certificate.exists() && fs::read(&certificate).is_ok_and(|pem| !is_certificate(&pem));
        if is_damaged {
            move_aside(&certificate, "made anew from its key")?;
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

    /// Signs a fresh certificate for a node of the cloud: every start may take a new one, since
    /// edges check the CA and [`CLOUD_DNS_NAME`] only.
    pub fn issue_cloud(&self) -> Result<Identity, CaError> {
        let mut identity = identity_of(&self.issue_cloud_pem()?)
            .expect("what was just written in PEM can be read");
        identity.reset_key = Some(self.reset_key());
        Ok(identity)
    }

    /// Certificate, key and the CA's certificate.
    fn issue_cloud_pem(&self) -> Result<String, CaError> {
        let mut params = leaf(CLOUD_DNS_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(CLOUD_DNS_NAME)?)];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.signer, &self.key)?;
        let parts = [
            certificate.pem(),
            key.serialize_pem(),
            self.certificate_pem.clone(),
        ];
        Ok(parts.join("\n"))
    }

    /// Known to whoever holds the CA's key, and to nobody else.
    fn reset_key(&self) -> [u8; 32] {
        reset_key(self.key.serialized_der())
    }
}

/// What a node presents: a fresh certificate, and when the CA cannot sign one that an earlier start
/// has left.
pub fn cloud_identity(dir: &Path) -> Result<Identity, CaError> {
    let path = dir.join(CLOUD_FILE);
    let stored = || {
        let text = fs::read_to_string(&path).ok()?;
        let mut identity = identity_of(&text)?;
        // Not the one that edges know from earlier starts: they find out by silence.
        identity.reset_key = Some(reset_key(identity.key.secret_der()));
        Some(identity)
    };
    let ca = match Ca::open(dir) {
        Ok(ca) => ca,
        Err(error) => {
            let Some(identity) = stored() else {
                return Err(error);
            };
            tracing::error!(
                %error, path = %path.display(),
                "the CA cannot sign: edges are served with an earlier certificate, and no new bundle \
                 can be made"
            );
            return Ok(identity);
        }
    };
    let identity = ca.issue_cloud()?;
    if stored().is_none_or(|stored| stored.ca != identity.ca) {
        write_durably(&path, ca.issue_cloud_pem()?.as_bytes(), 0o600)?;
    }
    Ok(identity)
}

fn reset_key(secret: &[u8]) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let mut reset_key = [0; 32];
    reset_key.copy_from_slice(ring::hmac::sign(&key, b"headwater stateless reset").as_ref());
    reset_key
}

/// `None`: damaged.
fn identity_of(text: &str) -> Option<Identity> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().ok()?;
    let [leaf, ca] = <[CertificateDer<'static>; 2]>::try_from(certificates).ok()?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?;
    let pair = KeyPair::try_from(&key).ok()?;
    let parsed = webpki::EndEntityCert::try_from(&leaf).ok()?;
    webpki::EndEntityCert::try_from(&ca).ok()?;
    (parsed.subject_public_key_info().as_ref() == pair.public_key_der()).then(|| Identity {
        chain: vec![leaf.clone()],
        key,
        ca,
        reset_key: None,
    })
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

/// The CA's key, or its copy where it is damaged or gone; a new one where there never was a CA.
fn open_key(dir: &Path, is_known: bool) -> Result<KeyPair, CaError> {
    let (path, copy) = (dir.join(KEY_FILE), dir.join(KEY_COPY_FILE));
    let found = path.exists().then(|| load_key(&path));
    let pair = match (found, load_key(&copy)) {
        (Some(Ok(pair)), _) => pair,
        (found, Ok(pair)) => {
            let why = "taken from its copy";
            match found {
                Some(_) => move_aside(&path, why)?,
                None => tracing::error!(path = %path.display(), "missing; {why}"),
            }
            install_first(&path, pair.serialize_pem().as_bytes(), 0o600)?;
            pair
        }
        (Some(Err(error)), Err(_)) => return Err(error),
        (None, Err(_)) if is_known || copy.exists() => return Err(CaError::Half(path)),
        (None, Err(_)) => {
            install_first(
                &path,
                KeyPair::generate()?.serialize_pem().as_bytes(),
                0o600,
            )?;
            load_key(&path)?
        }
    };
    let is_kept = load_key(&copy).is_ok_and(|kept| kept.serialized_der() == pair.serialized_der());
    if !is_kept {
        write_durably(&copy, pair.serialize_pem().as_bytes(), 0o600)?;
    }
    Ok(pair)
}

fn move_aside(path: &Path, then: &str) -> Result<(), CaError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let aside = path.with_extension(format!("damaged.{extension}"));
    tracing::error!(path = %path.display(), aside = %aside.display(), "damaged; {then}");
    fs::rename(path, &aside).map_err(|source| io_error(path, source))
}

fn load_key(path: &Path) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(&read(path)?).map_err(|e| {
        content(
            path,
            format!("not a private key in PEM: {e}; restore it from a backup"),
        )
    })
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
mod tests;
