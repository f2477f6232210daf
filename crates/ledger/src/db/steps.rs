//! Steps as bytes.
//!
//! A kind (u8) and what belongs to it: rows (1) are the place of their table (u8), their count (u32) and their values; closed requests (2) a count (u32)
//! and 16 bytes each. A value is a kind (u8): nothing (0), an integer (1, i64), text (2) or bytes (3) with their length (u32). Integers are little-endian.

use super::Value;
use super::insert::{Rows, Step};
use super::schema::{BODIES, CHECKPOINTS, ENTRIES, FEEDBACK, KEYS, OPEN, REQUESTS, SPENDING, Table};

/// Tables by their place, which must not change while there are files that name it.
const TABLES: [&Table; 8] = [&ENTRIES, &REQUESTS, &BODIES, &FEEDBACK, &KEYS, &SPENDING, &OPEN, &CHECKPOINTS];

/// The steps as bytes; nothing where one of them is a statement of its own.
pub(crate) fn encode(steps: &[Step]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(2048);
    for step in steps {
        match step {
            Step::Insert(rows) => {
                let table = TABLES.iter().position(|table| table.name == rows.table.name)?;
                out.extend([1, u8::try_from(table).ok()?]);
                out.extend(u32::try_from(rows.count()).ok()?.to_le_bytes());
                for value in &rows.values {
                    put(&mut out, value)?;
                }
            }
            Step::Close(ids) => {
                out.push(2);
                out.extend(u32::try_from(ids.len()).ok()?.to_le_bytes());
                ids.iter().for_each(|id| out.extend(id.as_bytes()));
            }
            Step::Run(..) => return None,
        }
    }
    Some(out)
}

fn put(out: &mut Vec<u8>, value: &Value) -> Option<()> {
    let mut bytes = |kind: u8, bytes: &[u8]| {
        out.push(kind);
        out.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
        out.extend(bytes);
        Some(())
    };
    match value {
        Value::Text(text) => bytes(2, text.as_bytes())?,
        Value::Blob(blob) => bytes(3, blob)?,
        Value::Null => out.push(0),
        Value::Int(n) => {
            out.push(1);
            out.extend(n.to_le_bytes());
        }
    }
    Some(())
}

/// The steps that bytes stand for; nothing where they stand for none.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<Step>> {
    let bytes = &mut bytes;
    let mut steps = Vec::new();
    while !bytes.is_empty() {
        steps.push(match byte(bytes)? {
            1 => {
                let table = *TABLES.get(usize::from(byte(bytes)?))?;
                let mut rows = Rows::new(table);
                for _ in 0..length(bytes)? {
                    for _ in table.columns {
                        rows.values.push(value(bytes)?);
                    }
                }
                Step::Insert(rows)
            }
            2 => {
                let mut ids = Vec::new();
                for _ in 0..length(bytes)? {
                    ids.push(uuid::Uuid::from_bytes(chunk(bytes)?));
                }
                Step::Close(ids)
            }
            _ => return None,
        });
    }
    Some(steps)
}

fn chunk<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*chunk)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    chunk::<1>(bytes).map(|[byte]| byte)
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(chunk(bytes)?)).ok()
}

fn value(bytes: &mut &[u8]) -> Option<Value> {
    let some = |bytes: &mut &[u8]| {
        let length = length(bytes)?;
        let (some, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(some.to_vec())
    };
    Some(match byte(bytes)? {
        0 => Value::Null,
        1 => Value::Int(i64::from_le_bytes(chunk(bytes)?)),
        2 => Value::Text(String::from_utf8(some(bytes)?).ok()?),
        3 => Value::Blob(some(bytes)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            ".{0,20}".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rows = (0..TABLES.len(), 0..4usize).prop_flat_map(|(table, count)| {
            let values = prop::collection::vec(values(), count * TABLES[table].columns.len());
            values.prop_map(move |values| Step::Insert(Rows { table: TABLES[table], values }))
        });
        let ids = prop::collection::vec(any::<u128>().prop_map(uuid::Uuid::from_u128), 0..4).prop_map(Step::Close);
        prop::collection::vec(prop_oneof![3 => rows, 1 => ids], 0..6)
    }

    proptest! {
        #[test]
        fn steps_survive_the_round_trip(steps in steps()) {
            let bytes = encode(&steps).unwrap();
            prop_assert_eq!(format!("{:?}", decode(&bytes).unwrap()), format!("{steps:?}"));
        }

        #[test]
        fn any_bytes_are_steps_or_none(bytes in prop::collection::vec(0..5u8, 0..200)) {
            if let Some(steps) = decode(&bytes) {
                prop_assert_eq!(encode(&steps).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn statements_of_their_own_have_no_bytes() {
        assert!(encode(&[Step::Run("DELETE FROM bodies", vec![])]).is_none());
    }
}
