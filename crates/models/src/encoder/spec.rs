//! What an encoder is, as data, and how a Hugging Face directory says it.

use std::path::Path;

use bantam_formats::safetensors::read_json_if_there;
use serde::Serialize;
use serde_json::Value;

use crate::error::ModelError;
use crate::hf::Config;

/// The whole description of a BERT-family encoder. All sizes are counts of elements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderSpec {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Longest sequence the model takes, its special tokens included.
    pub context_length: usize,
    /// Width of a token's vector, and of the text's.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub ffn_size: usize,
    /// Layers.
    pub n_layers: usize,
    /// Heads, each of `hidden_size / n_heads`.
    pub n_heads: usize,
    /// Epsilon of every LayerNorm.
    pub norm_eps: f32,
    /// How the vectors of tokens become that of the text.
    pub pooling: Pooling,
    /// Whether the text's vector is brought to length 1.
    pub normalize: bool,
}

/// How the vectors of tokens become that of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
}

/// Upper bounds on what a file may claim, as for decoders.
const MAX_LAYERS: usize = 256;
const MAX_WIDTH: usize = 1 << 16;
const MAX_VOCAB: usize = 1 << 22;

impl EncoderSpec {
    /// The `model_type` that is supported here.
    pub const MODEL_TYPE: &'static str = "bert";

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.n_heads
    }

    /// Reads `config.json` and, as sentence-transformers writes them, `modules.json`, the pooling's `config.json` and
    /// `sentence_bert_config.json`.
    pub(super) fn read(dir: &Path, config: &Value) -> Result<Self, ModelError> {
        let root = Config::root(config);
        check_family(root)?;
        let sentence = read_json_if_there(&dir.join("sentence_bert_config.json"))?;
        let sentence = Config::root(&sentence);
        let positions = root.size("max_position_embeddings")?;
        let (pooling, normalize) = modules(dir)?;
        let spec = EncoderSpec {
            vocab_size: root.size("vocab_size")?,
            context_length: sentence.optional_size("max_seq_length")?.unwrap_or(positions).min(positions),
            hidden_size: root.size("hidden_size")?,
            ffn_size: root.size("intermediate_size")?,
            n_layers: root.size("num_hidden_layers")?,
            n_heads: root.size("num_attention_heads")?,
            norm_eps: root.number("layer_norm_eps")? as f32,
            pooling,
            normalize,
        };
        spec.check(root)?;
        Ok(spec)
    }

    fn check(&self, root: Config<'_>) -> Result<(), ModelError> {
        let within = |key: &str, n: usize, max: usize| match n {
            n if (1..=max).contains(&n) => Ok(()),
            n => Err(root.invalid(key, &Value::from(n), &format!("must be from 1 to {max}"))),
        };
        within("vocab_size", self.vocab_size, MAX_VOCAB)?;
        within("hidden_size", self.hidden_size, MAX_WIDTH)?;
        within("intermediate_size", self.ffn_size, MAX_WIDTH)?;
        within("num_hidden_layers", self.n_layers, MAX_LAYERS)?;
        within("num_attention_heads", self.n_heads, self.hidden_size)?;
        within("max_position_embeddings", self.context_length, 1 << 20)?;
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            let why = format!("must be a multiple of num_attention_heads ({})", self.n_heads);
            return Err(root.invalid("hidden_size", &Value::from(self.hidden_size), &why));
        }
        if self.norm_eps.is_nan() || self.norm_eps <= 0.0 {
            return Err(root.invalid("layer_norm_eps", &Value::from(self.norm_eps), "must be above 0"));
        }
        Ok(())
    }
}

fn check_family(root: Config<'_>) -> Result<(), ModelError> {
    let found = root.required("model_type", root.optional_text("model_type")?)?;
    let supported = EncoderSpec::MODEL_TYPE;
    if found != supported {
        return Err(ModelError::UnsupportedArchitecture { found: found.to_owned(), supported: supported.to_owned() });
    }
    for (key, expected) in [("hidden_act", "gelu"), ("position_embedding_type", "absolute")] {
        if let Some(value) = root.get(key).filter(|value| *value != expected) {
            return Err(root.invalid(key, value, &format!("supported here: {expected}")));
        }
    }
    Ok(())
}

/// Pooling and normalisation; a plain BERT without them is pooled by its mean.
fn modules(dir: &Path) -> Result<(Pooling, bool), ModelError> {
    let modules = read_json_if_there(&dir.join("modules.json"))?;
    let (mut pooling, mut normalize) = (Pooling::Mean, false);
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next() {
            Some("Transformer") => {}
            Some("Pooling") => pooling = read_pooling(&dir.join("1_Pooling").join("config.json"))?,
            Some("Normalize") => normalize = true,
            _ => {
                let why = "supported here: Transformer, Pooling, Normalize".to_owned();
                return Err(ModelError::InvalidValue { key: "modules.json type".into(), value: kind.into(), why });
            }
        }
    }
    Ok((pooling, normalize))
}

fn read_pooling(path: &Path) -> Result<Pooling, ModelError> {
    let config = read_json_if_there(path)?;
    let modes: Vec<&str> =
        config.as_object().into_iter().flatten().filter(|(_, on)| **on == true).map(|(key, _)| &**key).collect();
    match modes[..] {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        _ => Err(ModelError::InvalidValue {
            key: "1_Pooling/config.json".into(),
            value: modes.join(", "),
            why: "one of pooling_mode_mean_tokens and pooling_mode_cls_token must be true, and no other".into(),
        }),
    }
}
