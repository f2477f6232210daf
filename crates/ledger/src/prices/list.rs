use std::collections::HashMap;

use super::parse::{Listed, parse};
use super::{Price, PriceError, Unpriced};

/// LiteLLM's names of providers that have another one here.
const OTHER_NAMES: [(&str, &str); 2] = [("together", "together_ai"), ("fireworks", "fireworks_ai")];

/// Prices by model.
#[derive(Clone, Debug, Default)]
pub struct PriceList {
    date: Option<String>,
    /// By name in lower case, with the name as listed.
    models: HashMap<String, (String, Listed)>,
}

impl PriceList {
    /// Reads a list in the format of LiteLLM's `model_prices_and_context_window.json`. Unknown keys are let pass.
    ///
    /// # Errors
    /// If it is too long, no JSON of that shape, or a value cannot be: negative, not a number, of the wrong type, or beyond belief.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let parsed = parse(text)?;
        let models = parsed.models.into_iter().map(|(name, price)| (name.to_lowercase(), (name, price))).collect();
        Ok(Self { date: parsed.date, models })
    }

    /// The list that is compiled in: well-known models, at the prices of [`PriceList::date`].
    ///
    /// # Errors
    /// When it is broken, which a test rules out.
    pub fn builtin() -> Result<Self, PriceError> {
        Self::parse(include_str!("builtin.json"))
    }

    /// This list with `other` on top: models of the same name are replaced.
    #[must_use]
    pub fn overlay(mut self, other: Self) -> Self {
        self.models.extend(other.models);
        Self { date: other.date.or(self.date), models: self.models }
    }

    /// Sets one model's price, which may be nothing: whoever calls this means it.
    pub fn insert(&mut self, model: &str, price: Price) {
        self.models.insert(model.to_lowercase(), (model.to_owned(), Listed::Priced(Box::new(price))));
    }

    /// When the prices were read, where the list says so.
    #[must_use]
    pub fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// How many models it has, those without a price by tokens included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The price of a model at a provider, in LiteLLM's way of naming: `gpt-4o` at `azure` is `azure/gpt-4o`, and where no provider is
    /// given a name may begin with one. A name without its date (`-2024-08-06`, `-20250929`, `-001`) and the base of a fine-tuned model
    /// (`ft:...`) stand for what is not listed itself. A bare name counts only if it is that provider's.
    ///
    /// # Errors
    /// [`Unpriced`], if no name fits, or the one that fits has no price for tokens.
    pub fn find(&self, provider: Option<&str>, model: &str) -> Result<&Price, Unpriced> {
        let (provider, bare) = match (provider, model.split_once('/')) {
            (Some(provider), _) => {
                (Some(provider), model.strip_prefix(provider).and_then(|m| m.strip_prefix('/')).unwrap_or(model))
            }
            (None, Some((provider, bare))) => (Some(provider), bare),
            (None, None) => (None, model),
        };
        let provider =
            provider.map(|p| OTHER_NAMES.iter().find(|(ours, _)| *ours == p).map_or(p, |(_, theirs)| theirs));
        for name in [Some(bare), undated(bare), base_of_tuned(bare), base_of_tuned(bare).and_then(undated)]
            .into_iter()
            .flatten()
        {
            let at_provider = provider.and_then(|p| self.models.get(&format!("{p}/{name}").to_lowercase()));
            let anywhere = || self.models.get(&name.to_lowercase()).filter(|(_, price)| is_at(price, provider));
            if let Some((listed, price)) = at_provider.or_else(anywhere) {
                return match price {
                    Listed::Priced(price) => Ok(price),
                    Listed::NotByToken => Err(Unpriced::NotByToken { model: listed.clone() }),
                    Listed::Zero => Err(Unpriced::Zero { model: listed.clone() }),
                };
            }
        }
        let named =
            provider.filter(|p| !model.starts_with(*p)).map_or_else(|| model.to_owned(), |p| format!("{p}/{model}"));
        Err(Unpriced::Unknown { model: named })
    }
}

/// Whether a price is this provider's, whose name may stand with an addition: `vertex_ai-language-models`, `text-completion-openai`.
fn is_at(listed: &Listed, provider: Option<&str>) -> bool {
    let asked = match listed {
        Listed::Priced(price) => price.provider.as_deref(),
        Listed::NotByToken | Listed::Zero => None,
    };
    let (Some(provider), Some(listed)) = (provider, asked) else { return true };
    let rest = listed.strip_prefix(provider);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
        || listed.ends_with(&format!("-{provider}"))
}

