//! Breakers around real servers.

use std::time::Duration;

use bantam_providers::BreakerState;
use bantam_providers::error::CallErrorKind;

use crate::support::{ask, config, mock, plan, quick, until, upstreams_with};

#[tokio::test]
async fn a_server_that_fails_is_left_alone_then_probed_then_used_again() {
    let (bad, good) = (mock("status=500").await, mock("").await);
    let mut reliability = quick();
    reliability.breaker.minimum = 4;
    reliability.breaker.open_for = Duration::from_millis(200);
    reliability.retry.attempts = 1;
    let upstreams = upstreams_with(&[config("bad", &bad), config("good", &good)], reliability);
    let plan = plan(&upstreams, "bad | good");
    for _ in 0..10 {
        assert_eq!(ask(&upstreams, &plan, "").await.unwrap().target.name, "good");
    }
    assert_eq!((upstreams.snapshot()[0].breaker, bad.stats().requests), (BreakerState::Open, 4));
    // Alone, it says when to come back.
    let alone = crate::support::plan(&upstreams, "bad");
    let error = ask(&upstreams, &alone, "").await.unwrap_err();
    assert!(
        matches!(error.kind, CallErrorKind::Unavailable { retry_after } if retry_after <= Duration::from_millis(200))
    );

    bad.set_behaviour("".parse().unwrap());
    until("a probe may go", || upstreams.snapshot()[0].breaker == BreakerState::HalfOpen).await;
    assert_eq!(ask(&upstreams, &plan, "").await.unwrap().target.name, "bad");
    assert_eq!(upstreams.snapshot()[0].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn the_callers_faults_and_rate_limits_open_no_breaker() {
    let mock = mock("").await;
    let mut reliability = quick();
    reliability.breaker.minimum = 2;
    reliability.retry.attempts = 1;
    let upstreams = upstreams_with(&[config("a", &mock)], reliability);
    let plan = plan(&upstreams, "a");
    for status in [400, 401, 404, 422, 429].repeat(4) {
        assert_eq!(ask(&upstreams, &plan, &format!("status={status}")).await.unwrap().status.as_u16(), status);
    }
    assert_eq!(upstreams.snapshot()[0].breaker, BreakerState::Closed);
    for _ in 0..3 {
        let _ = ask(&upstreams, &plan, "close").await;
    }
    // 3 of 3: answers that are the caller's own count as neither good nor bad.
    assert_eq!(upstreams.snapshot()[0].breaker, BreakerState::Open);
}
