//! The instruments themselves: a link that is said to be cut passes nothing.

use std::net::UdpSocket;
use std::time::Duration;

use e2e::link::Link;
use e2e::wait_for;

#[test]
fn a_cut_link_passes_nothing_and_a_healed_one_does() {
    let cloud = UdpSocket::bind("127.0.0.1:0").unwrap();
    cloud
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let link = Link::to(cloud.local_addr().unwrap());
    let edge = UdpSocket::bind("127.0.0.1:0").unwrap();
    edge.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut buffer = [0; 16];

    edge.send_to(b"up", link.address()).unwrap();
    let (length, from) = cloud.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"up");
    cloud.send_to(b"down", from).unwrap();
    assert_eq!(edge.recv(&mut buffer).unwrap(), 4);

    link.cut();
    edge.send_to(b"lost", link.address()).unwrap();
    wait_for("the cut to drop a datagram", Duration::from_secs(5), || {
        (link.dropped() > 0).then_some(())
    });
    assert!(cloud.recv_from(&mut buffer).is_err());

    link.heal();
    edge.send_to(b"again", link.address()).unwrap();
    assert_eq!(cloud.recv_from(&mut buffer).unwrap().0, 5);
}
