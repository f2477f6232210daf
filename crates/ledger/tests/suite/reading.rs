//! Reports, one request's story, keys and erasure.

use std::time::Duration;

use bantam_ledger::keys::{KeyChange, NewKey, Scope};
use bantam_ledger::query::{Filter, Group, Text};
use bantam_ledger::{
    AuthError, Begin, BeginError, Bodies, BodyStorage, EncryptionKey, Feedback, LedgerConfig, LedgerError, Limits,
    Outcome, Part, Rating, Reading, Store, Timestamp,
};
use bantam_types::NanoDollars;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::store::{Place, begin, outcome};

#[tokio::test]
async fn sums_quantiles_and_pages_are_those_of_the_requests() {
    for place in Place::each() {
        let ledger = place.open().await;
        let mut live = ledger.subscribe();
        let mut ids = Vec::new();
        for n in 1..=40u64 {
            let begin = begin(100);
            ids.push(begin.request);
            let outcome = Outcome {
                model: Some(if n % 2 == 0 { "even" } else { "odd" }.into()),
                latency: Duration::from_micros(n * 1000),
                status: if n > 38 { 500 } else { 200 },
                counterfactual: (n > 10).then_some(NanoDollars(50)),
                ..outcome(i64::try_from(n).unwrap())
            };
            ledger.begin(begin).await.unwrap().finish(outcome).await.unwrap();
        }
        ledger
            .record(begin(0), Outcome { status: 429, error: Some("over_budget".into()), ..Outcome::default() })
            .await
            .unwrap();
        let reading = ledger.reading();
        let by_model = reading.sums(Group::Model, &Filter::default()).await.unwrap();
        let names: Vec<&str> = by_model.iter().map(|sums| sums.group.as_str()).collect();
        assert_eq!(names, ["", "even", "odd"]);
        assert_eq!((by_model[0].requests, by_model[0].failed, by_model[0].latency_us), (1, 1, [0; 3]));
        let even = &by_model[1];
        assert_eq!((even.requests, even.failed, even.cost.0), (20, 1, 420));
        assert_eq!((even.counterfactual.0, even.compared_cost.0), (15 * 50, 420 - 2 - 4 - 6 - 8 - 10));
        assert_eq!(even.latency_us, [20_000, 38_000, 40_000]);
        assert_eq!((even.tokens.input, even.tokens.output), (800, 400));
        let today = Timestamp::now().day();
        let by_day = reading.sums(Group::Day, &Filter::default()).await.unwrap();
        assert!(by_day.iter().all(|sums| sums.group.parse::<i64>().unwrap().abs_diff(today) <= 1));
        assert_eq!(by_day.iter().map(|sums| sums.requests).sum::<u64>(), 41);
        let odd = Filter { model: Some("odd".into()), ..Filter::default() };
        let first = reading.requests(&odd, None, 15).await.unwrap();
        let rest = reading.requests(&odd, Some(first[14].id), 15).await.unwrap();
        let paged: Vec<Uuid> = first.iter().chain(&rest).map(|found| found.id).collect();
        let wanted: Vec<Uuid> = ids.iter().copied().step_by(2).rev().collect();
        assert_eq!(paged, wanted);
        let failed = Filter {
            status_from: Some(500),
            from: Some(Timestamp(0)),
            to: Some(Timestamp::now()),
            ..Filter::default()
        };
        assert_eq!(reading.requests(&failed, None, 100).await.unwrap().len(), 2);
        let mut scanned = Vec::new();
        reading.scan(&Filter::default(), |found| scanned.push(found.id)).await.unwrap();
        assert_eq!(scanned[..40], ids);
        for id in ids {
            assert_eq!(live.recv().await.unwrap().id, id);
        }
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_story_is_whole_until_it_is_erased() {
    for place in Place::each() {
        let key = EncryptionKey::from_hex(&"11".repeat(32)).unwrap();
        let config = LedgerConfig { bodies: BodyStorage::Encrypted { key }, ..place.config.clone() };
        let ledger = bantam_ledger::Ledger::open(config).await.unwrap();
        let begin = Begin { subject: Some("user\0 7".into()), ..begin(100) };
        let id = begin.request;
        let bodies = Bodies { request: Some(b"q".to_vec()), replay: Some(b"r".to_vec()), response: None };
        assert!(matches!(ledger.feedback(id, Feedback::default()).await, Err(LedgerError::NoSuchRequest { .. })));
        ledger.begin(begin).await.unwrap().finish(Outcome { bodies, ..outcome(5) }).await.unwrap();
        assert!(matches!(ledger.feedback(id, Feedback::default()).await, Err(LedgerError::Invalid { .. })));
        let given = Feedback { rating: Some(Rating::Bad), correction: Some("no".into()), accepted: Some(false) };
        ledger.feedback(id, given).await.unwrap();
        let story = ledger.reading().story(id).await.unwrap();
        assert_eq!(
            story.bodies,
            [(Part::Request, Text::Plain(b"q".to_vec())), (Part::Replay, Text::Plain(b"r".to_vec()))]
        );
        assert_eq!(story.feedback[0].correction, Some(Text::Plain(b"no".to_vec())));
        assert_eq!(story.recorded.entry.decision["rule"], "cheap");
        let keyless = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
        assert!(matches!(&keyless.story(id).await.unwrap().bodies[0].1, Text::Locked { .. }));
        assert_eq!(ledger.erase_subject("nobody").await.unwrap(), 0);
        assert_eq!(ledger.erase_subject("user\0 7").await.unwrap(), 1);
        let story = ledger.reading().story(id).await.unwrap();
        assert!(story.subject.is_none() && story.bodies.is_empty() && story.erased.is_some());
        assert_eq!(story.feedback[0].correction, None);
        assert_eq!(story.feedback[0].entry.rating, Some(Rating::Bad));
        ledger.close().await.unwrap();
        let ledger = place.open().await;
        let given = Feedback { correction: Some("no".into()), ..Feedback::default() };
        assert!(matches!(ledger.feedback(id, given).await, Err(LedgerError::Invalid { field: "correction", .. })));
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_said_of_answers_is_found_with_what_was_asked() {
    for place in Place::each() {
        let config = LedgerConfig { bodies: BodyStorage::Redacted, ..place.config.clone() };
        let ledger = bantam_ledger::Ledger::open(config).await.unwrap();
        let mut ids = Vec::new();
        for n in 0..4 {
            let begin = begin(1);
            ids.push(begin.request);
            let bodies = Bodies { request: (n != 2).then(|| vec![b'0' + n]), ..Bodies::default() };
            ledger.begin(begin).await.unwrap().finish(Outcome { bodies, ..outcome(1) }).await.unwrap();
        }
        let good = Feedback { rating: Some(Rating::Good), ..Feedback::default() };
        let bad = Feedback { rating: Some(Rating::Bad), ..Feedback::default() };
        let used = Feedback { accepted: Some(true), ..Feedback::default() };
        let better = Feedback { correction: Some("better".into()), ..Feedback::default() };
        for (id, said) in [(0, good.clone()), (2, better), (0, used), (0, bad), (3, good)] {
            ledger.feedback(ids[id], said).await.unwrap();
        }
        let mut found = Vec::new();
        ledger.reading().judged(&Filter::default(), |judged| found.push(judged)).await.unwrap();
        let found: Vec<_> =
            found.into_iter().map(|j| (j.recorded.id, j.request, j.rating, j.accepted, j.corrected)).collect();
        let text = |text: &[u8]| Some(Text::Plain(text.to_vec()));
        let wanted = [
            (ids[0], text(b"0"), Some(Rating::Bad), Some(true), false),
            (ids[2], None, None, None, true),
            (ids[3], text(b"3"), Some(Rating::Good), None, false),
        ];
        assert_eq!(found, wanted);
        let other = Filter { model: Some("another".into()), ..Filter::default() };
        ledger.reading().judged(&other, |judged| panic!("{judged:?}")).await.unwrap();
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn keys_outlive_the_process_and_limit_requests() {
    for place in Place::each() {
        let ledger = place.open().await;
        let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
        let new = NewKey { name: "app".into(), limits, scopes: [Scope::Admin].into(), ..NewKey::default() };
        let (key, secret) = ledger.create_key(new).await.unwrap();
        let of_key = || Begin { key: Some(key.id.clone()), ..begin(1) };
        for _ in 0..2 {
            ledger.begin(of_key()).await.unwrap().finish(outcome(1)).await.unwrap();
        }
        let error = ledger.begin(of_key()).await.unwrap_err();
        assert!(matches!(&error, BeginError::RateLimited(limited) if limited.what == "requests"), "{error}");
        let unlimited = KeyChange { limits: Some(Limits::default()), ..KeyChange::default() };
        ledger.update_key(&key.id, unlimited).await.unwrap();
        ledger.begin(of_key()).await.unwrap();
        let (_, newer) = ledger.rotate_key(&key.id, Duration::ZERO).await.unwrap();
        ledger.close().await.unwrap();
        let ledger = place.open().await;
        assert_eq!(ledger.authenticate(secret.reveal()), Err(AuthError::Expired));
        let found = ledger.authenticate(newer.reveal()).unwrap();
        assert!(found.has(Scope::Admin) && !found.has(Scope::Inference));
        ledger.revoke_key(&key.id).await.unwrap();
        assert!(matches!(ledger.begin(of_key()).await.unwrap_err(), BeginError::UnknownKey { .. }));
        let shown = serde_json::to_string(&ledger.key(&key.id).unwrap().info(Timestamp::now())).unwrap();
        assert!(shown.contains("\"revoked\"") && !shown.contains("hash"), "{shown}");
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_is_a_ledger() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let id = begin(1).request;
    ledger.begin(Begin { request: id, ..begin(1) }).await.unwrap().finish(outcome(1)).await.unwrap();
    let copy = place.config.signing_key.with_file_name("copy.db");
    ledger.backup(&copy).await.unwrap();
    assert!(matches!(ledger.backup(&copy).await, Err(LedgerError::File { .. })));
    let copied = bantam_ledger::Ledger::open(LedgerConfig::sqlite(&copy)).await.unwrap();
    assert_eq!(copied.reading().story(id).await.unwrap().recorded.receipt.seq, 1);
    copied.close().await.unwrap();
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_ledger_is_refused() {
    for place in Place::each() {
        place.open().await.close().await.unwrap();
        place.alter("UPDATE meta SET version = 99").await;
        let error = bantam_ledger::Ledger::open(place.config.clone()).await.unwrap_err();
        assert!(matches!(error, LedgerError::NewerSchema { found: 99, .. }), "{error}");
        assert!(Reading::open(&place.config.store, BodyStorage::None).await.is_err());
    }
}

#[tokio::test]
async fn an_older_ledger_is_brought_up_to_date() {
    for place in Place::each() {
        let first = begin(1);
        let ledger = place.open().await;
        ledger.begin(first.clone()).await.unwrap().finish(outcome(1)).await.unwrap();
        ledger.close().await.unwrap();
        place.alter("ALTER TABLE meta DROP COLUMN applied").await;
        place.alter("UPDATE meta SET version = 1").await;
        let ledger = place.open().await;
        ledger.begin(begin(1)).await.unwrap().finish(outcome(1)).await.unwrap();
        assert_eq!(ledger.reading().info().await.unwrap().chains[0].last, 3, "two requests and a checkpoint");
        ledger.reading().story(first.request).await.unwrap();
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_erased_is_in_no_file() {
    let place = Place::sqlite();
    let Store::Sqlite { path, .. } = &place.config.store else { return };
    let config = LedgerConfig { bodies: BodyStorage::Redacted, ..place.config.clone() };
    let ledger = bantam_ledger::Ledger::open(config).await.unwrap();
    let found = |word: &[u8]| {
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| std::fs::read(file).unwrap().windows(word.len()).any(|bytes| bytes == word)).count()
    };
    for (user, word) in [("anna", "heliotrope"), ("bert", "obsidian")] {
        let bodies = Bodies { request: Some(word.as_bytes().to_vec()), ..Bodies::default() };
        let ticket = ledger.begin(Begin { subject: Some(user.into()), ..begin(1) }).await.unwrap();
        ticket.finish(Outcome { bodies, ..outcome(1) }).await.unwrap();
    }
    assert!(found(b"heliotrope") > 0 && found(b"obsidian") > 0);
    assert_eq!(ledger.erase_subject("anna").await.unwrap(), 1);
    assert_eq!((found(b"heliotrope"), found(b"anna")), (0, 0));
    assert!(found(b"obsidian") > 0);
    // Somebody who reads meanwhile holds it up, and nothing else.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut reader = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT COUNT(*) FROM bodies").execute(&mut reader).await.unwrap();
    let start = std::time::Instant::now();
    assert_eq!(ledger.erase_subject("bert").await.unwrap(), 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(found(b"obsidian") > 0, "the reader still sees it");
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    for _ in 0..500 {
        if found(b"obsidian") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(b"obsidian"), 0);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_request_is_open_once_and_not_too_many_are() {
    let place = Place::sqlite();
    let commit = bantam_ledger::CommitLimits { open_requests: 2, ..place.config.commit };
    let ledger = bantam_ledger::Ledger::open(LedgerConfig { commit, ..place.config.clone() }).await.unwrap();
    let first = begin(1);
    let ticket = ledger.begin(first.clone()).await.unwrap();
    assert!(matches!(ledger.begin(first.clone()).await.unwrap_err(), BeginError::Store(LedgerError::Invalid { .. })));
    let _second = ledger.begin(begin(1)).await.unwrap();
    assert!(matches!(ledger.begin(begin(1)).await.unwrap_err(), BeginError::Busy { open: 2 }));
    ticket.finish(outcome(1)).await.unwrap();
    ledger.begin(begin(1)).await.unwrap();
    assert!(
        ledger
            .begin(Begin { estimate: bantam_ledger::Estimate { cost: NanoDollars(-1), tokens: 0 }, ..begin(0) })
            .await
            .is_err()
    );
    ledger.close().await.unwrap();
}
