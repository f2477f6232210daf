//! What is tried again, where, and how often.

use std::time::Duration;

use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::error::CallErrorKind;
use bantam_providers::plan::GroupConfig;
use bantam_providers::target::Target;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{LONG, ask, call, chat, config, mock, plan, quick, story, stream, upstreams, upstreams_with};

#[tokio::test]
async fn an_answer_at_once_is_one_attempt() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.target.name.as_str()), (200, "a"));
    assert_eq!(story(&answer.attempts), ["a 200 told"]);
    let body: serde_json::Value = serde_json::from_slice(answer.body.whole().unwrap()).unwrap();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(answer.attempts[0].first_byte.unwrap() <= answer.attempts[0].took);
    let totals = upstreams.snapshot()[0].totals;
    assert_eq!((totals.attempts, totals.succeeded, upstreams.snapshot()[0].in_flight), (1, 1, 0));
}

#[tokio::test]
async fn faults_that_may_pass_are_tried_again() {
    for fault in [
        "status=500",
        "status=503",
        "status=429",
        "status=408",
        "status=409",
        "html",
        "page",
        "close",
        "garbage",
        "cut=10",
    ] {
        let mock = mock("").await;
        let upstreams = upstreams(&[config("a", &mock)]);
        let answer = ask(&upstreams, &plan(&upstreams, "a"), &format!("{fault},first=2")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts.len()), (200, 3), "{fault}: {:?}", answer.attempts);
        assert_eq!(mock.stats().requests, 3, "{fault}");
        assert_eq!(upstreams.snapshot()[0].totals.retries, 2, "{fault}");
    }
}

#[tokio::test]
async fn the_callers_faults_are_not_tried_again() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock), config("b", &mock)]);
    for status in [400, 413, 422, 451] {
        let answer = ask(&upstreams, &plan(&upstreams, "a | b"), &format!("status={status}")).await.unwrap();
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(story(&answer.attempts), [format!("a {status} told")]);
        assert!(answer.body.whole().unwrap().starts_with(b"{\"error\""));
    }
}

#[tokio::test]
async fn a_target_that_will_not_answer_gives_way_to_the_next() {
    let (wrong_key, good) = (mock("status=401").await, mock("").await);
    let upstreams = upstreams(&[config("a", &wrong_key), config("b", &good)]);
    let answer = ask(&upstreams, &plan(&upstreams, "a | b"), "").await.unwrap();
    assert_eq!(story(&answer.attempts), ["a 401 fellback", "b 200 told"]);
    // Without another one, its word stands.
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
    assert_eq!((answer.status.as_u16(), story(&answer.attempts)), (401, vec!["a 401 told".to_owned()]));
}

#[tokio::test]
async fn groups_are_gone_through_in_order_and_within_one_another_target_is_tried_first() {
    let (bad, worse, good) = (mock("status=503").await, mock("close").await, mock("").await);
    let upstreams = upstreams(&[config("a", &bad), config("b", &worse), config("c", &good)]);
    let answer = ask(&upstreams, &plan(&upstreams, "a b | c"), "").await.unwrap();
    let told = story(&answer.attempts);
    let (ab, ba) = (["a 503 retried", "b closed retried"], ["b closed retried", "a 503 retried"]);
    assert!(told[..2] == ab || told[..2] == ba, "{told:?}");
    assert!(told[2].ends_with(" fellback"), "{told:?}");
    assert_eq!(told[3..], ["c 200 told"]);
}

#[tokio::test]
async fn the_last_answer_stands_when_nothing_is_left() {
    let mock = mock("status=503,retry-after=0").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts.len()), (503, 3));
    let error = ask(&upstreams, &plan(&upstreams, "a"), "close").await.unwrap_err();
    assert!(matches!(&error.kind, CallErrorKind::Failed { target, .. } if target == "a"), "{error:?}");
    assert_eq!(error.attempts.len(), 3);
}

#[tokio::test]
async fn retry_after_is_honoured_and_bounded() {
    let mock = mock("").await;
    let targets = [config("a", &mock)];
    let upstreams = upstreams(&targets);
    let start = Instant::now();
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "status=429,first=1,retry-after=0.3").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());

    // More than a request waits for: the answer is told, and others do not even try.
    let start = Instant::now();
    let answer = ask(&upstreams, &plan(&upstreams, "a"), "status=429,retry-after=30").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts.len()), (429, 1));
    let error = ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    let CallErrorKind::Unavailable { retry_after } = error.kind else { panic!("{error:?}") };
    assert!(retry_after > Duration::from_secs(20) && retry_after <= Duration::from_secs(30), "{retry_after:?}");
    assert_eq!(mock.stats().requests, 3);

    // Nobody is kept away longer than the policy says, whatever a server asks for.
    let upstreams = upstreams_with(&targets, quick());
    ask(&upstreams, &plan(&upstreams, "a"), "status=503,retry-after=999999").await.unwrap();
    assert!(upstreams.snapshot()[0].cooling <= Duration::from_secs(60));
}

