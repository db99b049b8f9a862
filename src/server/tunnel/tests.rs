use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;

/// The far ends of a tunnel's two sides, which hold so many bytes each, and the tunnel.
fn tunnel(wait_for_room: usize, timeouts: TunnelTimeouts) -> (DuplexStream, DuplexStream, impl Future<Output = ()>) {
    let ((client, mut near), (mut far, upstream)) = (duplex(wait_for_room), duplex(wait_for_room));
    let passes =
        async move { copy_bidirectional(&mut near, &mut far, Default::default(), timeouts, &mut || true).await };
    (client, upstream, passes)
}

const PATIENT: TunnelTimeouts = TunnelTimeouts { idle: None, write: None };

async fn sends(stream: &mut (impl AsyncWrite + Unpin), pieces: &[Vec<u8>]) {
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn hears(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    heard
}

async fn lasts(wait_for_room: usize, timeouts: TunnelTimeouts, say: &[u8]) -> Duration {
    let (mut client, _upstream, passes) = tunnel(wait_for_room, timeouts);
    let begun = tokio::time::Instant::now();
    let (_said, ()) = tokio::join!(client.write_all(say), passes);
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn silent_and_blocked_tunnels_each_end_at_their_timeout() {
    let seconds = Duration::from_secs;
    let timeouts = TunnelTimeouts { idle: Some(seconds(300)), write: Some(seconds(30)) };
    let idle = lasts(1024, timeouts, b"hello").await;
    assert!((seconds(300)..seconds(303)).contains(&idle), "{idle:?}");
    let stalled = lasts(8, timeouts, b"hello out there").await;
    assert!((seconds(30)..seconds(33)).contains(&stalled), "{stalled:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_before_a_stall_does_not_count_for_it() {
    let timeouts = TunnelTimeouts { idle: None, write: Some(Duration::from_secs(30)) };
    let (mut client, mut upstream, passes) = tunnel(8, timeouts);
    let talks = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        client.write_all(b"0123456789abcdef").await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut heard = [0; 16];
        upstream.read_exact(&mut heard).await.unwrap();
        heard
    };
    tokio::select! {
        () = passes => panic!("cut"),
        heard = talks => assert_eq!(&heard, b"0123456789abcdef"),
    }
}

#[tokio::test(start_paused = true)]
async fn after_one_side_has_ended_the_other_has_a_shorter_timeout() {
    let (mut client, mut upstream, passes) = tunnel(8, PATIENT);
    client.shutdown().await.unwrap();
    let begun = tokio::time::Instant::now();
    let answers = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        upstream.write_all(b"late").await.unwrap();
    };
    tokio::join!(passes, answers);
    let ended = begun.elapsed();
    assert!((Duration::from_secs(50)..Duration::from_secs(53)).contains(&ended), "{ended:?}");
    let mut heard = [0; 4];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"late");
}

#[tokio::test]
async fn a_tunnel_that_is_never_at_rest_ends_when_it_may_not_go_on() {
    let busy = || tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
    let asked = std::cell::Cell::new(0);
    let mut may_continue = || asked.replace(asked.get() + 1) < 2;
    let timeouts = TunnelTimeouts { idle: Some(Duration::from_millis(80)), write: None };
    let passes =
        async { copy_bidirectional(&mut busy(), &mut busy(), Default::default(), timeouts, &mut may_continue).await };
    assert!(timeout(Duration::from_secs(5), passes).await.is_ok(), "it was asked {} times", asked.get());
    assert_eq!(asked.get(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every byte arrives in order, and then the end, for pieces of any size and for slow readers.
    #[test]
    fn every_byte_comes_in_order(
        up in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        down in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        wait_for_room in 1_usize..300,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (at_upstream, at_client) = runtime.block_on(async {
            let (client, upstream, passes) = tunnel(wait_for_room, PATIENT);
            let (mut client_reads, mut client_writes) = tokio::io::split(client);
            let (mut upstream_reads, mut upstream_writes) = tokio::io::split(upstream);
            let ((), (), (), at_client, at_upstream) = tokio::join!(
                passes,
                sends(&mut client_writes, &up),
                sends(&mut upstream_writes, &down),
                hears(&mut client_reads),
                hears(&mut upstream_reads),
            );
            (at_upstream, at_client)
        });
        prop_assert_eq!(at_upstream, up.concat());
        prop_assert_eq!(at_client, down.concat());
    }
}
