//! The network in memory behaves as TCP does where the product can tell: bytes arrive in order in
//! both directions, an end that goes away is seen, ports are taken and free again.

use std::io::ErrorKind;
use std::net::SocketAddr;

use lossproof_env::{MemoryNet, Net, RealNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn talks_both_ways_and_ends(net: &dyn Net) {
    let listener = net.listen(any_port()).await.unwrap();
    let address = listener.local_address().unwrap();
    let (client, server) = tokio::join!(net.connect(address), listener.accept());
    let (mut client, (mut server, peer)) = (client.unwrap(), server.unwrap());
    assert_eq!(peer.ip(), address.ip());
    client.write_all(b"hello").await.unwrap();
    server.write_all(b"welcome").await.unwrap();
    let mut heard = [0; 5];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut heard).await.unwrap(), 0);
    drop(server);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"welcome");
}

#[tokio::test]
async fn both_networks_talk_both_ways_and_see_the_end() {
    talks_both_ways_and_ends(&MemoryNet::new()).await;
    talks_both_ways_and_ends(&RealNet).await;
}

async fn refuses_where_nobody_listens(net: &dyn Net) {
    let listener = net.listen(any_port()).await.unwrap();
    let address = listener.local_address().unwrap();
    let taken = net.listen(address).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    drop(listener);
    let refused = net.connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    net.listen(address).await.expect("the port is free again");
}

#[tokio::test]
async fn both_networks_refuse_where_nobody_listens() {
    refuses_where_nobody_listens(&MemoryNet::new()).await;
    refuses_where_nobody_listens(&RealNet).await;
}

#[tokio::test]
async fn two_networks_in_memory_do_not_meet() {
    let listener = MemoryNet::new().listen(any_port()).await.unwrap();
    let address = listener.local_address().unwrap();
    let stranger = MemoryNet::new().connect(address).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::ConnectionRefused);
}
