//! Whatever is altered is noticed.

use bantam_ledger::audit::{Claim, Expected, Report, export, verify, verify_export};
use bantam_ledger::keys::{KeyChange, NewKey};
use bantam_ledger::{
    Amount, Begin, Bodies, BodyStorage, Budget, EncryptionKey, Feedback, Ledger, LedgerConfig, Limits, Outcome, Period,
    PublicKey, Rating, Reading, public_key_file,
};
use bantam_types::NanoDollars;

use crate::store::{Place, begin, outcome};

async fn report(place: &Place, claims: Vec<Claim>) -> Report {
    let reading = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
    let expected =
        Expected { keys: vec![PublicKey::read(&public_key_file(&place.config.signing_key)).unwrap()], claims };
    let found = verify(&reading, &expected).await.unwrap();
    let mut lines = Vec::new();
    export(&reading, &mut lines).await.unwrap();
    let exported = verify_export(&mut lines.as_slice(), &expected).unwrap();
    if found.is_sound() {
        assert_eq!((&exported.chains, exported.broken), (&found.chains, None));
    }
    found
}

fn keyed(mut place: Place) -> Place {
    place.config.bodies = BodyStorage::Encrypted { key: EncryptionKey::from_hex(&"5a".repeat(32)).unwrap() };
    place
}

