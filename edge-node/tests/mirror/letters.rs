//! Batches that the cloud refuses for good, and a medium that does not take them at once.

use headwater_proto::{GapReason, RejectCode};

use super::*;

/// U5: what cannot be put aside is not left out either. It is tried again on the connection that
/// stands, and an alarm says so until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_wait_for_the_medium_and_not_for_a_connection() {
    let setup = Setup::new();
    setup.cloud.refuse("bad");
    let node = setup.node("data");
    let address = node.mqtt_addresses()[0];
    // A file where the directory belongs: nothing can be written below it.
    let letters = setup.dir.path().join("data/dead-letter");
    std::fs::write(&letters, b"in the way").unwrap();

    let write = |values: Vec<String>| {
        tokio::task::spawn_blocking(move || publish(address, values.into_iter()))
    };
    write(numbers(0..10)).await.unwrap();
    until("the first", || setup.cloud.len() == 10).await;
    write(vec!["bad".to_owned()]).await.unwrap();
    let alarmed = || {
        let alarms = node.report().alarms;
        alarms.iter().any(|a| a.alarm.contains("LogUnwritable"))
    };
    until("the alarm", alarmed).await;
    write(numbers(10..20)).await.unwrap();
    assert_eq!(
        setup.cloud.len(),
        10,
        "sent past a letter that is not written"
    );
    assert_eq!(setup.cloud.gaps(), []);

    std::fs::remove_file(&letters).unwrap();
    until("the rest", || setup.cloud.len() == 20).await;
    assert_eq!(setup.cloud.values(), numbers(0..20));
    let reason = GapReason::Rejected(RejectCode::Unacceptable);
    assert_eq!(setup.cloud.gaps(), [(10, 11, reason)]);
    assert_eq!(node.report().uplink.connects, 1);
    let letter = letters.join("mqtt-0").join(format!("{:020}.log", 10));
    let bytes = std::fs::read(letter).unwrap();
    assert_eq!(sink::values(&bytes), ["bad"]);
    node.stop().await.unwrap();
}
