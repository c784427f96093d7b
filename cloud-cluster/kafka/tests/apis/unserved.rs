//! ApiVersions, and what it does not name: requests that only close the connection.

use headwater_kafka::{ErrorCode, Outcome, Peer, wire};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use crate::common::requests::samples;
use crate::common::{FakeNode, decode, frame, reply, versions};
use crate::raw;

#[test]
fn api_versions() {
    for version in versions(ApiKey::ApiVersions) {
        let sample = samples(0)
            .into_iter()
            .find(|s| s.api == ApiKey::ApiVersions && s.version == version);
        let reply = reply(raw(ApiKey::ApiVersions, version, &sample.unwrap().body));
        let response: ApiVersionsResponse = decode(ApiKey::ApiVersions, version, &reply);
        assert_eq!(response.api_keys.len(), wire::SERVED.len());
        let produce = response.api_keys.iter().find(|k| k.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 11));
        assert!(response.finalized_features.is_empty());
    }
}

#[test]
fn a_future_api_versions_is_answered_in_version_0() {
    let reply = reply(raw(ApiKey::ApiVersions, 9, &[1, 2, 3]));
    let response: ApiVersionsResponse = decode(ApiKey::ApiVersions, 0, &reply);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys[0].api_key, 18);
}

#[test]
fn what_is_not_served_closes() {
    for (key, version) in [
        (ApiKey::Metadata, 14),
        (ApiKey::Fetch, 3),
        (ApiKey::SaslHandshake, 0),
    ] {
        assert!(
            matches!(raw(key, version, &[]), Outcome::Close(_)),
            "{key:?}"
        );
    }
    for junk in [&[][..], &[0; 7], &[0, 3, 0, 1, 0, 0, 0, 0, 0x7f, 0xff]] {
        let outcome =
            headwater_kafka::serve(&FakeNode::default(), &Peer::default(), junk.to_vec().into());
        assert!(matches!(outcome, Outcome::Close(_)));
    }
    assert!(wire::frame_bytes([0x7f, 0, 0, 0], wire::REQUEST_BYTES_MAX).is_err());
    assert!(wire::frame_bytes([0xff, 0, 0, 0], wire::REQUEST_BYTES_MAX).is_err());
    assert_eq!(
        wire::frame_bytes([0, 0, 1, 0], wire::REQUEST_BYTES_MAX).unwrap(),
        256
    );
}

#[test]
fn old_produce_versions_are_advertised_and_close() {
    for version in 0..3 {
        let outcome = headwater_kafka::serve(
            &FakeNode::default(),
            &Peer::default(),
            frame(ApiKey::Produce, version, &[0; 8]),
        );
        assert!(matches!(outcome, Outcome::Close(_)));
    }
}
