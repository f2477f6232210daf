//! Looking for personal data and secrets in what is about to leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use bantam_pii::{DetectError, Detectors, OperatorError, Options, Pseudonyms};
use bantam_providers::wire::texts::{Kind, Part, for_each_text};
use serde_json::Value;

use super::Scope;
use super::account::Account;
use super::asked::Asked;
use crate::error::ApiError;

/// What was found in a request.
#[derive(Debug, Default)]
pub(super) struct Screened {
    /// Types of what was found.
    pub(super) entities: BTreeSet<String>,
    /// The request with pseudonyms, if they can stand for all that was found.
    pub(super) redacted: Option<Redacted>,
    /// It could not be looked through.
    pub(super) failed: bool,
}

/// A request with pseudonyms in place of what was found.
#[derive(Debug)]
pub(super) struct Redacted {
    pub(super) body: Value,
    pub(super) pseudonyms: Arc<Pseudonyms>,
}

impl Scope {
    /// Looks through the request, within the time the policy gives.
    pub(super) async fn screen(&self, account: &mut Account) -> Result<Screened, ApiError> {
        let policy = &self.live.policy;
        let (asked, detectors) = (Arc::clone(&self.asked), self.app.detectors.clone());
        let options = Options { threshold: policy.min_score as f32, ..Options::default() };
        let look = self.app.cpu_task(self.asked.bytes.len(), move || Ok(screen(&asked, &detectors, &options)));
        let why = match tokio::time::timeout(policy.timeout, look).await {
            Ok(Ok(Ok(screened))) => {
                let found: Vec<_> = screened.entities.iter().cloned().collect();
                account.decided("found", found);
                return Ok(screened);
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_) => format!("it took longer than {} ms", policy.timeout.as_millis()),
        };
        account.decided("detection_failed", why);
        Ok(Screened { failed: true, ..Screened::default() })
    }
}

fn screen(asked: &Asked, detectors: &Detectors, options: &Options) -> Result<Screened, DetectError> {
    let (mut body, mut pseudonyms) = (asked.body.clone(), Pseudonyms::new());
    let mut entities = BTreeSet::new();
    let mut failed = None;
    let mut fixed = false;
    for_each_text(&mut body, Part::Request(asked.api), &mut |place, text| {
        if failed.is_some() || text.is_empty() {
            return;
        }
        let looked = (|| {
            let findings = detectors.detect(text, options)?;
            entities.extend(findings.iter().map(|f| f.entity.to_string()));
            match place.kind {
                // These cannot be changed and be of use.
                Kind::SignedReasoning | Kind::Url => fixed |= !findings.is_empty(),
                _ => {
                    *text = pseudonyms.pseudonymise(text, &findings).map_err(|error: OperatorError| {
                        DetectError::Failed { detector: "pseudonyms".into(), why: error.to_string() }
                    })?;
                }
            }
            Ok(())
        })();
        failed = looked.err();
    });
    match failed {
        Some(error) => Err(error),
        None => {
            let redacted = (!fixed).then(|| Redacted { body, pseudonyms: Arc::new(pseudonyms) });
            Ok(Screened { entities, redacted, failed: false })
        }
    }
}
