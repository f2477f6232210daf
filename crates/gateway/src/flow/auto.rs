//! Choosing between a small and a large model.

use futures::StreamExt;

use super::account::Account;
use super::route::AutoWays;
use super::{Answered, Scope};
use crate::error::ApiError;
use crate::reply::{Noted, Part, Reply};

impl Scope {
    pub(super) async fn auto(&mut self, ways: AutoWays, account: &mut Account) -> Result<Answered, ApiError> {
        let AutoWays { small, large } = ways;
        let cascade = self.live.routes.auto.as_ref().and_then(|auto| auto.cascade);
        if large.is_empty() {
            account.decided("route", "small: the policy keeps it here");
            return self.first_of(&small, account).await;
        }
        let Some(least) = cascade.filter(|_| !small.is_empty()) else {
            account.decided("route", "large: there is no router and no cascade");
            return self.first_of(&large, account).await;
        };
        self.judged = true;
        match self.first_of(&small, account).await {
            Ok(answered) => {
                let (answered, noted) = gather(answered).await?;
                let confidence = confidence(&noted);
                account.decided("confidence", confidence);
                if confidence >= least {
                    account.decided("route", format!("small: confidence {confidence:.3} of at least {least}"));
                    return Ok(answered);
                }
                account
                    .decided("route", format!("large: the small model's confidence {confidence:.3} is under {least}"));
                account.spent(noted.tokens(), noted.finish);
                self.first_of(&large, account).await
            }
            Err(error) if error.another_may_answer() => {
                account.decided("route", "large: the small model has no answer");
                self.first_of(&large, account).await
            }
            Err(error) => Err(error),
        }
    }
}

/// How sure the model is of its answer: the geometric mean of its tokens' probabilities. An answer that was cut, or whose tokens' probabilities are not
/// known, inspires none.
fn confidence(noted: &Noted) -> f64 {
    match noted.logprob {
        Some((sum, tokens)) if tokens > 0 && noted.finish.as_deref() != Some("length") => (sum / tokens as f64).exp(),
        _ => 0.0,
    }
}

/// The whole of an answer, to be judged before anybody sees it.
async fn gather(answered: Answered) -> Result<(Answered, Noted), ApiError> {
    let Answered { reply, api, by, pseudonyms } = answered;
    let (reply, noted) = match reply {
        Reply::Whole { body, noted } => (Reply::Whole { body, noted: noted.clone() }, noted),
        Reply::Upstream(body) => (Reply::Upstream(body), Noted::default()),
        Reply::Stream(mut parts) => {
            let (mut all, mut noted) = (Vec::new(), Noted::default());
            while let Some(part) = parts.next().await {
                let part = part?;
                if let Part::Noted(so_far) = &part {
                    noted = so_far.clone();
                }
                all.push(Ok(part));
            }
            (Reply::Stream(futures::stream::iter(all).boxed()), noted)
        }
    };
    Ok((Answered { reply, api, by, pseudonyms }, noted))
}
