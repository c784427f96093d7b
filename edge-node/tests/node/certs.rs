//! A private CA and certificates of servers and clients, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

pub struct Ca {
    dir: PathBuf,
    name: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A certificate with its key, as files.
#[derive(Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Ca {
    pub fn new(dir: &Path, name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Ca {
            dir: dir.to_owned(),
            name: name.to_owned(),
            certificate,
            key,
        }
    }

    /// The CA's own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Writes the list of what it has revoked, by serial numbers, which was due for renewal in 2020.
    pub fn revoke(&self, file: &Path, serials: &[u64]) {
        let at = rcgen::date_time_ymd(2019, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at,
            next_update: rcgen::date_time_ymd(2020, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.certificate, &self.key).unwrap();
        std::fs::write(file, list.pem().unwrap()).unwrap();
    }

    /// For "localhost" and 127.0.0.1.
    pub fn server(&self, file: &str) -> Pair {
        self.sign(file, |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
        })
    }

    /// For a client with this common name.
    pub fn client(&self, name: &str) -> Pair {
        self.sign(&format!("{}-{name}", self.name), |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    /// The same with a serial number that it may be revoked by.
    pub fn numbered(&self, name: &str, serial: u64) -> Pair {
        self.sign(&format!("{}-{name}", self.name), |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    /// The same, no longer valid.
    pub fn expired(&self, name: &str) -> Pair {
        self.sign(&format!("{}-{name}", self.name), |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    fn sign(&self, file: &str, set: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        set(&mut params);
        let certificate = params
            .signed_by(&key, &self.certificate, &self.key)
            .unwrap();
        let pair = Pair {
            certificate: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}
