//! Admission, settlement, and what a crash leaves.

use bantam_ledger::keys::NewKey;
use bantam_ledger::query::{Filter, Group, Sums};
use bantam_ledger::{Amount, BeginError, Budget, LedgerConfig, LedgerError, Limits, Period, Timestamp};
use bantam_types::NanoDollars;

use crate::store::{Place, begin, outcome};

fn money(nanos: i64) -> Limits {
    Limits {
        budgets: vec![Budget { period: Period::Month, amount: Amount::Money(NanoDollars(nanos)) }],
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_request_is_reserved_settled_and_chained() {
    for place in Place::each() {
        let ledger = place.open().await;
        let mut ticket = ledger.begin(begin(100)).await.unwrap();
        ticket.durable().await.unwrap();
        let first = ticket.finish(outcome(30)).await.unwrap();
        let second = ledger.begin(begin(100)).await.unwrap().finish(outcome(30)).await.unwrap();
        assert_eq!((first.chain, first.seq, second.seq), (1, 1, 2));
        assert!(second.at >= first.at && second.hash != first.hash);
        ledger.close().await.unwrap();
        let ledger = place.open().await;
        let third = ledger.begin(begin(100)).await.unwrap().finish(outcome(30)).await.unwrap();
        assert_eq!(third.seq, 4, "the third entry is the checkpoint of closing");
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn budgets_hold_over_reservations_and_restarts() {
    for place in Place::each() {
        let config = LedgerConfig { overall: money(1000), ..place.config.clone() };
        let ledger = bantam_ledger::Ledger::open(config.clone()).await.unwrap();
        let (key, _) =
            ledger.create_key(NewKey { name: "k".into(), limits: money(250), ..NewKey::default() }).await.unwrap();
        let of_key = |nanos| bantam_ledger::Begin { key: Some(key.id.clone()), ..begin(nanos) };
        let ticket = ledger.begin(of_key(200)).await.unwrap();
        let error = ledger.begin(of_key(51)).await.unwrap_err();
        let BeginError::OverBudget(over) = error else { panic!("{error}") };
        assert_eq!((over.key.as_ref(), over.used), (Some(&key.id), Amount::Money(NanoDollars(200))));
        ticket.finish(outcome(120)).await.unwrap();
        let dropped = ledger.begin(of_key(130)).await.unwrap();
        assert!(ledger.begin(of_key(1)).await.is_err());
        drop(dropped);
        let error = ledger.begin(begin(751)).await.unwrap_err();
        assert!(matches!(&error, BeginError::OverBudget(over) if over.key.is_none()), "{error}");
        ledger.close().await.unwrap();
        let ledger = bantam_ledger::Ledger::open(config).await.unwrap();
        assert!(ledger.begin(of_key(1)).await.is_err());
        ledger.begin(begin(750)).await.unwrap();
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let error = bantam_ledger::Ledger::open(place.config.clone()).await.unwrap_err();
    let LedgerError::Held { holder, .. } = &error else { panic!("{error}") };
    assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    ledger.close().await.unwrap();
    place.open().await.close().await.unwrap();
}

#[tokio::test]
async fn what_was_recorded_is_summed_by_time_and_the_chains_end_is_told() {
    for place in Place::each() {
        let ledger = place.open().await;
        let reading = ledger.reading();
        assert_eq!(reading.chains().await.unwrap(), []);
        let mut last = None;
        for minute in [0, 0, 59, 60] {
            let at = Timestamp(1_709_164_800_000_000 + minute * 60_000_000);
            let ticket = ledger.begin(bantam_ledger::Begin { at, ..begin(100) }).await.unwrap();
            last = Some(ticket.finish(outcome(30)).await.unwrap());
        }
        let told = |sums: Vec<Sums>| sums.into_iter().map(|s| (s.group, s.requests)).collect::<Vec<_>>();
        let filter = Filter::default();
        let minutes = told(reading.sums(Group::Minute, &filter).await.unwrap());
        assert_eq!(minutes, [("28486080".into(), 2), ("28486139".into(), 1), ("28486140".into(), 1)]);
        let hours = told(reading.sums(Group::Hour, &filter).await.unwrap());
        assert_eq!(hours, [("474768".into(), 3), ("474769".into(), 1)]);
        let end = reading.chains().await.unwrap().pop().unwrap();
        let last = last.unwrap();
        assert_eq!((end.first, end.last, end.at, end.hash), (1, last.seq, last.at, last.hash));
        assert_eq!((end.checkpoint, end.checkpoint_at), (0, None));
        ledger.checkpoint().await.unwrap();
        let [end] = &reading.chains().await.unwrap()[..] else { panic!("one chain") };
        assert!(end.checkpoint >= 4 && end.checkpoint_at >= Some(last.at), "{end:?}");
        ledger.close().await.unwrap();
    }
}
