//! Streams, and what happens when the reader leaves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;

use crate::support::{LONG, ask, config, mock, plan, stream, until, upstreams};

#[tokio::test]
async fn a_stream_is_handed_over_as_it_comes() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let plan = plan(&upstreams, "a");
    let mut answer = stream(&upstreams, &plan, "tokens=5,token=20").await.unwrap();
    let mut pieces = 0;
    let mut all = Vec::new();
    while let Some(piece) = answer.body.next().await {
        all.extend_from_slice(&piece.unwrap());
        pieces += 1;
    }
    assert!(pieces >= 5, "{pieces}");
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("data: ").count(), 8);
    assert!(text.ends_with("data: [DONE]\n\n"));
    until("the end was counted", || upstreams.snapshot()[0].totals.succeeded == 1).await;
    // The same bytes in one piece, whatever the delays.
    let answer = stream(&upstreams, &plan, "tokens=5").await.unwrap();
    assert_eq!(answer.body.collect().await.unwrap(), text);
}

#[tokio::test]
async fn a_reader_that_leaves_a_stream_ends_it_upstream() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let mut answer = stream(&upstreams, &plan(&upstreams, "a"), "tokens=100000,token=5").await.unwrap();
    answer.body.next().await.unwrap().unwrap();
    assert_eq!((mock.stats().disconnects, upstreams.snapshot()[0].in_flight), (0, 1));
    drop(answer);
    assert_eq!(upstreams.snapshot()[0].in_flight, 0);
    assert_eq!(upstreams.snapshot()[0].totals.cancelled, 1);
    until("the server noticed", || mock.stats().disconnects == 1).await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_ends_it_upstream() {
    let mock = mock("").await;
    let upstreams = Arc::new(upstreams(&[config("a", &mock)]));
    for (i, behaviour) in ["hang", "ttft=60000", "stall=3"].into_iter().enumerate() {
        let plan = plan(&upstreams, "a");
        let calling = {
            let upstreams = Arc::clone(&upstreams);
            tokio::spawn(async move { ask(&upstreams, &plan, behaviour).await })
        };
        until("the request arrived", || mock.stats().requests == i as u64 + 1).await;
        calling.abort();
        until("the server noticed", || mock.stats().disconnects == i as u64 + 1).await;
        until("the place is free", || upstreams.snapshot()[0].in_flight == 0).await;
    }
    assert_eq!(upstreams.snapshot()[0].totals.cancelled, 3);
}

#[tokio::test]
async fn an_idle_reader_is_not_an_idle_server() {
    // Times run while the reader waits for the server, not while the server waits for the reader.
    let mock = mock("").await;
    let mut target = config("a", &mock);
    target.timeouts.idle = Duration::from_millis(100);
    let upstreams = upstreams(&[target]);
    let mut answer = stream(&upstreams, &plan(&upstreams, "a"), "tokens=3").await.unwrap();
    answer.body.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let rest = timeout(LONG, answer.body.collect()).await.unwrap();
    assert!(rest.unwrap().ends_with(b"data: [DONE]\n\n"));
}
