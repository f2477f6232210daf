//! What a process leaves behind when it dies, a store that is full, and whatever order things happen in.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bantam_ledger::audit::{Expected, verify};
use bantam_ledger::query::{Filter, Group};
use bantam_ledger::{
    Amount, Begin, BeginError, Bodies, BodyStorage, Budget, Durability, Ledger, LedgerConfig, LedgerError, Limits,
    Outcome, Period, PublicKey, Reading, Retention, Settled, Store, public_key_file,
};
use bantam_types::NanoDollars;
use proptest::prelude::*;

use crate::store::{Place, begin, outcome};

fn limited(config: &LedgerConfig, nanos: i64) -> LedgerConfig {
    let budgets = vec![Budget { period: Period::Month, amount: Amount::Money(NanoDollars(nanos)) }];
    LedgerConfig { overall: Limits { budgets, ..Limits::default() }, ..config.clone() }
}

async fn assert_sound(place: &Place) {
    let reading = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
    let expected =
        Expected { keys: vec![PublicKey::read(&public_key_file(&place.config.signing_key)).unwrap()], claims: vec![] };
    let found = verify(&reading, &expected).await.unwrap();
    assert_eq!(found.broken, None);
}

/// The cost of all entries.
async fn settled(ledger: &Ledger) -> i64 {
    ledger.reading().sums(Group::All, &Filter::default()).await.unwrap().first().map_or(0, |sums| sums.cost.0)
}

/// A runtime that is thrown away takes the writer with it, wherever it is: what a killed process leaves.
fn crash(work: impl Future<Output = Vec<bantam_ledger::Ticket>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tickets = runtime.block_on(work);
    tickets.into_iter().for_each(std::mem::forget);
    runtime.shutdown_timeout(Duration::from_secs(10));
}

#[derive(Clone, Debug)]
enum Event {
    Begin(i64),
    /// Which of the open ones, and how much of its reservation it cost in percent.
    Finish(prop::sample::Index, i64),
    Drop(prop::sample::Index),
    Crash,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1..40i64).prop_map(Event::Begin),
        3 => (any::<prop::sample::Index>(), 0..=100i64).prop_map(|(which, share)| Event::Finish(which, share)),
        2 => any::<prop::sample::Index>().prop_map(Event::Drop),
        1 => Just(Event::Crash),
    ];
    prop::collection::vec(event, 1..40)
}

const LIMIT: i64 = 200;

