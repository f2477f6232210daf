//! Keys in memory.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::record::{KeyChange, KeyRecord, NewKey, Scope};
use super::secret::{KeyId, Secret, SecretHash, Shown, id_of, new_id};
use crate::content::{KeyEvent, name};
use crate::error::{AuthError, KeyError};
use crate::limits::{Amount, Limits};
use crate::time::Timestamp;

/// Secrets of a key that are kept: the newest, and those replaced whose grace has not ended.
const SECRETS: usize = 8;
const LIST_ITEMS: usize = 256;

/// All keys.
#[derive(Debug)]
pub(crate) struct Registry {
    pepper: Vec<u8>,
    keys: RwLock<HashMap<KeyId, Arc<KeyRecord>>>,
}

impl Registry {
    pub(crate) fn new(pepper: Vec<u8>) -> Self {
        Self { pepper, keys: RwLock::default() }
    }

    /// Replaces all keys by those of the database.
    pub(crate) fn load(&self, records: Vec<KeyRecord>) {
        let keys = records.into_iter().map(|record| (record.id.clone(), Arc::new(record))).collect();
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keys;
    }

    pub(crate) fn put(&self, record: Arc<KeyRecord>) {
        let mut keys = self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.insert(record.id.clone(), record);
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<Arc<KeyRecord>> {
        self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<KeyRecord>> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all: Vec<_> = keys.values().cloned().collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// Counts changes, so that those of another process are seen.
    pub(crate) fn revisions(&self) -> (u64, u64) {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (keys.len() as u64, keys.values().map(|key| key.revision).sum())
    }

    pub(crate) fn authenticate(&self, text: &str, now: Timestamp) -> Result<Arc<KeyRecord>, AuthError> {
        // The digest is computed for what is no key too, so that answers take equally long.
        let shown = Shown::new(&self.pepper, text);
        let record = id_of(text).and_then(|id| self.get(&KeyId::from(id))).ok_or(AuthError::Invalid)?;
        let matching =
            record.secrets.iter().fold(None, |found, stored| if shown.is(stored) { Some(stored) } else { found });
        let stored = matching.ok_or(AuthError::Invalid)?;
        if record.revoked.is_some() {
            return Err(AuthError::Revoked);
        }
        if stored.until.is_some_and(|until| until <= now) || !record.is_valid(now) {
            return Err(AuthError::Expired);
        }
        Ok(record)
    }

    /// A new key, not yet stored.
    pub(crate) fn create(&self, new: NewKey, now: Timestamp) -> Result<(KeyRecord, Secret), KeyError> {
        let mut id = new_id()?;
        while self.get(&id).is_some() {
            id = new_id()?;
        }
        let secret = Secret::new(&id)?;
        let scopes = if new.scopes.is_empty() { [Scope::Inference].into() } else { new.scopes };
        let record = KeyRecord {
            id,
            name: new.name,
            scopes,
            models: new.models,
            limits: new.limits,
            metadata: new.metadata,
            created: now,
            expires: new.expires,
            revoked: None,
            revision: 1,
            secrets: vec![self.stored(&secret)],
        };
        Ok((checked(record)?, secret))
    }

    /// A key after a change, not yet stored.
    pub(crate) fn changed(
        &self,
        id: &KeyId,
        step: &Step,
        now: Timestamp,
    ) -> Result<(KeyEvent, KeyRecord, Option<Secret>), KeyError> {
        let held = self.get(id).ok_or_else(|| KeyError::NoSuchKey { id: id.to_string() })?;
        if held.revoked.is_some() {
            return Err(KeyError::Revoked { id: id.clone() });
        }
        let mut record = KeyRecord::clone(&held);
        record.revision += 1;
        let (event, secret) = match step {
            Step::Update(change) => {
                let KeyChange { name, scopes, models, limits, expires, metadata } = change.clone();
                record.name = name.unwrap_or(record.name);
                record.scopes = scopes.unwrap_or(record.scopes);
                record.models = models.unwrap_or(record.models);
                record.limits = limits.unwrap_or(record.limits);
                record.expires = expires.unwrap_or(record.expires);
                record.metadata = metadata.unwrap_or(record.metadata);
                (KeyEvent::Updated, None)
            }
            Step::Rotate(grace) => {
                let until = now.plus(*grace);
                record.secrets.retain(|stored| stored.until.is_none_or(|until| until > now));
                for stored in &mut record.secrets {
                    stored.until = Some(stored.until.map_or(until, |earlier| earlier.min(until)));
                }
                let secret = Secret::new(id)?;
                record.secrets.insert(0, self.stored(&secret));
                record.secrets.truncate(SECRETS);
                (KeyEvent::Rotated, Some(secret))
            }
            Step::Revoke => {
                record.revoked = Some(now);
                (KeyEvent::Revoked, None)
            }
        };
        Ok((event, checked(record)?, secret))
    }

    fn stored(&self, secret: &Secret) -> SecretHash {
        SecretHash { hash: Shown::new(&self.pepper, secret.reveal()).hash(), until: None }
    }
}

/// A change of a key.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Update(KeyChange),
    Rotate(Duration),
    Revoke,
}

/// Whether limits can be kept.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), &'static str> {
    if limits.budgets.len() > 16 {
        return Err("at most 16 budgets");
    }
    let negative = |amount: Amount| matches!(amount, Amount::Money(money) if money.0 < 0);
    if limits.budgets.iter().any(|budget| negative(budget.amount)) {
        return Err("a budget cannot be negative");
    }
    Ok(())
}

