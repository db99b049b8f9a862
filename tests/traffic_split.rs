//! Several upstreams for one route: each its part, and the same caller the same one.

use crate::support::client::{request, with_header};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

struct World {
    gateway: Gateway,
    stable: Upstream,
    canary: Upstream,
}

impl World {
    async fn with(route: &str) -> Self {
        let (stable, canary) = (Upstream::start().await, Upstream::start().await);
        let upstreams =
            format!("upstreams: {{stable: \"http://{}\", canary: \"http://{}\"}}", stable.address, canary.address);
        // Other workers must choose alike.
        let gateway = Gateway::start(&config(stable.address, &[route], &format!("workers: 2\n{upstreams}")));
        Self { gateway, stable, canary }
    }

    /// How many requests each has had since the last time.
    fn counts(&self) -> (usize, usize) {
        let counts = (self.stable.seen().len(), self.canary.seen().len());
        self.stable.forget();
        self.canary.forget();
        counts
    }
}

#[tokio::test]
async fn each_side_gets_its_part_and_is_named_in_log_and_metrics() {
    let world = World::with("path: /**, name: all, access: public, upstream: {stable: 3, canary: 1}").await;
    let mut connection = Client::new(&world.gateway).connect().await;
    let mut last = None;
    for _ in 0..400 {
        last = Some(connection.send(request("GET", "/x")).await);
    }
    let (stable, canary) = (world.stable.seen().len(), world.canary.seen().len());
    assert!(stable + canary == 400 && (40..200).contains(&canary), "{stable} {canary}");
    let line = world.gateway.audit_of(last.unwrap().request_id());
    assert!(["stable", "canary"].contains(&line["gateway.upstream"].as_str().unwrap()), "{line}");
    let metrics = Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for (upstream, count) in [("stable", stable), ("canary", canary)] {
        let line = format!("portcullis_split_requests_total{{http_route=\"all\",upstream=\"{upstream}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn callers_with_one_header_value_share_a_branch() {
    let route = "path: /**, access: public, upstream: {stable: 1, canary: 1}, sticky: \"header:X-Tenant\"";
    let world = World::with(route).await;
    let mut sides = [0, 0];
    for tenant in 0..12 {
        for client in world.gateway.both() {
            for _ in 0..4 {
                client.send(with_header(request("GET", "/x"), "x-tenant", &format!("tenant-{tenant}"))).await;
            }
        }
        match world.counts() {
            (8, 0) => sides[0] += 1,
            (0, 8) => sides[1] += 1,
            mixed => panic!("tenant {tenant} went both ways: {mixed:?}"),
        }
    }
    assert!(sides.iter().all(|count| *count > 0), "{sides:?}");
}

#[tokio::test]
async fn a_client_stays_where_it_is_with_every_token_of_its_own() {
    let world = World::with("path: /**, access: {}, upstream: {stable: 1, canary: 1}, sticky: client").await;
    let client = Client::new(&world.gateway);
    for name in ["app", "other"] {
        for _ in 0..3 {
            let token = client.granted(name, SECRET, "scope=read:data").await;
            for _ in 0..3 {
                assert_eq!(client.get_with("/x", &token).await.status, 200);
            }
        }
        let (stable, canary) = world.counts();
        assert!((stable, canary) == (9, 0) || (stable, canary) == (0, 9), "{name}: {stable} {canary}");
    }
}

#[tokio::test]
async fn each_side_has_the_time_that_its_own_upstream_takes() {
    let silent = crate::support::upstream::listen(|stream| async move {
        let (mut stream, mut nowhere) = (stream, tokio::io::sink());
        let _ = tokio::io::copy(&mut stream, &mut nowhere).await;
    })
    .await;
    let upstreams = format!(
        "upstreams: {{slow: {{servers: [\"http://{silent}\"], response_timeout: 100ms}}, other: {{servers: [\"http://{silent}\"], response_timeout: 1h}}}}"
    );
    let routes = ["path: /**, access: public, upstream: {slow: 1}"];
    let gateway = Gateway::start(&config(silent, &routes, &upstreams));
    assert_eq!(Client::new(&gateway).get("/x").await.status, 504);
}
