//! Choosing between a small and a large model: by what the router expects before anybody has answered, and by how sure the small model's answer is.

use bantam_engine::TooLong;
use bantam_router::{Choice, Decision};

use super::account::Account;
use super::gather::{asks_for_logprobs, gather};
use super::prompt::prompt_of;
use super::route::AutoWays;
use super::{Answered, Scope};
use crate::error::ApiError;
use crate::live::{Difficulty, Step};
use crate::metrics::Side;

/// What decides whether the small model's answer stands.
enum Bar {
    /// Its tokens' mean probability, against the configuration's.
    Confidence(f64),
    /// The router's judgement of it.
    Review(Decision),
}

impl Scope {
    pub(super) async fn auto(&mut self, ways: AutoWays, account: &mut Account) -> Result<Answered, ApiError> {
        let AutoWays { small, large } = ways;
        let auto = self.live.routes.auto.clone();
        let difficulty = auto.as_ref().and_then(|auto| auto.difficulty.clone());
        if large.is_empty() {
            account.chose(Side::Small, "the policy keeps it here");
            return self.first_of(&small, account).await;
        }
        if small.is_empty() {
            account.chose(Side::Large, "the small model may not be asked");
            return self.first_of(&large, account).await;
        }
        let decision = match &difficulty {
            Some(difficulty) => match self.difficulty(difficulty).await {
                Ok(decision) => Some(decision),
                Err(error) => {
                    account.chose(Side::Large, format_args!("the router failed: {error}"));
                    return self.first_of(&large, account).await;
                }
            },
            None => None,
        };
        if let Some(decision) = &decision {
            account.decided("router", serde_json::to_value(decision).unwrap_or_default());
            if decision.choose == Choice::Large {
                account.chose(Side::Large, "the router expects it to gain enough");
                return self.first_of(&large, account).await;
            }
        }
        let reviews = difficulty.as_ref().is_some_and(|d| d.router.cascade().is_some());
        let bar = match (auto.and_then(|auto| auto.cascade), decision) {
            (Some(_), _) if small.iter().all(|s| matches!(s, Step::Upstream(_))) && !asks_for_logprobs(&self.asked) => {
                // Its answer would be paid for and could not be taken.
                let why = "large: nothing would tell how sure the small model is, which is elsewhere; ask for log-probabilities";
                account.decided("route", why);
                return self.first_of(&large, account).await;
            }
            (Some(least), _) => Bar::Confidence(least),
            (None, Some(decision)) if reviews => Bar::Review(decision),
            (None, Some(_)) => {
                account.chose(Side::Small, "the router expects the large model to gain little");
                return match self.first_of(&small, account).await {
                    Err(error) if error.another_may_answer() => self.first_of(&large, account).await,
                    answered => answered,
                };
            }
            (None, None) => {
                account.chose(Side::Large, "there is no router and no cascade");
                return self.first_of(&large, account).await;
            }
        };
        self.judged = true;
        let answered = match self.first_of(&small, account).await {
            Ok(answered) => answered,
            Err(error) if error.another_may_answer() => {
                account.chose(Side::Escalated, "the small model has no answer");
                return self.first_of(&large, account).await;
            }
            Err(error) => return Err(error),
        };
        let asked = std::sync::Arc::clone(&self.asked);
        let gathered = self.bounds.run(gather(&asked, answered, account)).await.and_then(|gathered| gathered);
        let small = match gathered {
            Ok(gathered) => gathered,
            Err(error) if error.another_may_answer() => {
                account.decided("route", "large: the small model's answer broke off");
                account.broke_off(Some(error.code()));
                return self.first_of(&large, account).await;
            }
            Err(error) => return Err(error),
        };
        let (stands, why) = match (&bar, &difficulty) {
            (Bar::Review(before), Some(difficulty)) => match difficulty.router.review(before, &small.shown()) {
                Some(review) => (
                    !review.escalate,
                    format!("it is right with probability {:.3}, gain {:.3}", review.p_right, review.gain),
                ),
                None => (true, "there is no cascade".to_owned()),
            },
            (Bar::Confidence(least), _) => match small.confidence() {
                Some(confidence) => {
                    account.decided("confidence", confidence);
                    (confidence >= *least, format!("its confidence is {confidence:.3}, {least} is asked"))
                }
                None => (false, "its confidence is not known: its server told no log-probabilities".to_owned()),
            },
            (Bar::Review(_), None) => (false, "there is no router".to_owned()),
        };
        if stands {
            account.chose(Side::Small, why);
            return Ok(small.answered);
        }
        account.chose(Side::Escalated, format_args!("the small model answered, and {why}"));
        account.spent(small.tokens, small.finish);
        self.first_of(&large, account).await
    }

    /// What the router expects of the two models.
    async fn difficulty(&mut self, difficulty: &Difficulty) -> Result<Decision, ApiError> {
        let prompt = prompt_of(&self.asked.body, self.asked.api)?;
        let (encoder, router) = (&difficulty.encoder, &difficulty.router);
        let text = prompt.what_to_embed(router.encoder().tokens);
        let ids = router.encoder().cut(encoder.embedder.tokens(&text, TooLong::Cut)?);
        let context = encoder.embedder.context_length();
        let handle = encoder.embedder.embed(vec![ids]).map_err(|e| ApiError::submit(e, "messages", context))?;
        let vectors = self.bounds.run(handle.wait()).await??;
        let vector = vectors.rows().next().unwrap_or_default();
        router.decide(&prompt, vector).map_err(|e| ApiError::internal(&e))
    }
}