fn checked(record: KeyRecord) -> Result<KeyRecord, KeyError> {
    let invalid = |field, why: &str| Err(KeyError::Invalid { field, why: why.to_owned() });
    let text = |t: &str| t.len() <= 256 && name(t) == t;
    if record.name.is_empty() || record.name.chars().count() > 100 || !text(&record.name) {
        return invalid("name", "give a name of 1 to 100 characters");
    }
    if record.scopes.is_empty() {
        return invalid("scopes", "give one at least: inference, reports or admin");
    }
    if record.models.len() > LIST_ITEMS || !record.models.iter().all(|model| text(model)) {
        return invalid("models", "at most 256 names of at most 256 bytes");
    }
    if record.metadata.len() > LIST_ITEMS || !record.metadata.iter().all(|(label, value)| text(label) && text(value)) {
        return invalid("metadata", "at most 256 labels, names and values of at most 256 bytes");
    }
    match check_limits(&record.limits) {
        Ok(()) => Ok(record),
        Err(why) => invalid("limits.budgets", why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (Registry, KeyId, String) {
        let registry = Registry::new(vec![1; 32]);
        let (record, secret) = registry.create(NewKey { name: "n".into(), ..NewKey::default() }, Timestamp(0)).unwrap();
        let id = record.id.clone();
        registry.put(Arc::new(record));
        (registry, id, secret.reveal().to_owned())
    }

    fn apply(registry: &Registry, id: &KeyId, step: &Step, now: i64) -> Option<String> {
        let (_, record, secret) = registry.changed(id, step, Timestamp(now)).unwrap();
        registry.put(Arc::new(record));
        secret.map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn only_the_whole_key_opens() {
        let (registry, id, secret) = registry();
        assert_eq!(registry.authenticate(&secret, Timestamp(1)).unwrap().id, id);
        let other = registry.create(NewKey { name: "o".into(), ..NewKey::default() }, Timestamp(0)).unwrap().1;
        let mixed = format!("sk-bantam-{id}-{}", other.reveal().rsplit_once('-').unwrap().1);
        let long = "x".repeat(1 << 16);
        for wrong in
            [other.reveal(), &mixed, &secret[..secret.len() - 1], "", "sk-bantam-", "Bearer", &long, "sk-bantam-ü-ü"]
        {
            assert_eq!(registry.authenticate(wrong, Timestamp(1)), Err(AuthError::Invalid), "{}", wrong.len());
        }
        let foreign = Registry::new(vec![2; 32]);
        foreign.put(registry.get(&id).unwrap());
        assert_eq!(foreign.authenticate(&secret, Timestamp(1)), Err(AuthError::Invalid));
    }

    #[test]
    fn a_replaced_secret_ends_with_its_grace() {
        let (registry, id, old) = registry();
        let new = apply(&registry, &id, &Step::Rotate(Duration::from_micros(10)), 100).unwrap();
        assert!(registry.authenticate(&old, Timestamp(109)).is_ok());
        assert_eq!(registry.authenticate(&old, Timestamp(110)), Err(AuthError::Expired));
        assert!(registry.authenticate(&new, Timestamp(110)).is_ok());
        // A second rotation does not lengthen the first one's grace.
        apply(&registry, &id, &Step::Rotate(Duration::from_secs(1)), 105).unwrap();
        assert_eq!(registry.authenticate(&old, Timestamp(110)), Err(AuthError::Expired));
    }

    #[test]
    fn expiry_and_revocation_are_told_to_the_owner_only() {
        let (registry, id, secret) = registry();
        apply(
            &registry,
            &id,
            &Step::Update(KeyChange { expires: Some(Some(Timestamp(50))), ..KeyChange::default() }),
            10,
        );
        assert!(registry.authenticate(&secret, Timestamp(49)).is_ok());
        assert_eq!(registry.authenticate(&secret, Timestamp(50)), Err(AuthError::Expired));
        apply(&registry, &id, &Step::Revoke, 20);
        assert_eq!(registry.authenticate(&secret, Timestamp(21)), Err(AuthError::Revoked));
        let again = registry.changed(&id, &Step::Revoke, Timestamp(22)).unwrap_err();
        assert!(matches!(again, KeyError::Revoked { .. }), "{again}");
    }

    #[test]
    fn fields_are_checked_by_name() {
        let registry = Registry::new(vec![1; 32]);
        let field = |new: NewKey| match registry.create(new, Timestamp(0)).unwrap_err() {
            KeyError::Invalid { field, .. } => field,
            other => panic!("{other}"),
        };
        let named = || NewKey { name: "n".into(), ..NewKey::default() };
        assert_eq!(field(NewKey::default()), "name");
        assert_eq!(field(NewKey { name: "a\0".into(), ..named() }), "name");
        assert_eq!(field(NewKey { models: ["m".repeat(300)].into(), ..named() }), "models");
        let budget: Limits = serde_json::from_str(r#"{"budgets":[{"period":"day","amount":{"money":-1}}]}"#).unwrap();
        assert_eq!(field(NewKey { limits: budget, ..named() }), "limits.budgets");
    }
}
