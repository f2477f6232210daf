//! Many rows with few statements: in SQLite in pieces of 64, 16, 4 and 1 row, each prepared once, or all in one text where there are
//! few rows, because each text costs a trip to SQLite's thread; in Postgres as one array per column.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, PgConnection, SqliteConnection};

use super::schema::{OPEN, Table, Type};
use super::value::{Value, bind_sqlite};

/// Rows of one table, one value after another.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) table: &'static Table,
    pub(crate) values: Vec<Value>,
}

impl Rows {
    pub(crate) const fn new(table: &'static Table) -> Self {
        Self { table, values: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = Value>) {
        self.values.extend(row);
        debug_assert_eq!(self.values.len() % self.table.columns.len(), 0, "a row of {}", self.table.name);
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.table.columns.len()
    }
}

/// One statement of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Insert(Rows),
    /// `DELETE FROM open WHERE id = ?` for each.
    Close(Vec<uuid::Uuid>),
    /// Any statement, with `?` or `$1` for parameters.
    Run(&'static str, Vec<Value>),
}

/// The same changes with fewer statements: rows of a table become one step, and what is opened and then closed never comes into `open`. Only
/// for steps of which none is a `Run`, whose place among the others counts.
pub(crate) fn merge(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let (mut inserts, mut closed, mut runs) = (Vec::<Rows>::new(), Vec::new(), Vec::new());
    let mut open = Vec::<(uuid::Uuid, Vec<Value>)>::new();
    for step in steps {
        match step {
            Step::Insert(rows) if rows.table.name == OPEN.name => {
                for row in rows.values.chunks_exact(OPEN.columns.len()) {
                    if let Value::Blob(id) = &row[0] {
                        open.push((uuid::Uuid::from_slice(id).unwrap_or_default(), row.to_vec()));
                    }
                }
            }
            Step::Insert(rows) => match inserts.iter_mut().find(|found| found.table.name == rows.table.name) {
                Some(found) => found.values.extend(rows.values),
                None => inserts.push(rows),
            },
            Step::Close(ids) => {
                let ids: HashSet<uuid::Uuid> = ids.into_iter().collect();
                let before: HashSet<uuid::Uuid> = open.iter().map(|(id, _)| *id).collect();
                open.retain(|(id, _)| !ids.contains(id));
                closed.extend(ids.difference(&before));
            }
            run @ Step::Run(..) => runs.push(run),
        }
    }
    let closed = (!closed.is_empty()).then_some(Step::Close(closed));
    let open = Rows { table: &OPEN, values: open.into_iter().flat_map(|(_, row)| row).collect() };
    // What was there before is closed before it may be opened again.
    let inserts = inserts.into_iter().chain([open]).filter(|rows| rows.count() > 0).map(Step::Insert);
    runs.into_iter().chain(closed).chain(inserts).collect()
}

/// Rows that go into one text with everything else.
const TOGETHER: usize = 12;
const PIECES: [usize; 4] = [64, 16, 4, 1];

/// Texts of statements for SQLite.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    inserts: HashMap<(&'static str, usize), Arc<str>>,
    closes: HashMap<usize, Arc<str>>,
}

impl Texts {
    fn insert(&mut self, table: &'static Table, rows: usize) -> Arc<str> {
        let make = || {
            let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            let row = format!("({})", vec!["?"; names.len()].join(","));
            let rows = vec![row.as_str(); rows].join(",");
            format!("INSERT INTO {} ({}) VALUES {rows} {}", table.name, names.join(","), table.conflict).into()
        };
        Arc::clone(self.inserts.entry((table.name, rows)).or_insert_with(make))
    }

    fn close(&mut self, rows: usize) -> Arc<str> {
        let make = || format!("DELETE FROM open WHERE id IN ({})", vec!["?"; rows].join(",")).into();
        Arc::clone(self.closes.entry(rows).or_insert_with(make))
    }
}

/// Runs the steps in one transaction.
///
/// # Errors
/// When one of them fails; none has an effect then.
pub(crate) async fn sqlite(
    connection: &mut SqliteConnection,
    texts: &mut Texts,
    steps: &[Step],
) -> Result<(), sqlx::Error> {
    let count = |step: &Step| match step {
        Step::Insert(rows) => rows.count(),
        Step::Close(ids) => ids.len(),
        // Its parameters have numbers, which would count from the first of the whole text.
        Step::Run(..) => TOGETHER + 1,
    };
    let together = steps.iter().map(count).sum::<usize>() <= TOGETHER;
    let mut run = Run { connection, text: String::new(), args: SqliteArguments::default(), together };
    let outcome = run.steps(texts, steps).await;
    if outcome.is_err() {
        // Where the fault has already ended the transaction, this says so and nothing is amiss.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *run.connection).await;
    }
    outcome
}

struct Run<'a> {
    connection: &'a mut SqliteConnection,
    text: String,
    args: SqliteArguments,
    together: bool,
}

