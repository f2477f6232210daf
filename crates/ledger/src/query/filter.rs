//! Which requests.

use crate::content::Settled;
use crate::db::Value;
use crate::keys::KeyId;
use crate::time::Timestamp;

/// Requests that have all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// That arrived at this moment or later.
    pub from: Option<Timestamp>,
    /// That arrived before this moment.
    pub to: Option<Timestamp>,
    /// Of this key.
    pub key: Option<KeyId>,
    /// Of this route.
    pub route: Option<String>,
    /// Answered by this model.
    pub model: Option<String>,
    /// Answered by this provider.
    pub provider: Option<String>,
    /// That came in by this API.
    pub surface: Option<String>,
    /// Of this end user.
    pub subject: Option<String>,
    /// That ended this way.
    pub settled: Option<Settled>,
    /// With a status of this value or more, such as 400 for all that failed.
    pub status_from: Option<u16>,
}

/// A `WHERE` with its arguments.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    pub(super) text: String,
    pub(super) args: Vec<Value>,
}

impl Clauses {
    /// Adds a condition; a `$` at its end becomes the parameter.
    pub(super) fn add(&mut self, condition: &str, value: Value) {
        self.args.push(value);
        self.text.push_str(if self.text.is_empty() { "WHERE " } else { " AND " });
        self.text.push_str(condition);
        self.text.push_str(&self.args.len().to_string());
    }
}

impl Filter {
    pub(super) fn clauses(&self) -> Clauses {
        let mut clauses = Clauses::default();
        if let Some(from) = self.from {
            clauses.add("r.arrived >= $", Value::Int(from.0));
            // The day charged is never before the day of arrival, and has an index.
            clauses.add("r.day >= $", Value::Int(from.day()));
        }
        if let Some(to) = self.to {
            clauses.add("r.arrived < $", Value::Int(to.0));
        }
        if let Some(status) = self.status_from {
            clauses.add("r.status >= $", Value::Int(status.into()));
        }
        let texts = [
            ("r.key_id = $", self.key.as_ref().map(KeyId::as_str)),
            ("r.route = $", self.route.as_deref()),
            ("r.model = $", self.model.as_deref()),
            ("r.provider = $", self.provider.as_deref()),
            ("r.surface = $", self.surface.as_deref()),
            ("r.subject = $", self.subject.as_deref()),
            ("r.settled = $", self.settled.map(Settled::name)),
        ];
        for (condition, text) in texts {
            if let Some(text) = text {
                clauses.add(condition, Value::Text(text.replace('\0', "\u{fffd}")));
            }
        }
        clauses
    }
}
