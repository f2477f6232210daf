//! What may leave, and how.
//!
//! Rules are asked for each target, because some are about where a target is. Of the rules that apply the strictest decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bantam_pii::Detectors;

use crate::config::{Action, ConfigFileError, PolicyTable, RuleTable};

/// What is known of a request when it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    /// Types of what was found in it.
    pub(crate) entities: &'a BTreeSet<String>,
    /// Labels its client gave it.
    pub(crate) labels: &'a [String],
    /// The name of its key.
    pub(crate) key: Option<&'a str>,
    /// The model it asks for.
    pub(crate) model: &'a str,
}

/// What becomes of a request at a target, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision<'a> {
    pub(crate) action: Action,
    /// Nothing for the default.
    pub(crate) rule: Option<&'a str>,
}

/// The rules.
pub(crate) struct Policy {
    pub(crate) default: Action,
    pub(crate) dry_run: bool,
    pub(crate) timeout: Duration,
    pub(crate) on_failure: Action,
    pub(crate) min_score: f64,
    rules: Vec<RuleTable>,
}

impl Policy {
    pub(super) fn new(table: &PolicyTable) -> Result<Self, ConfigFileError> {
        let detectors = Detectors::default();
        let known = detectors.entities();
        for (i, rule) in table.rules.iter().enumerate() {
            let mut entities = rule.entities.iter().enumerate();
            if let Some((j, unknown)) = entities.find(|(_, e)| *e != "*" && !known.contains(e.as_str())) {
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                let why = format!("'{unknown}' is not recognised; there are *, {known}");
                return Err(ConfigFileError::field(format!("policy.rules[{i}].entities[{j}]"), why));
            }
        }
        Ok(Self {
            default: table.default,
            dry_run: table.dry_run,
            timeout: Duration::from_millis(table.detection_timeout_ms),
            on_failure: table.on_failure,
            min_score: table.min_score,
            rules: table.rules.clone(),
        })
    }

    /// Whether any rule must know what is in a request, or what leaves must be changed.
    pub(crate) fn needs_detection(&self) -> bool {
        self.default == Action::RedactThenAllow
            || self.rules.iter().any(|r| !r.entities.is_empty() || r.then == Action::RedactThenAllow)
    }

    /// What becomes of a request at a target with these attributes.
    pub(crate) fn judge(&self, sight: Sight<'_>, attributes: &BTreeMap<String, String>) -> Decision<'_> {
        let applying = self.rules.iter().filter(|rule| applies(rule, sight, attributes));
        let strictest = applying.max_by_key(|rule| strictness(rule.then));
        strictest.map_or(Decision { action: self.default, rule: None }, |rule| Decision {
            action: rule.then,
            rule: Some(&rule.name),
        })
    }

    /// The rule that refuses this request wherever it would go, here included.
    pub(crate) fn refuses(&self, sight: Sight<'_>) -> Option<&str> {
        let everywhere = |rule: &&RuleTable| {
            rule.then == Action::Refuse
                && rule.region_not.is_empty()
                && rule.contract_not.is_empty()
                && rule.retention_not.is_empty()
                && applies(rule, sight, &BTreeMap::new())
        };
        self.rules.iter().find(everywhere).map(|rule| &*rule.name)
    }
}

fn strictness(action: Action) -> u8 {
    match action {
        Action::Allow => 0,
        Action::RedactThenAllow => 1,
        Action::LocalOnly => 2,
        Action::Refuse => 3,
    }
}

fn applies(rule: &RuleTable, sight: Sight<'_>, attributes: &BTreeMap<String, String>) -> bool {
    let any = |wanted: &[String], has: &dyn Fn(&str) -> bool| wanted.is_empty() || wanted.iter().any(|w| has(w));
    // A target that does not say where it is, is not there.
    let elsewhere = |allowed: &[String], attribute: &str| {
        allowed.is_empty() || attributes.get(attribute).is_none_or(|value| !allowed.contains(value))
    };
    any(&rule.entities, &|e| if e == "*" { !sight.entities.is_empty() } else { sight.entities.contains(e) })
        && any(&rule.labels, &|l| sight.labels.iter().any(|label| label == l))
        && any(&rule.keys, &|k| sight.key == Some(k))
        && any(&rule.routes, &|r| sight.model == r)
        && elsewhere(&rule.region_not, "region")
        && elsewhere(&rule.contract_not, "contract")
        && elsewhere(&rule.retention_not, "retention")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(rules: &str) -> Policy {
        let table: PolicyTable = toml::from_str(rules).unwrap();
        Policy::new(&table).unwrap()
    }

    const SIGHT: Sight<'_> = Sight { entities: &BTreeSet::new(), labels: &[], key: None, model: "m" };

    fn found(entities: &[&str]) -> BTreeSet<String> {
        entities.iter().map(|e| (*e).to_owned()).collect()
    }

    #[test]
    fn the_strictest_rule_decides() {
        let policy = policy(
            "[[rules]]\nname = 'any'\nentities = ['*']\nthen = 'redact_then_allow'\n\
             [[rules]]\nname = 'cards'\nentities = ['CREDIT_CARD']\nthen = 'local_only'\n\
             [[rules]]\nname = 'secret'\nlabels = ['secret']\nthen = 'refuse'",
        );
        let nowhere = BTreeMap::new();
        let judge = |sight| policy.judge(sight, &nowhere);
        assert_eq!(judge(SIGHT), Decision { action: Action::Allow, rule: None });
        let mail = Sight { entities: &found(&["EMAIL_ADDRESS"]), ..SIGHT };
        assert_eq!(judge(mail), Decision { action: Action::RedactThenAllow, rule: Some("any") });
        let card = Sight { entities: &found(&["EMAIL_ADDRESS", "CREDIT_CARD"]), ..SIGHT };
        assert_eq!(judge(card), Decision { action: Action::LocalOnly, rule: Some("cards") });
        let labels = ["secret".to_owned()];
        let secret = Sight { labels: &labels, ..card };
        assert_eq!(judge(secret).action, Action::Refuse);
        assert_eq!(policy.refuses(secret), Some("secret"));
        assert_eq!(policy.refuses(card), None);
    }

    #[test]
    fn rules_about_targets_ask_where_they_are() {
        let policy = policy(
            "[[rules]]\nname = 'eu'\nentities = ['*']\nregion_not = ['eu']\nthen = 'local_only'\n\
             [[rules]]\nname = 'kept'\nretention_not = ['none']\nroutes = ['m']\nthen = 'refuse'",
        );
        let at = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mail = Sight { entities: &found(&["EMAIL_ADDRESS"]), model: "other", ..SIGHT };
        assert_eq!(policy.judge(mail, &at(&[("region", "eu")])).action, Action::Allow);
        assert_eq!(policy.judge(mail, &at(&[("region", "us")])).action, Action::LocalOnly);
        assert_eq!(policy.judge(mail, &at(&[])).action, Action::LocalOnly);
        assert_eq!(policy.judge(SIGHT, &at(&[("retention", "30d")])).action, Action::Refuse);
        assert_eq!(policy.refuses(SIGHT), None);
    }

    #[test]
    fn unknown_entities_are_refused_by_name() {
        let table: PolicyTable =
            toml::from_str("[[rules]]\nname = 'x'\nentities = ['CREDITCARD']\nthen = 'refuse'").unwrap();
        let error = Policy::new(&table).err().unwrap().to_string();
        assert!(error.contains("policy.rules[0].entities[0]") && error.contains("CREDIT_CARD"), "{error}");
    }
}
