//! TLS of a listener: certificate, key and CA files in, rustls settings out; and the user that a
//! client's certificate names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use crate::access::files::{FileError, read_bounded};
use crate::config::{CertificateUser, ClientCertificates, Listener};

/// A PEM file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a listener's handshakes use.
#[derive(Clone)]
pub struct Tls {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// Says whether a client's certificate is good.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files of listener `index`.
    pub fn load(index: usize, listener: &Listener) -> Result<Tls, FileError> {
        let failed = |name: &str, path: &str| {
            let (key, path) = (format!("listeners[{index}].{name}"), PathBuf::from(path));
            move |reason: String| FileError { key, path, reason }
        };
        let chain = certificates(&listener.certificate)
            .map_err(failed("certificate", &listener.certificate))?;
        let key = private_key(&listener.key).map_err(failed("key", &listener.key))?;
        let roots = roots(listener).map_err(failed("client_ca", &listener.client_ca))?;
        let verifier = match roots {
            Some(roots) => Some(
                verifier(listener, roots).map_err(failed("client_crl", &listener.client_crl))?,
            ),
            None => None,
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| failed("certificate", &listener.certificate)(e.to_string()))?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => failed("key", &listener.key)(format!(
                "it is not the key of the first certificate in {}",
                listener.certificate
            )),
            other => failed("certificate", &listener.certificate)(other.to_string()),
        })?;
        let config = Arc::new(config);
        Ok(Tls { config, verifier })
    }

    /// Whether a client that showed this chain would still be let in.
    pub fn accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.verifier, chain.split_first()) {
            (Some(verifier), Some((leaf, intermediates))) => verifier
                .verify_client_cert(leaf, intermediates, UnixTime::now())
                .is_ok(),
            _ => false,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    read_bounded(Path::new(path), FILE_BYTES_MAX)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    sections(path, "certificate", "CERTIFICATE")
}

/// Every section of one kind in a PEM file, which has at least one.
fn sections<T: PemObject>(path: &str, what: &str, label: &str) -> Result<Vec<T>, String> {
    let pem = read(path)?;
    let all: Result<Vec<T>, _> = T::pem_slice_iter(&pem).collect();
    let all = all.map_err(|e| format!("not a PEM file of {what}s: {e}"))?;
    if all.is_empty() {
        return Err(format!("it holds no {what} (-----BEGIN {label}-----)"));
    }
    Ok(all)
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| format!("not a PEM file of a private key without a pass phrase: {e}"))
}

/// The CAs of clients; `None`: no certificates are asked for.
fn roots(listener: &Listener) -> Result<Option<RootCertStore>, String> {
    if listener.client_certificates == ClientCertificates::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&listener.client_ca)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(Some(roots))
}

/// An error is about the lists of what is revoked.
fn verifier(
    listener: &Listener,
    roots: RootCertStore,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    if listener.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    if !listener.client_crl.is_empty() {
        let lists = sections(&listener.client_crl, "revocation list", "X509 CRL")?;
        // Of the client alone, as other brokers do it: what is above it has no list on most sites.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    builder.build().map_err(|e| match e {
        VerifierBuilderError::InvalidCrl(why) => format!(
            "a list in it cannot be used ({why:?}): it takes version 2 with a number, as OpenSSL makes \
             them with `crlnumber` in its settings"
        ),
        other => other.to_string(),
    })
}

/// The user that a client's certificate names; an error says why it names none. Whether the
/// certificate is genuine is known before.
pub fn user_of(certificate: &CertificateDer<'_>, which: CertificateUser) -> Result<String, String> {
    let parsed = EndEntityCert::try_from(certificate)
        .map_err(|e| format!("the certificate cannot be read: {e}"))?;
    let names: Vec<String> = match which {
        CertificateUser::None => Vec::new(),
        CertificateUser::Cn => common_names(parsed.subject()).ok_or("the subject is malformed")?,
        CertificateUser::San => {
            let dns: Vec<String> = parsed.valid_dns_names().map(str::to_owned).collect();
            match dns.is_empty() {
                true => parsed.valid_uri_names().map(str::to_owned).collect(),
                false => dns,
            }
        }
    };
    match &names[..] {
        [name] if name.is_empty() || name.chars().any(char::is_control) => {
            Err("the certificate's user name is empty or holds control characters".into())
        }
        [name] => Ok(name.clone()),
        names => Err(format!(
            "the certificate names {} users where it must name one",
            names.len()
        )),
    }
}

