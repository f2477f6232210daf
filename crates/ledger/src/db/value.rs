//! Values of columns.

use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Column, Decode, Postgres, Row as _, Sqlite, TypeInfo, ValueRef};

use crate::error::LedgerError;

/// The value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn optional(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// A number of things; more than the column can hold is the most it can.
    pub(crate) fn count(n: u64) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    pub(crate) fn blob(bytes: &[u8]) -> Self {
        Self::Blob(bytes.to_vec())
    }
}

/// A row of a result, read from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
    next: usize,
}

impl Row {
    /// The next value.
    pub(crate) fn value(&mut self) -> Result<Value, LedgerError> {
        let place = self.next;
        self.next += 1;
        match self.values.get_mut(place) {
            Some(value) => Ok(std::mem::replace(value, Value::Null)),
            None => Err(LedgerError::Damaged { what: format!("a row has no column {place}") }),
        }
    }

    /// Some values.
    pub(crate) fn values(&mut self, count: usize) -> Result<Vec<Value>, LedgerError> {
        (0..count).map(|_| self.value()).collect()
    }

    pub(crate) fn int(&mut self) -> Result<i64, LedgerError> {
        self.optional_int()?.ok_or_else(|| self.fault("a number"))
    }

    pub(crate) fn optional_int(&mut self) -> Result<Option<i64>, LedgerError> {
        match self.value()? {
            Value::Int(n) => Ok(Some(n)),
            Value::Null => Ok(None),
            _ => Err(self.fault("a number")),
        }
    }

    /// A number that is never negative.
    pub(crate) fn count(&mut self) -> Result<u64, LedgerError> {
        u64::try_from(self.int()?).map_err(|_| self.fault("a number that is not negative"))
    }

    pub(crate) fn chain(&mut self) -> Result<u32, LedgerError> {
        u32::try_from(self.int()?).map_err(|_| self.fault("the number of a chain"))
    }

    pub(crate) fn text(&mut self) -> Result<String, LedgerError> {
        self.optional_text()?.ok_or_else(|| self.fault("a text"))
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, LedgerError> {
        match self.value()? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            _ => Err(self.fault("a text")),
        }
    }

    pub(crate) fn blob(&mut self) -> Result<Vec<u8>, LedgerError> {
        self.optional_blob()?.ok_or_else(|| self.fault("bytes"))
    }

    pub(crate) fn optional_blob(&mut self) -> Result<Option<Vec<u8>>, LedgerError> {
        match self.value()? {
            Value::Blob(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            _ => Err(self.fault("bytes")),
        }
    }

    pub(crate) fn uuid(&mut self) -> Result<uuid::Uuid, LedgerError> {
        uuid::Uuid::from_slice(&self.blob()?).map_err(|_| self.fault("an id of 16 bytes"))
    }

    pub(crate) fn hash(&mut self) -> Result<crate::request::Hash, LedgerError> {
        self.blob()?.try_into().map(crate::request::Hash).map_err(|_| self.fault("a digest of 32 bytes"))
    }

    fn fault(&self, wanted: &str) -> LedgerError {
        LedgerError::Damaged { what: format!("column {} of a row is not {wanted}", self.next.saturating_sub(1)) }
    }
}

pub(super) fn bind_sqlite(args: &mut SqliteArguments, value: Value) -> Result<(), sqlx::Error> {
    match value {
        Value::Null => args.add(None::<i64>),
        Value::Int(n) => args.add(n),
        Value::Text(text) => args.add(text),
        Value::Blob(bytes) => args.add(bytes),
    }
    .map_err(sqlx::Error::Encode)
}

pub(super) fn of_sqlite(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut values = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let raw = row.try_get_raw(column)?;
        let kind = raw.type_info().into_owned();
        let decoded = if raw.is_null() {
            Ok(Value::Null)
        } else {
            match kind.name() {
                "TEXT" => <String as Decode<Sqlite>>::decode(raw).map(Value::Text),
                "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(raw).map(Value::Blob),
                "REAL" => <f64 as Decode<Sqlite>>::decode(raw).map(|x| Value::Text(x.to_string())),
                _ => <i64 as Decode<Sqlite>>::decode(raw).map(Value::Int),
            }
        };
        values.push(decoded.map_err(|source| fault(row.column(column).name(), source))?);
    }
    Ok(Row { values, next: 0 })
}

pub(super) fn of_postgres(row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut values = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let raw = row.try_get_raw(column)?;
        let kind = raw.type_info().into_owned();
        let decoded = if raw.is_null() {
            Ok(Value::Null)
        } else {
            match kind.name() {
                "INT8" => <i64 as Decode<Postgres>>::decode(raw).map(Value::Int),
                "INT4" => <i32 as Decode<Postgres>>::decode(raw).map(|n| Value::Int(n.into())),
                "BOOL" => <bool as Decode<Postgres>>::decode(raw).map(|b| Value::Int(b.into())),
                "BYTEA" => <Vec<u8> as Decode<Postgres>>::decode(raw).map(Value::Blob),
                _ => <String as Decode<Postgres>>::decode(raw).map(Value::Text),
            }
        };
        values.push(decoded.map_err(|source| fault(row.column(column).name(), source))?);
    }
    Ok(Row { values, next: 0 })
}

fn fault(column: &str, source: sqlx::error::BoxDynError) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source }
}
