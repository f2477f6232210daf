//! Who gets a request when several could.

use std::sync::Arc;
use std::time::Duration;

use bantam_providers::error::CallErrorKind;
use bantam_providers::mock::Ready;
use bantam_providers::plan::{Balance, GroupConfig};
use bantam_providers::target::HealthCheck;
use tokio::time::Instant;

use crate::support::{ask, config, mock, plan, until, upstreams};

#[tokio::test]
async fn weights_share_requests_out() {
    let (small, large) = (mock("").await, mock("").await);
    let mut three = config("large", &large);
    three.weight = 3;
    let upstreams = upstreams(&[config("small", &small), three]);
    let group = GroupConfig { balance: Balance::Weighted, ..GroupConfig::new(["small", "large"]) };
    let plan = upstreams.plan(&[group]).unwrap();
    for _ in 0..400 {
        ask(&upstreams, &plan, "").await.unwrap();
    }
    // 300 are expected; six standard deviations are 52.
    let got = large.stats().requests;
    assert!((248..=352).contains(&got), "{got}");
}

#[tokio::test]
async fn the_least_loaded_gets_more() {
    let (slow, fast) = (mock("ttft=300").await, mock("ttft=1").await);
    let upstreams = Arc::new(upstreams(&[config("slow", &slow), config("fast", &fast)]));
    let plan = plan(&upstreams, "slow fast");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (upstreams, plan) = (Arc::clone(&upstreams), plan.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    ask(&upstreams, &plan, "").await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (slow, fast) = (slow.stats().requests, fast.stats().requests);
    assert!(slow + fast == 80 && fast > 2 * slow, "{slow} {fast}");
}

#[tokio::test]
async fn a_full_target_gives_way_and_a_short_wait_is_bounded() {
    let (a, b) = (mock("").await, mock("").await);
    let one = |name, mock| {
        let mut target = config(name, mock);
        target.limits.in_flight = 1;
        target.limits.queue = 1;
        target.limits.queue_wait = Duration::from_millis(150);
        target
    };
    let upstreams = Arc::new(upstreams(&[one("a", &a), one("b", &b)]));
    let hold = |text: &str, behaviour: &'static str| {
        let (upstreams, plan) = (Arc::clone(&upstreams), plan(&upstreams, text));
        tokio::spawn(async move { ask(&upstreams, &plan, behaviour).await })
    };
    let first = hold("a", "hang");
    until("a is full", || a.stats().requests == 1).await;
    // Another of the group is free.
    assert_eq!(ask(&upstreams, &plan(&upstreams, "a b"), "").await.unwrap().target.name, "b");
    // None is: the wait ends, then the next group has its turn.
    let start = Instant::now();
    assert_eq!(ask(&upstreams, &plan(&upstreams, "a | b"), "").await.unwrap().target.name, "b");
    assert!(start.elapsed() >= Duration::from_millis(150));
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Busy) && error.attempts.is_empty(), "{error:?}");
    // One may wait, a second is sent away at once, and a place that gets free is taken.
    let waiting = hold("a", "");
    until("one waits", || upstreams.snapshot()[0].waiting == 1).await;
    assert!(matches!(ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err().kind, CallErrorKind::Busy));
    first.abort();
    assert_eq!(waiting.await.unwrap().unwrap().status, 200);
    assert_eq!((upstreams.snapshot()[0].waiting, upstreams.snapshot()[0].in_flight), (0, 0));
}

#[tokio::test]
async fn a_server_that_fails_its_health_check_is_left_alone_until_it_is_back() {
    let (a, b) = (mock("").await, mock("").await);
    let mut checked = config("a", &a);
    checked.health = Some(HealthCheck {
        path: Some("/health".into()),
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
    });
    let upstreams = upstreams(&[checked, config("b", &b)]);
    let plan = plan(&upstreams, "a | b");
    assert_eq!(ask(&upstreams, &plan, "").await.unwrap().target.name, "a");
    a.set_ready(Ready::No);
    until("it counts as down", || !upstreams.snapshot()[0].healthy).await;
    let answer = ask(&upstreams, &plan, "").await.unwrap();
    assert_eq!((answer.target.name.as_str(), answer.attempts.len()), ("b", 1));
    a.set_ready(Ready::Yes);
    until("it is back", || upstreams.snapshot()[0].healthy).await;
    assert_eq!(ask(&upstreams, &plan, "").await.unwrap().target.name, "a");
}