/// A Postgres server may take a moment to see that a connection is gone; what its process left is settled after that.
async fn all_settled(ledger: &Ledger) {
    while ledger.reading().info().await.unwrap().open > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lives through the events; what is settled after each life must fit the limit, and be what the entries say.
fn live(place: &Place, events: &[Event]) {
    for life in events.split(|event| matches!(event, Event::Crash)) {
        crash(async {
            let ledger = Ledger::open(limited(&place.config, LIMIT)).await.unwrap();
            let mut open: Vec<(bantam_ledger::Ticket, i64)> = Vec::new();
            all_settled(&ledger).await;
            let mut spent = settled(&ledger).await;
            assert!(spent <= LIMIT, "{spent} of {LIMIT} were spent");
            for event in life {
                match event {
                    Event::Begin(cost) => {
                        let used = spent + open.iter().map(|(_, cost)| cost).sum::<i64>();
                        match ledger.begin(begin(*cost)).await {
                            Ok(mut ticket) => {
                                assert!(used + cost <= LIMIT, "{used} and {cost} were let in");
                                ticket.durable().await.unwrap();
                                open.push((ticket, *cost));
                            }
                            Err(BeginError::OverBudget(_)) => {
                                assert!(used + cost > LIMIT, "{used} and {cost} were refused")
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                    Event::Finish(which, share) if !open.is_empty() => {
                        let (ticket, cost) = open.remove(which.index(open.len()));
                        ticket.finish(outcome(cost * share / 100)).await.unwrap();
                        spent += cost * share / 100;
                    }
                    Event::Drop(which) if !open.is_empty() => {
                        let (ticket, cost) = open.remove(which.index(open.len()));
                        drop(ticket);
                        spent += cost;
                    }
                    _ => {}
                }
            }
            let used = ledger.budgets(None).await.unwrap()[0];
            assert!(used.spent + used.reserved <= LIMIT, "{used:?}");
            // A thread that writes outlives its runtime by a moment, as it would not outlive its process.
            while ledger.open_requests() > open.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            open.into_iter().map(|(ticket, _)| ticket).collect()
        });
        unlock(place);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(limited(&place.config, LIMIT)).await.unwrap();
        all_settled(&ledger).await;
        let used = ledger.budgets(None).await.unwrap()[0];
        assert_eq!((used.spent, used.reserved), (settled(&ledger).await, 0));
        assert!(used.spent <= LIMIT);
        ledger.close().await.unwrap();
        assert_sound(place).await;
    });
}

/// A thread of SQLite may hold the lock file for a moment after its runtime is gone.
fn unlock(place: &Place) {
    let Store::Sqlite { path, .. } = &place.config.store else { return };
    let lock = std::fs::File::open(path.with_extension("db.lock")).unwrap();
    lock.lock().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_events_overspends_a_budget(events in events()) {
        live(&Place::sqlite(), &events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn nor_does_it_on_postgres(events in events()) {
        if let Some(place) = Place::postgres() {
            live(&place, &events);
        }
    }
}

/// Finishes requests and prints each id when its entry is said to be committed, until killed. Not a test of its own: the next one runs it.
#[test]
fn child_that_is_killed() {
    let Ok(path) = std::env::var("BANTAM_TEST_LEDGER") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = limited(&LedgerConfig::sqlite(Path::new(&path)), 1_000_000_000);
        let ledger = Ledger::open(config).await.unwrap();
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let ledger = ledger.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    let begin = begin(1000);
                    let id = begin.request;
                    let mut ticket = ledger.begin(begin).await.unwrap();
                    ticket.durable().await.unwrap();
                    println!("begun {id}");
                    ticket.finish(outcome(10)).await.unwrap();
                    println!("done {id}");
                }
            }));
        }
        futures::future::join_all(tasks).await;
    });
}