/// Every common name (2.5.4.3) in the content of an X.501 Name (RFC 5280 section 4.1.2.4). `None` if it
/// is not one, or a common name is not UTF-8 or ASCII.
fn common_names(subject: &[u8]) -> Option<Vec<String>> {
    const CN: &[u8] = &[0x55, 0x04, 0x03];
    let (sequence, set_of, oid) = (0x30, 0x31, 0x06);
    let mut names = Vec::new();
    let mut subject = subject;
    while !subject.is_empty() {
        let mut set = element(&mut subject, set_of)?;
        while !set.is_empty() {
            let mut attribute = element(&mut set, sequence)?;
            if element(&mut attribute, oid)? != CN {
                continue;
            }
            // UTF8String, PrintableString, IA5String.
            let tag = *attribute.first()?;
            if ![0x0c, 0x13, 0x16].contains(&tag) {
                return None;
            }
            let text = element(&mut attribute, tag)?;
            names.push(std::str::from_utf8(text).ok()?.to_owned());
        }
    }
    Some(names)
}

/// Takes one DER element with this tag off the front; its content.
fn element<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = from.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let len = match first {
        0..=0x7f => usize::from(first),
        0x81 | 0x82 => {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    *from = after;
    (found == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(set: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        set(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_common_name_is_the_user() {
        let made = certificate(|p| {
            p.distinguished_name
                .push(rcgen::DnType::OrganizationName, "x".repeat(200));
            p.distinguished_name
                .push(rcgen::DnType::CommonName, "Zoë 1");
        });
        assert_eq!(user_of(&made, CertificateUser::Cn).unwrap(), "Zoë 1");
        assert!(
            user_of(&made, CertificateUser::San)
                .unwrap_err()
                .contains("0 users")
        );
        let none = certificate(|_| ());
        assert!(
            user_of(&none, CertificateUser::Cn)
                .unwrap_err()
                .contains("0 users")
        );
        let odd = certificate(|p| {
            p.distinguished_name.push(rcgen::DnType::CommonName, "a\nb");
        });
        assert!(
            user_of(&odd, CertificateUser::Cn)
                .unwrap_err()
                .contains("control")
        );
    }

    #[test]
    fn the_only_alternative_name_is_the_user() {
        let dns = |names: &[&str]| -> Vec<rcgen::SanType> {
            let name = |n: &&str| rcgen::SanType::DnsName((*n).try_into().unwrap());
            names.iter().map(name).collect()
        };
        let uri = rcgen::SanType::URI("urn:sensor:7".try_into().unwrap());
        let one = certificate(|p| {
            p.subject_alt_names = dns(&["sensor-7"]);
            p.subject_alt_names.push(uri.clone());
        });
        assert_eq!(user_of(&one, CertificateUser::San).unwrap(), "sensor-7");
        let two = certificate(|p| p.subject_alt_names = dns(&["a", "b"]));
        assert!(
            user_of(&two, CertificateUser::San)
                .unwrap_err()
                .contains("2 users")
        );
        let by_uri = certificate(|p| p.subject_alt_names = vec![uri]);
        assert_eq!(
            user_of(&by_uri, CertificateUser::San).unwrap(),
            "urn:sensor:7"
        );
    }

    #[test]
    fn names_that_are_cut_or_of_another_kind_are_refused() {
        let whole = [
            0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x03, b'a', b'b', b'c',
        ];
        assert_eq!(common_names(&whole), Some(vec!["abc".to_owned()]));
        for cut in 1..whole.len() {
            assert_eq!(common_names(&whole[..cut]), None, "{cut}");
        }
        let mut bmp = whole;
        bmp[9] = 0x1e;
        assert_eq!(common_names(&bmp), None);
        let mut not_utf8 = whole;
        not_utf8[11] = 0xff;
        assert_eq!(common_names(&not_utf8), None);
    }
}
