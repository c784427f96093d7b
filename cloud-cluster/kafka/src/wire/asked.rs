//! What a request frame asks for, without serving it: for counting who uses which API.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};

use super::{Incoming, parse_header};

/// An API, its version, and the client's own name where the request says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
    /// `client_software_name` of an ApiVersions request (KIP-511).
    pub software: Option<String>,
}

/// Reads the header of `frame`; `None` for a request that is not served.
pub fn asked(frame: &Bytes) -> Option<Asked> {
    let Ok(Incoming::Call(call, body)) = parse_header(frame.clone()) else {
        return None;
    };
    let names_itself = call.api == ApiKey::ApiVersions && call.version >= 3;
    let software = names_itself
        .then(|| call.decode::<ApiVersionsRequest>(body).ok())
        .flatten()
        .map(|request| request.client_software_name.to_string());
    Some(Asked {
        api: call.api,
        version: call.version,
        software,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_itself_is_known_and_damage_is_not_an_answer() {
        let mut frame = b"\0\x12\0\x03\0\0\0\x01\0\x01c\0".to_vec();
        frame.extend(b"\x0blibrdkafka".iter().chain(b"\x041.0\0"));
        frame[12] = 11;
        let whole = Bytes::from(frame);
        let got = asked(&whole).unwrap();
        assert_eq!((got.api, got.version), (ApiKey::ApiVersions, 3));
        assert_eq!(got.software.as_deref(), Some("librdkafka"));
        for cut in 0..whole.len() {
            assert_eq!(asked(&whole.slice(..cut)).and_then(|a| a.software), None);
        }
    }
}