/// A ledger with every kind of entry and row, closed; the second of its four requests is erased.
async fn fill(place: &Place) {
    let ledger = place.open().await;
    let budgets = vec![Budget { period: Period::Day, amount: Amount::Money(NanoDollars(1_000_000)) }];
    let limits = Limits { budgets, ..Limits::default() };
    let (key, _) = ledger.create_key(NewKey { name: "app".into(), limits, ..NewKey::default() }).await.unwrap();
    let mut ids = Vec::new();
    for subject in ["anna", "bert", "carla", "dora"] {
        let begin = Begin { subject: Some(subject.into()), key: Some(key.id.clone()), ..begin(100) };
        let bodies = Bodies {
            request: Some(b"question".to_vec()),
            response: Some(b"answer".to_vec()),
            replay: Some(vec![1, 2]),
        };
        ids.push(begin.request);
        ledger.begin(begin).await.unwrap().finish(Outcome { bodies, ..outcome(70) }).await.unwrap();
    }
    let correction = Some("better".to_owned());
    ledger.feedback(ids[0], Feedback { rating: Some(Rating::Good), correction, accepted: Some(true) }).await.unwrap();
    ledger.erase_subject("bert").await.unwrap();
    ledger.update_key(&key.id, KeyChange { name: Some("renamed".into()), ..KeyChange::default() }).await.unwrap();
    ledger.checkpoint().await.unwrap();
    ledger.begin(begin(100)).await.unwrap().finish(outcome(70)).await.unwrap();
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_with_everything_is_sound() {
    for place in Place::each().into_iter().map(keyed) {
        fill(&place).await;
        let found = report(&place, vec![]).await;
        assert_eq!(found.broken, None);
        let [chain] = found.chains.as_slice() else { panic!("{found:?}") };
        assert_eq!((chain.first, chain.last, chain.covered), (1, 11, 11));
        assert_eq!(found.texts, 3 * 4 + 1, "three requests with a name and three bodies each, and a correction");
        let claim = Claim { chain: 1, seq: 11, hash: chain.hash };
        assert!(report(&place, vec![claim]).await.is_sound());
        let later = Claim { seq: 12, ..claim };
        assert_eq!(report(&place, vec![later]).await.broken.unwrap().seq, Some(12));
    }
}

/// Runs statements past the ledger, says what verifying finds then, and undoes them.
async fn altered(place: &Place, tables: &[&str], statements: &[String]) -> Option<Report> {
    for table in tables {
        place.alter(&format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await;
    }
    for statement in statements {
        place.alter(statement).await;
    }
    let reading = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
    let expected =
        Expected { keys: vec![PublicKey::read(&public_key_file(&place.config.signing_key)).unwrap()], claims: vec![] };
    let found = verify(&reading, &expected).await.ok();
    for table in tables {
        place.alter(&format!("DELETE FROM {table}")).await;
        place.alter(&format!("INSERT INTO {table} SELECT * FROM saved_{table}")).await;
        place.alter(&format!("DROP TABLE saved_{table}")).await;
    }
    found
}

const TABLES: [(&str, &str); 8] = [
    ("entries", "chain:i seq:i at:i kind:i id:b content:b hash:b"),
    (
        "requests",
        "chain:i seq:i id:b subject:t salt:b erased_chain:i erased_seq:i settled:t arrived:i day:i key_id:t surface:t route:t asked:t \
         status:i provider:t model:t input:i cached:i cache_written:i output:i reasoning:i charged_tokens:i first_token_us:i latency_us:i \
         cost:i counterfactual:i error:t stop:t streamed:i attempts:i",
    ),
    ("bodies", "chain:i seq:i part:i key:t data:b"),
    (
        "feedback",
        "chain:i seq:i request:b rating:i accepted:i salt:b correction_key:t correction:b erased_chain:i erased_seq:i",
    ),
    ("keys", "id:t chain:i seq:i revision:i record:t"),
    ("spending", "scope:t unit:i period:i cost:i tokens:i reserved_cost:i reserved_tokens:i"),
    ("checkpoints", "chain:i seq:i at:i hash:b key:t signature:b"),
    ("meta", "ledger:b pepper:b"),
];

/// Other values for a column of one row.
fn mutations(table: &str, column: &str, kind: &str, sqlite: bool) -> Vec<String> {
    let rows: &[&str] = match table {
        "meta" => &["id = 1"],
        "keys" => &["id IS NOT NULL"],
        "spending" => &["scope = '' AND unit = 0", "scope <> '' AND unit = 1"],
        // The first request has everything, the second was erased.
        "requests" => &["seq = 2", "seq = 3"],
        "bodies" => &["seq = 2 AND part = 1"],
        "entries" => &["kind = 1 AND seq = 2", "kind = 2", "kind = 3 AND seq = 1", "kind = 4", "kind = 6 AND seq < 10"],
        _ => &["seq = (SELECT MIN(seq) FROM {table})"],
    };
    let value = match (kind, sqlite) {
        ("i", _) => format!("COALESCE({column}, 0) + 1000"),
        ("t", _) => format!("COALESCE({column}, '') || 'x'"),
        (_, true) => format!("unhex(replace(hex(zeroblob(COALESCE(length({column}), 32))), '00', 'ab'))"),
        (_, false) => format!("decode(repeat('ab', COALESCE(octet_length({column}), 32)), 'hex')"),
    };
    let row = |row: &&str| format!("UPDATE {table} SET {column} = {value} WHERE {}", row.replace("{table}", table));
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn every_column_of_every_row_is_held_to() {
    for place in Place::each().into_iter().map(keyed) {
        fill(&place).await;
        for (table, columns) in TABLES {
            for column in columns.split(' ') {
                let (column, kind) = column.split_once(':').unwrap();
                for sql in mutations(table, column, kind, place.is_sqlite()) {
                    let found = altered(&place, &[table], std::slice::from_ref(&sql)).await;
                    assert!(found.is_none_or(|found| found.broken.is_some()), "not noticed: {sql}");
                }
            }
        }
        for sql in
            ["UPDATE requests SET salt = NULL WHERE seq = 2", "UPDATE feedback SET correction = NULL, salt = NULL"]
        {
            let found = altered(&place, &["requests", "feedback"], &[sql.to_owned()]).await.unwrap();
            assert!(found.broken.is_some(), "not noticed: {sql}");
        }
        assert_eq!(report(&place, vec![]).await.broken, None, "the ledger is what it was");
    }
}

#[tokio::test]
async fn rows_that_are_gone_added_or_moved_are_noticed() {
    let all = ["entries", "requests", "bodies", "feedback", "keys", "spending", "checkpoints"];
    for place in Place::each().into_iter().map(keyed) {
        fill(&place).await;
        let mut cases: Vec<(Vec<String>, Option<u64>)> = Vec::new();
        for seq in 1..=11 {
            cases.push((vec![format!("DELETE FROM entries WHERE seq = {seq}")], None));
        }
        for table in &all[1..] {
            cases.push((vec![format!("DELETE FROM {table} WHERE 1 = 1")], None));
        }
        let copy = |from: u64, to: u64| {
            format!(
                "INSERT INTO entries SELECT chain, {to}, at, kind, id, content, hash FROM entries WHERE seq = {from}"
            )
        };
        cases.push((vec![copy(11, 12)], Some(12)));
        cases.push((vec![copy(2, 12)], Some(12)));
        let swap = [
            "UPDATE entries SET seq = -2 WHERE seq = 2",
            "UPDATE entries SET seq = 2 WHERE seq = 3",
            "UPDATE entries SET seq = 3 WHERE seq = -2",
        ];
        cases.push((swap.map(str::to_owned).to_vec(), Some(2)));
        // The tail with all its rows, while the signature of the last checkpoint is there.
        let tail = ["entries", "requests", "bodies"].map(|table| format!("DELETE FROM {table} WHERE seq > 9"));
        cases.push((tail.to_vec(), Some(11)));
        cases.push((vec!["DELETE FROM entries WHERE seq < 3".to_owned()], Some(2)));
        for (statements, seq) in cases {
            let found = altered(&place, &all, &statements).await.unwrap();
            let broken = found.broken.unwrap_or_else(|| panic!("not noticed: {statements:?}"));
            if seq.is_some() {
                assert_eq!(broken.seq, seq, "{statements:?}: {broken}");
            }
        }
        let whole = report(&place, vec![]).await;
        let claim = Claim { chain: 1, seq: whole.chains[0].last, hash: whole.chains[0].hash };
        for table in ["entries", "requests", "bodies", "checkpoints"] {
            place.alter(&format!("DELETE FROM {table} WHERE seq > 9")).await;
        }
        place.alter("UPDATE spending SET cost = cost - 70, tokens = tokens - 60 WHERE scope = ''").await;
        assert!(report(&place, vec![]).await.is_sound(), "what has left no trace at all");
        assert_eq!(
            report(&place, vec![claim]).await.broken.unwrap().seq,
            Some(11),
            "is known from a checkpoint kept elsewhere"
        );
    }
}

#[tokio::test]
async fn an_export_stands_alone() {
    let place = keyed(Place::sqlite());
    fill(&place).await;
    let reading = Reading::open(&place.config.store, BodyStorage::None).await.unwrap();
    let expected =
        Expected { keys: vec![PublicKey::read(&public_key_file(&place.config.signing_key)).unwrap()], claims: vec![] };
    let mut lines = Vec::new();
    assert_eq!(export(&reading, &mut lines).await.unwrap(), 11);
    let text = String::from_utf8(lines).unwrap();
    assert!(!text.contains("anna") && !text.contains("better"), "texts are not exported");
    let sound = |text: &str| verify_export(&mut text.as_bytes(), &expected).is_ok_and(|found| found.is_sound());
    assert!(sound(&text));
    let lines: Vec<&str> = text.lines().collect();
    for place in 0..lines.len() {
        let without: Vec<&str> =
            lines.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, line)| *line).collect();
        assert!(!sound(&without.join("\n")) || place == lines.len(), "line {place} gone");
        for digit in ['0', '1'] {
            let Some(at) = lines[place].rfind(|c: char| c.is_ascii_digit() && c != digit) else { continue };
            let changed = format!("{}{digit}{}", &lines[place][..at], &lines[place][at + 1..]);
            let mut with = lines.clone();
            with[place] = &changed;
            assert!(!sound(&with.join("\n")), "line {place} changed");
        }
    }
    let other = Expected { keys: vec![], claims: vec![] };
    assert!(!verify_export(&mut text.as_bytes(), &other).unwrap().is_sound(), "a key that is not known");
    assert!(
        verify_export(&mut "{}".as_bytes(), &expected).is_err()
            && verify_export(&mut "".as_bytes(), &expected).is_err()
    );
}

#[tokio::test]
async fn what_retention_removes_leaves_a_sound_ledger() {
    for place in Place::each().into_iter().map(keyed) {
        fill(&place).await;
        let retention = bantam_ledger::Retention { bodies_days: Some(0), entries_days: None };
        let ledger = Ledger::open(LedgerConfig { retention, ..place.config.clone() }).await.unwrap();
        let purged = ledger.purge().await.unwrap();
        assert_eq!((purged.texts, purged.entries), (4, 0), "three requests and a feedback");
        assert_eq!(ledger.purge().await.unwrap(), bantam_ledger::Purged::default());
        ledger.close().await.unwrap();
        assert_eq!(report(&place, vec![]).await.broken, None);
        let retention = bantam_ledger::Retention { bodies_days: Some(0), entries_days: Some(0) };
        let ledger = Ledger::open(LedgerConfig { retention, ..place.config.clone() }).await.unwrap();
        let last = ledger.begin(begin(100)).await.unwrap().finish(outcome(1)).await.unwrap();
        assert_eq!(ledger.purge().await.unwrap().entries, last.seq - 1, "all up to the last checkpoint");
        assert_eq!(ledger.keys().len(), 1);
        ledger.close().await.unwrap();
        let found = report(&place, vec![]).await;
        assert_eq!((found.broken, found.chains[0].first), (None, last.seq));
        let sql = ["DELETE FROM entries WHERE kind = 5".to_owned()];
        assert!(altered(&place, &["entries"], &sql).await.unwrap().broken.is_some());
        place.open().await.close().await.unwrap();
    }
}