/// A name without the date or version at its end.
fn undated(name: &str) -> Option<&str> {
    let ends_in = |pattern: &str| {
        let start = name.len().checked_sub(pattern.len())?;
        let tail = name.as_bytes().get(start..)?;
        let fits = |(byte, wanted): (&u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { *byte == wanted };
        (start > 0 && tail.iter().zip(pattern.bytes()).all(fits)).then(|| &name[..start])
    };
    ["-0000-00-00", "-00000000", "@00000000", "-000"].iter().find_map(|pattern| ends_in(pattern))
}

/// `ft:gpt-4o:organisation:suffix:id` without its last three parts.
fn base_of_tuned(name: &str) -> Option<&str> {
    name.starts_with("ft:").then(|| name.rsplitn(4, ':').nth(3)).flatten().filter(|base| base.len() > 3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TokenCounts;

    fn list() -> PriceList {
        PriceList::parse(
            r#"{
            "sample_spec": {"max_input_tokens": "as the provider says", "input_cost_per_token": "none"},
            "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6, "output_cost_per_token": 1e-5},
            "azure/gpt-4o": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 3e-6, "output_cost_per_token": 1e-5},
            "ft:gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 4e-6, "output_cost_per_token": 1e-5},
            "gemini/gemini-flash": {"litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5},
            "Qwen/Qwen2": {"litellm_provider": "together_ai", "mode": "chat", "input_cost_per_token": 5e-6, "output_cost_per_token": 1e-5},
            "text-bison": {"litellm_provider": "vertex_ai-text-models", "mode": "chat", "input_cost_per_token": 6e-6, "output_cost_per_token": 1e-5},
            "dall-e": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
            "ollama/llama3": {"litellm_provider": "ollama", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
        }"#,
        )
        .unwrap()
    }

    fn input_price(provider: Option<&str>, model: &str) -> Option<u64> {
        let list = list();
        let price = list.find(provider, model).ok()?;
        Some(price.cost(&TokenCounts { input: 1, ..TokenCounts::default() }).0 as u64)
    }

    #[test]
    fn names_are_found_as_litellm_finds_them() {
        for (provider, model, nanos) in [
            (None, "gpt-4o", Some(2500)),
            (None, "GPT-4o", Some(2500)),
            (None, "openai/gpt-4o", Some(2500)),
            (Some("openai"), "gpt-4o", Some(2500)),
            (Some("openai"), "gpt-4o-2027-01-31", Some(2500)),
            (Some("openai"), "gpt-4o-20270131", Some(2500)),
            (Some("azure"), "gpt-4o", Some(3000)),
            (None, "azure/gpt-4o-2024-08-06", Some(3000)),
            (None, "ft:gpt-4o:me:name:id7", Some(4000)),
            (None, "ft:gpt-4o-2024-08-06:me::id7", Some(4000)),
            (Some("gemini"), "gemini-flash-001", Some(1000)),
            (Some("together"), "Qwen/Qwen2", Some(5000)),
            (Some("vertex_ai"), "text-bison@20240501", Some(6000)),
            // Another provider's price is not this one's.
            (Some("groq"), "gpt-4o", None),
            (None, "groq/gpt-4o", None),
            (None, "gpt-4o-mini", None),
            (None, "ft:", None),
            (None, "", None),
            (None, "-2024-08-06", None),
        ] {
            assert_eq!(input_price(provider, model), nanos, "{provider:?} {model}");
        }
    }

    #[test]
    fn what_has_no_price_is_not_free() {
        let mut list = list();
        let found = |list: &PriceList, model: &str| list.find(None, model).map(|_| ()).unwrap_err();
        assert_eq!(found(&list, "nobody/knows"), Unpriced::Unknown { model: "nobody/knows".into() });
        assert_eq!(found(&list, "openai/dall-e"), Unpriced::NotByToken { model: "dall-e".into() });
        assert_eq!(found(&list, "ollama/llama3"), Unpriced::Zero { model: "ollama/llama3".into() });
        list.insert("ollama/llama3", Price::per_million("ollama/llama3", 0.0, 0.0).unwrap());
        assert!(list.find(Some("ollama"), "llama3").is_ok());
    }

    #[test]
    fn an_overlay_wins() {
        let over =
            PriceList::parse(r#"{"gpt-4o": {"input_cost_per_token": 1e-6, "output_cost_per_token": 0}}"#).unwrap();
        let both = list().overlay(over);
        assert_eq!(both.find(None, "gpt-4o").unwrap().estimate(1000, 1000).0, 1_000_000);
        assert_eq!(both.len(), list().len());
    }

    #[test]
    fn the_builtin_list_prices_the_well_known() {
        let list = PriceList::builtin().unwrap();
        assert!(list.date().is_some_and(|date| undated(&format!("x-{date}")) == Some("x")));
        for (name, listed) in list.models.values() {
            let Listed::Priced(price) = listed else { panic!("{name} has no price") };
            assert!(price.source.is_some() && price.provider.is_some(), "{name}");
        }
        for (provider, model) in [
            ("openai", "gpt-4o-2024-08-06"),
            ("anthropic", "claude-sonnet-4-5-20250929"),
            ("gemini", "gemini-2.5-flash"),
            ("azure", "gpt-4o-mini"),
            ("fireworks", "accounts/fireworks/models/llama-v3p1-8b-instruct"),
        ] {
            assert!(list.find(Some(provider), model).is_ok(), "{provider}/{model}");
        }
    }
}
