use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::SecretRef;
use super::tree::Notes;

/// How LiteLLM refers to the environment.
const REFERENCE: &str = "os.environ/";

/// References to secrets. One that stands in the file gets the name of a variable and is forgotten.
#[derive(Default)]
pub(super) struct Secrets {
    /// Variables that stand for literal secrets.
    named: HashMap<String, String>,
}

/// The environment variable that a value refers to.
pub(super) fn variable(value: &str) -> Option<&str> {
    value.strip_prefix(REFERENCE).map(str::trim).filter(|name| !name.is_empty())
}

impl Secrets {
    /// A reference to what `value` is or refers to; `name` is for a variable that has none yet.
    pub(super) fn reference(&mut self, key: &str, value: &str, name: &str, notes: &mut Notes) -> SecretRef {
        if let Some(variable) = variable(value) {
            return env(variable);
        }
        if let Some(variable) = self.named.get(value) {
            return env(variable);
        }
        let mut variable = name.to_owned();
        let mut count = 1;
        while self.named.values().any(|taken| *taken == variable) {
            count += 1;
            variable.clear();
            // Writing to a string cannot fail.
            let _ = write!(variable, "{name}_{count}");
        }
        notes.add(
            key,
            format!("a secret stands in the file and is not copied: put it into the environment as {variable}"),
        );
        self.named.insert(value.to_owned(), variable.clone());
        env(&variable)
    }
}

pub(super) fn env(variable: &str) -> SecretRef {
    SecretRef { env: Some(variable.to_owned()), file: None }
}

/// A name for an environment variable: `fake-openai` becomes `FAKE_OPENAI`.
pub(super) fn shouted(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