#[tokio::test]
async fn a_budget_bounds_repetitions() {
    let mock = mock("status=500").await;
    let mut reliability = quick();
    reliability.retry.budget = 0.2;
    reliability.retry.budget_per_second = 0.0;
    reliability.breaker.minimum = u32::MAX;
    let upstreams = upstreams_with(&[config("a", &mock)], reliability);
    let plan = plan(&upstreams, "a");
    for _ in 0..100 {
        assert_eq!(ask(&upstreams, &plan, "").await.unwrap().status, 500);
    }
    let requests = mock.stats().requests;
    assert!((119..=121).contains(&requests), "{requests}");
}

#[tokio::test]
async fn nothing_is_tried_again_after_the_first_byte_was_handed_over() {
    use futures::StreamExt;
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock), config("b", &mock)]);
    let mut answer = stream(&upstreams, &plan(&upstreams, "a | b"), "cut=3,token=1").await.unwrap();
    let mut last = Ok(bytes::Bytes::new());
    while let Some(piece) = answer.body.next().await {
        last = piece;
    }
    assert_eq!(last.unwrap_err().kind(), "truncated");
    assert_eq!((mock.stats().requests, answer.attempts.len()), (1, 1));
    let now = &upstreams.snapshot()[0];
    assert_eq!((now.totals.faults, now.totals.cancelled, now.in_flight), (1, 0, 0));

    // The same break in a whole answer is nobody's business but ours.
    let request = json!({"model": "m+cut=40,first=1"});
    let answer = call(&upstreams, &plan(&upstreams, "a | b"), request, Delivery::Whole).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts.len()), (200, 2));
}

#[tokio::test]
async fn a_request_that_a_target_cannot_take_goes_to_the_next() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock), config("b", &mock)]);
    let picky = |target: &Target| -> Result<Outbound, Refusal> {
        if target.name == "a" { Err("'n' is not supported there".into()) } else { Ok(chat(target, &json!({}))) }
    };
    let deadline = Instant::now() + LONG;
    let both = plan(&upstreams, "a | b");
    let answer = upstreams
        .call(&both, Call { outgoing: &picky, delivery: Delivery::Whole, deadline, trace: None })
        .await
        .unwrap();
    assert_eq!(story(&answer.attempts), ["a refused fellback", "b 200 told"]);
    let only = plan(&upstreams, "a");
    let error = upstreams
        .call(&only, Call { outgoing: &picky, delivery: Delivery::Whole, deadline, trace: None })
        .await
        .unwrap_err();
    assert!(matches!(&error.kind, CallErrorKind::Refused(why) if why.to_string() == "'n' is not supported there"));
}

#[tokio::test]
async fn the_deadline_ends_waits_and_attempts() {
    let mock = mock("").await;
    let upstreams = upstreams(&[config("a", &mock)]);
    for behaviour in ["hang", "status=503,retry-after=2"] {
        let outgoing = |target: &Target| -> Result<Outbound, Refusal> {
            Ok(chat(target, &json!({"model": format!("m+{behaviour}")})))
        };
        let start = Instant::now();
        let deadline = start + Duration::from_millis(200);
        let plan = plan(&upstreams, "a");
        let ended =
            upstreams.call(&plan, Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline, trace: None }).await;
        assert!(start.elapsed() < Duration::from_secs(2));
        match ended {
            Ok(answer) => assert_eq!((answer.status.as_u16(), behaviour), (503, "status=503,retry-after=2")),
            Err(error) => assert!(matches!(error.kind, CallErrorKind::Deadline) && behaviour == "hang", "{error:?}"),
        }
    }
}

#[tokio::test]
async fn plans_name_what_there_is_and_policies_thin_them_out() {
    let mock = mock("").await;
    let mut abroad = config("abroad", &mock);
    abroad.attributes.insert("region".into(), "us".into());
    let upstreams = upstreams(&[config("home", &mock), abroad]);
    let unknown = upstreams.plan(&[GroupConfig::new(["home", "nowhere"])]).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no target called 'nowhere'");
    assert!(upstreams.plan(&[]).is_err());
    assert!(upstreams.plan(&[GroupConfig::new(["home"]), GroupConfig::new(Vec::<String>::new())]).is_err());

    let all = plan(&upstreams, "abroad | home");
    let at_home = |target: &Target| target.attributes.get("region").is_none_or(|region| region != "us");
    let kept = all.keep(at_home).unwrap();
    assert_eq!(kept.targets().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["home"]);
    assert!(plan(&upstreams, "abroad").keep(at_home).is_none());
    let again = kept.then(&all);
    assert_eq!(again.targets().count(), 3);
}