impl Run<'_> {
    async fn steps(&mut self, texts: &mut Texts, steps: &[Step]) -> Result<(), sqlx::Error> {
        self.piece("BEGIN IMMEDIATE", &mut std::iter::empty()).await?;
        for step in steps {
            match step {
                Step::Insert(rows) => {
                    let (width, mut left) = (rows.table.columns.len(), rows.count());
                    let mut values = rows.values.iter().cloned();
                    for size in PIECES {
                        while left >= size {
                            self.piece(&texts.insert(rows.table, size), &mut values.by_ref().take(size * width))
                                .await?;
                            left -= size;
                        }
                    }
                }
                Step::Close(ids) => {
                    let mut left = ids.len();
                    let mut values = ids.iter().map(|id| Value::blob(id.as_bytes()));
                    for size in PIECES {
                        while left >= size {
                            self.piece(&texts.close(size), &mut values.by_ref().take(size)).await?;
                            left -= size;
                        }
                    }
                }
                Step::Run(sql, args) => self.piece(sql, &mut args.iter().cloned()).await?,
            }
        }
        if !self.together {
            return self.piece("COMMIT", &mut std::iter::empty()).await;
        }
        self.text.push_str("COMMIT");
        let (text, args) = (std::mem::take(&mut self.text), std::mem::take(&mut self.args));
        sqlx::query_with(AssertSqlSafe(text), args).execute(&mut *self.connection).await?;
        Ok(())
    }

    async fn piece(&mut self, text: &str, values: &mut (dyn Iterator<Item = Value> + Send)) -> Result<(), sqlx::Error> {
        for value in values {
            bind_sqlite(&mut self.args, value)?;
        }
        if self.together {
            self.text.push_str(text);
            self.text.push(';');
            return Ok(());
        }
        let args = std::mem::take(&mut self.args);
        let text: Arc<str> = text.into();
        sqlx::query_with(AssertSqlSafe(text), args).execute(&mut *self.connection).await?;
        Ok(())
    }
}

/// Inserts rows into Postgres, in their order.
///
/// # Errors
/// When the database refuses them.
pub(crate) async fn postgres(connection: &mut PgConnection, rows: Rows) -> Result<u64, sqlx::Error> {
    let (text, args) = postgres_insert(rows, "")?;
    Ok(sqlx::query_with(AssertSqlSafe(text), args).execute(connection).await?.rows_affected())
}

/// As [`postgres`], giving what the rows have become.
pub(crate) async fn postgres_returning(
    connection: &mut PgConnection,
    rows: Rows,
    returning: &'static str,
) -> Result<Vec<super::Row>, sqlx::Error> {
    let (text, args) = postgres_insert(rows, returning)?;
    let rows = sqlx::query_with(AssertSqlSafe(text), args).fetch_all(connection).await?;
    rows.iter().map(super::value::of_postgres).collect()
}

fn postgres_insert(rows: Rows, returning: &str) -> Result<(String, PgArguments), sqlx::Error> {
    let columns = rows.table.columns;
    let count = rows.count();
    let mut args = PgArguments::default();
    let mut arrays = Vec::with_capacity(columns.len());
    let mut names = Vec::with_capacity(columns.len());
    let mut by_column: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(count)).collect();
    for (place, value) in rows.values.into_iter().enumerate() {
        by_column[place % columns.len()].push(value);
    }
    for (place, ((name, kind), values)) in columns.iter().zip(by_column).enumerate() {
        names.push(*name);
        let kind_name = match kind {
            Type::Int => {
                let array: Vec<Option<i64>> =
                    values.into_iter().map(|v| if let Value::Int(n) = v { Some(n) } else { None }).collect();
                args.add(array).map_err(sqlx::Error::Encode)?;
                "BIGINT"
            }
            Type::Text => {
                let array: Vec<Option<String>> =
                    values.into_iter().map(|v| if let Value::Text(t) = v { Some(t) } else { None }).collect();
                args.add(array).map_err(sqlx::Error::Encode)?;
                "TEXT"
            }
            Type::Blob => {
                let array: Vec<Option<Vec<u8>>> =
                    values.into_iter().map(|v| if let Value::Blob(b) = v { Some(b) } else { None }).collect();
                args.add(array).map_err(sqlx::Error::Encode)?;
                "BYTEA"
            }
        };
        arrays.push(format!("${}::{kind_name}[]", place + 1));
    }
    let (names, arrays) = (names.join(","), arrays.join(","));
    let Table { name, conflict, .. } = rows.table;
    Ok((format!("INSERT INTO {name} ({names}) SELECT * FROM UNNEST({arrays}) {conflict} {returning}"), args))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opened and closed leaves nothing; closed and opened again is open; what stood before is closed.
    #[test]
    fn what_is_opened_and_closed_in_between_is_as_it_was_left() {
        let id = uuid::Uuid::from_u128;
        let open = |n: u128| {
            let mut row = vec![Value::Null; OPEN.columns.len()];
            row[0] = Value::blob(id(n).as_bytes());
            Step::Insert(Rows { table: &OPEN, values: row })
        };
        let close = |n: u128| Step::Close(vec![id(n)]);
        let steps = [open(1), open(2), close(1), close(3), open(1), open(4), close(4), close(5), open(5)];
        let merged = merge(steps);
        let [Step::Close(closed), Step::Insert(rows)] = merged.as_slice() else { panic!("{merged:?}") };
        assert_eq!(closed, &[id(3), id(5)]);
        let ids = |n: usize| &rows.values[n * OPEN.columns.len()];
        assert_eq!(rows.count(), 3);
        assert_eq!([ids(0), ids(1), ids(2)], [2, 1, 5].map(|n| Value::blob(id(n).as_bytes())).each_ref());
    }
}
