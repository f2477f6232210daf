//! Every way in which a server can misbehave, and what it is called.

use std::time::Duration;

use bantam_providers::answer::Outcome;
use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::error::{CallErrorKind, Fault};
use bantam_providers::target::{Target, TargetConfig};
use bantam_providers::wire::Api;
use futures::StreamExt;
use hyper::HeaderMap;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{LONG, ask, config, mock, plan, quick, story, stream, upstreams, upstreams_with};

/// One attempt that fails, in either delivery.
async fn fault(behaviour: &str, change: impl Fn(&mut TargetConfig)) -> Fault {
    let mock = mock("").await;
    let mut target = config("a", &mock);
    change(&mut target);
    let mut once = quick();
    once.retry.attempts = 1;
    let upstreams = upstreams_with(&[target], once);
    let plan = plan(&upstreams, "a");
    let whole = ask(&upstreams, &plan, behaviour).await.unwrap_err();
    let Outcome::Fault(fault) = whole.attempts[0].outcome.clone() else { panic!("{whole:?}") };
    assert!(matches!(&whole.kind, CallErrorKind::Failed { fault: same, .. } if *same == fault));
    fault
}

#[tokio::test]
async fn faults_have_their_names() {
    let nothing = |_: &mut TargetConfig| {};
    assert_eq!(fault("close", nothing).await, Fault::Closed);
    assert!(matches!(fault("garbage", nothing).await, Fault::Protocol { .. }));
    assert!(matches!(fault("cut=20", nothing).await, Fault::Truncated { .. }));
    assert_eq!(fault("redirect", nothing).await, Fault::Redirect { status: 307 });
    assert!(
        matches!(fault("page", nothing).await, Fault::NotApi { content_type } if content_type.starts_with("text/html"))
    );
    let small = |target: &mut TargetConfig| target.limits.body_bytes = 1000;
    assert_eq!(fault("huge=1001", small).await, Fault::BodyTooLarge { limit: 1000 });
    let brief = Duration::from_millis(80);
    let short = |target: &mut TargetConfig| target.timeouts.total = brief;
    assert_eq!(fault("hang", short).await, Fault::TotalTimeout { after: brief });
    assert_eq!(fault("slow=5", short).await, Fault::TotalTimeout { after: brief });
    let quiet = |target: &mut TargetConfig| target.timeouts.idle = brief;
    assert_eq!(fault("stall=10", quiet).await, Fault::IdleTimeout { after: brief });
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mock = mock("redirect").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert_eq!(story(&error.attempts), ["a redirect told"]);
    assert_eq!(mock.seen().len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_silent_before_its_first_byte_is_tried_again_and_one_after_it_is_told() {
    let mock = mock("").await;
    let mut target = config("a", &mock);
    let brief = Duration::from_millis(80);
    target.timeouts.first_byte = brief;
    target.timeouts.idle = brief;
    let upstreams = upstreams(&[target]);
    let plan = plan(&upstreams, "a");
    let answer = stream(&upstreams, &plan, "hang,first=1").await.unwrap();
    assert_eq!(story(&answer.attempts), ["a first_byte_timeout retried", "a 200 told"]);
    let mut answer = stream(&upstreams, &plan, "stall=2").await.unwrap();
    let mut last = None;
    while let Some(piece) = answer.body.next().await {
        last = Some(piece);
    }
    assert_eq!(last.unwrap().unwrap_err(), Fault::IdleTimeout { after: brief });
}

#[tokio::test]
async fn a_host_that_does_not_listen_is_a_connect_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = Some(format!("http://{}/v1", listener.local_addr().unwrap()));
    drop(listener);
    let upstreams = upstreams(&[TargetConfig { base_url, ..TargetConfig::new("a", "vllm", "m") }]);
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert_eq!(story(&error.attempts), ["a connect retried", "a connect retried", "a connect told"]);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_connect_fault() {
    let mock = mock("").await;
    let base_url = Some(mock.base_url().replace("http:", "https:"));
    let targets = [TargetConfig { base_url, ..TargetConfig::new("a", "vllm", "m") }];
    let targets = targets.iter().map(|target| target.resolve().unwrap()).collect();
    // A machine without any certificates says so before.
    let Ok(upstreams) = bantam_providers::client::Upstreams::new(targets, quick()) else { return };
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(story(&error.attempts)[0].starts_with("a connect "), "{error:?}");
    assert_eq!(mock.stats().requests, 0);
}

#[tokio::test]
async fn a_connection_that_never_comes_about_times_out() {
    // A backlog that is full takes no more connections: they are neither accepted nor refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        fill.push(tokio::time::timeout(Duration::from_millis(50), connecting).await);
    }
    let mut target = TargetConfig::new("a", "vllm", "m");
    target.base_url = Some(format!("http://{address}/v1"));
    let brief = Duration::from_millis(100);
    target.timeouts.connect = brief;
    let mut once = quick();
    once.retry.attempts = 1;
    let upstreams = upstreams_with(&[target], once);
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(
        matches!(error.kind, CallErrorKind::Failed { fault: Fault::ConnectTimeout { after }, .. } if after == brief)
    );
}

#[tokio::test]
async fn an_api_that_a_target_does_not_have_is_not_called() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let outgoing = |_: &Target| -> Result<Outbound, Refusal> {
        Ok(Outbound { api: Api::Messages, headers: HeaderMap::new(), body: "{}".into() })
    };
    let call = Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline: Instant::now() + LONG, trace: None };
    let error = upstreams.call(&plan(&upstreams, "a"), call).await.unwrap_err();
    assert_eq!(story(&error.attempts), ["a no_api told"]);
    assert_eq!(mock.stats().connections, 0);
}

#[tokio::test]
async fn bodies_of_errors_are_bounded_and_never_waited_for_long() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "html").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts.len()), (502, 3));
    assert!(answer.body.whole().unwrap().starts_with(b"<html>"));
}
