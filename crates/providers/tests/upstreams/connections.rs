//! Connections are kept, and those that died idle are not held against anyone.

use std::time::Duration;

use bantam_providers::target::TargetConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{ask, config, mock, plan, quick, story, upstreams, upstreams_with};

#[tokio::test]
async fn connections_are_kept_between_calls() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    for _ in 0..20 {
        ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
        ask(&upstreams, &plan(&upstreams, "a"), "status=400").await.unwrap();
    }
    assert_eq!(mock.stats().connections, 1);
}

/// Answers one request per connection with keep-alive, then closes as soon as the next one arrives: what a server does whose idle timeout
/// runs out while the request is on its way.
async fn closes_on_reuse() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if socket.read(&mut buffer).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                    socket.write_all(answer).await.unwrap();
                }
                let _ = socket.read(&mut buffer).await;
            });
        }
    });
    (format!("http://{address}/v1"), serving)
}

#[tokio::test]
async fn a_reused_connection_that_closes_before_a_byte_costs_no_attempt() {
    let (base_url, serving) = closes_on_reuse().await;
    let target = TargetConfig { base_url: Some(base_url), ..TargetConfig::new("a", "vllm", "m") };
    let mut once = quick();
    once.retry.attempts = 1;
    let upstreams = upstreams_with(&[target], once);
    for _ in 0..10 {
        let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
        assert_eq!(story(&answer.attempts), ["a 200 told"]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(upstreams.snapshot()[0].totals.faults, 0);
    serving.abort();
}

#[tokio::test]
async fn a_fresh_connection_that_closes_before_a_byte_is_a_fault() {
    let mock = mock("close").await;
    let mut once = quick();
    once.retry.attempts = 1;
    let upstreams = upstreams_with(&[config("a", &mock)], once);
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert_eq!((story(&error.attempts), mock.stats().requests), (vec!["a closed told".to_owned()], 1));
}

#[tokio::test]
async fn targets_that_did_not_change_keep_their_connections_and_counts_over_a_reload() {
    let (a, b) = (mock("").await, mock("").await);
    let targets = |weight: u32| {
        let mut changing = config("b", &b);
        changing.weight = weight;
        [config("a", &a), changing].map(|target| target.resolve().unwrap()).to_vec()
    };
    let before = bantam_providers::client::Upstreams::new(targets(1), quick()).unwrap();
    let old = plan(&before, "a | b");
    for name in ["a", "b"] {
        ask(&before, &plan(&before, name), "").await.unwrap();
    }
    let after = before.reload(targets(2), quick()).unwrap();
    drop(before);
    for name in ["a", "b"] {
        ask(&after, &plan(&after, name), "").await.unwrap();
    }
    assert_eq!((a.stats().connections, b.stats().connections), (1, 2));
    let attempts: Vec<u64> = after.snapshot().iter().map(|target| target.totals.attempts).collect();
    assert_eq!(attempts, [2, 1]);
    // A request that began before still has its plan.
    assert_eq!(ask(&after, &old, "").await.unwrap().status, 200);
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = Some(format!("http://{}/v1", listener.local_addr().unwrap()));
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        let mut sent = 0;
        while socket.write_all(&[b"x-more: ", &[b'x'; 1000][..], b"\r\n"].concat()).await.is_ok() {
            sent += 1000;
        }
        sent
    });
    let mut target = TargetConfig { base_url, ..TargetConfig::new("a", "vllm", "m") };
    target.limits.header_bytes = 16 << 10;
    let mut once = quick();
    once.retry.attempts = 1;
    let upstreams = upstreams_with(&[target], once);
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert_eq!(story(&error.attempts), ["a protocol told"]);
    // What lies in the sockets' buffers, and no end of it otherwise.
    assert!(serving.await.unwrap() < 64 << 20);
}