#[test]
fn no_entry_is_lost_when_the_process_is_killed() {
    let place = Place::sqlite();
    let Store::Sqlite { path, .. } = &place.config.store else { return };
    let (mut begun, mut done) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_that_is_killed", "--exact", "--nocapture"])
            .env("BANTAM_TEST_LEDGER", path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Killed some time after it has got going, at another place each round.
        let enough = begun.len() + 40 + 37 * round;
        while std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0 {
            for (word, ids) in [("begun ", &mut begun), ("done ", &mut done)] {
                if let Some(id) = line.trim().strip_prefix(word) {
                    ids.push(id.parse::<uuid::Uuid>().unwrap());
                }
            }
            line.clear();
            if begun.len() >= enough {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    assert!(done.len() > 100, "{} were done", done.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Who only reads sees what the last process left, too.
        let reading = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
        for id in &done {
            assert_eq!(reading.story(*id).await.unwrap().recorded.entry.settled, Settled::Finished, "{id}");
        }
        drop(reading);
        let ledger = place.open().await;
        let reading = ledger.reading();
        for id in done {
            assert_eq!(reading.story(id).await.unwrap().recorded.entry.settled, Settled::Finished, "{id}");
        }
        for id in begun {
            reading.story(id).await.unwrap();
        }
        let left = Filter { settled: Some(Settled::Interrupted), ..Filter::default() };
        let left = reading.sums(Group::All, &left).await.unwrap();
        assert!(
            left.first().is_some_and(|sums| sums.cost.0 == 1000 * i64::try_from(sums.requests).unwrap()),
            "{left:?}"
        );
        ledger.close().await.unwrap();
        assert_sound(&place).await;
    });
}

#[tokio::test]
async fn a_full_store_refuses_and_recovers() {
    let place = Place::sqlite();
    let Store::Sqlite { path, .. } = &place.config.store else { return };
    let config = LedgerConfig {
        store: Store::Sqlite { path: path.clone(), durability: Durability::Process, max_bytes: Some(600_000) },
        bodies: BodyStorage::Redacted,
        retention: Retention { bodies_days: Some(0), entries_days: None },
        ..limited(&place.config, 1_000_000)
    };
    let ledger = Ledger::open(config).await.unwrap();
    let with_body =
        || Outcome { bodies: Bodies { request: Some(vec![b'x'; 2000]), ..Bodies::default() }, ..outcome(10) };
    let (mut tickets, mut finished) = (Vec::new(), 0);
    let error = loop {
        assert!(finished < 10_000, "it never gets full");
        let mut ticket = match ledger.begin(begin(10)).await {
            Ok(ticket) => ticket,
            Err(error) => break error,
        };
        if let Err(error) = ticket.durable().await {
            break error.into();
        }
        tickets.push(ticket);
        if tickets.len() > 20 && finished < 150 {
            tickets.remove(0).finish(with_body()).await.unwrap();
            finished += 1;
        }
        // What comes within a turn of the journal may exceed the limit: little.
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert!(matches!(&error, BeginError::Store(LedgerError::Store { why, .. }) if why.contains("full")), "{error}");
    assert!(ledger.fault().is_some());
    // Refused at once while it lasts, but for tries.
    let (start, mut refused) = (std::time::Instant::now(), 0);
    for _ in 0..50 {
        refused += u128::from(ledger.begin(begin(10)).await.is_err());
    }
    let tries = start.elapsed().as_millis() / 200 + 2;
    assert!(50 - refused <= tries, "{refused} of 50");
    // What is open waits to be finished, and is when there is room.
    let waiting: Vec<_> = tickets.into_iter().map(|ticket| tokio::spawn(ticket.finish(outcome(10)))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting.iter().any(|finish| !finish.is_finished()));
    assert!(ledger.purge().await.unwrap().texts >= 100);
    for finish in waiting {
        finish.await.unwrap().unwrap();
    }
    let mut ticket = ledger.begin(begin(10)).await.unwrap();
    ticket.durable().await.unwrap();
    ticket.finish(outcome(10)).await.unwrap();
    assert!(ledger.fault().is_none());
    let used = ledger.budgets(None).await.unwrap()[0];
    assert_eq!((used.spent, used.reserved), (settled(&ledger).await, 0));
    ledger.close().await.unwrap();
    assert_sound(&place).await;
}

/// Waits for something that another writer sees after a while.
async fn until(what: &str, seen: impl Fn() -> bool) {
    for _ in 0..600 {
        if seen() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

#[tokio::test]
async fn writers_on_one_postgres_share_budgets_and_settle_for_the_dead() {
    let Some(place) = Place::postgres() else { return };
    let config = limited(&place.config, 1000);
    let first = Ledger::open(config.clone()).await.unwrap();
    let second = Ledger::open(config.clone()).await.unwrap();
    let mine = first.begin(begin(600)).await.unwrap();
    let error = second.begin(begin(500)).await.unwrap_err();
    assert!(matches!(error, BeginError::OverBudget(_)), "{error}");
    let receipt = second.begin(begin(400)).await.unwrap().finish(outcome(400)).await.unwrap();
    assert_eq!((receipt.chain, receipt.seq), (2, 1));
    let (key, secret) =
        first.create_key(bantam_ledger::keys::NewKey { name: "k".into(), ..Default::default() }).await.unwrap();
    until("the key is seen", || second.authenticate(secret.reveal()).is_ok_and(|found| found.id == key.id)).await;
    second.revoke_key(&key.id).await.unwrap();
    until("its end is seen", || first.authenticate(secret.reveal()).is_err()).await;
    // A third process opens a request and dies; the others settle it within seconds.
    let id = {
        let config = limited(&place.config, 5000);
        std::thread::spawn(move || {
            let request = begin(700);
            let id = request.request;
            crash(async { vec![Ledger::open(config).await.unwrap().begin(Begin { ..request }).await.unwrap()] });
            id
        })
        .join()
        .unwrap()
    };
    let mut waited = 0;
    while second.reading().story(id).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += 1;
        assert!(waited < 600, "nobody settled it within a minute");
    }
    assert_eq!(second.reading().story(id).await.unwrap().recorded.entry.settled, Settled::Interrupted);
    mine.finish(outcome(100)).await.unwrap();
    assert_eq!(first.budgets(None).await.unwrap()[0].spent, 400 + 700 + 100);
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert_sound(&place).await;
}
