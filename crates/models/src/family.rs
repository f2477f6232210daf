//! The family table: what a model file leaves unsaid about its architecture.
//!
//! A file states sizes; that Gemma scales its embedding or that Qwen 2 has biases is known from the architecture's
//! name alone. One row per family holds those facts, the same for GGUF and Hugging Face files, and `Hyper::into_spec`
//! joins them with the stated sizes. A new family of the same shape is a new row; a family with a new kind of block
//! adds the block and a switch in [`ArchSpec`].

use serde::Serialize;

use crate::error::ModelError;
use crate::spec::{Activation, ArchSpec, Field, LayerSpec, RopeScaling, RopeSpec, limits};

/// A supported model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Family {
    /// Llama 1-3, SmolLM2, CodeLlama, Mistral and Nemo.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text.
    Gemma3,
    /// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini.
    Phi3,
}

impl Family {
    /// Every family that runs here.
    pub fn all() -> impl Iterator<Item = Family> {
        FAMILIES.iter().map(|rules| rules.family)
    }

    /// The name that GGUF files use.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.rules().gguf_architecture
    }

    pub(crate) fn rules(self) -> &'static FamilyRules {
        match self {
            Family::Llama => &LLAMA,
            Family::Qwen2 => &QWEN2,
            Family::Gemma2 => &GEMMA2,
            Family::Gemma3 => &GEMMA3,
            Family::Phi3 => &PHI3,
        }
    }
}

/// One row of the family table.
#[derive(Debug)]
pub(crate) struct FamilyRules {
    pub(crate) family: Family,
    /// `general.architecture` of GGUF files.
    pub(crate) gguf_architecture: &'static str,
    /// `model_type` values of Hugging Face configs, with the window that Transformers assumes when the config has none.
    pub(crate) hf_model_types: &'static [(&'static str, Option<usize>)],
    pub(crate) activation: Activation,
    pub(crate) qkv_bias: Presence,
    pub(crate) qk_norm: bool,
    pub(crate) post_norms: bool,
    /// The embedding is multiplied by the square root of its width.
    pub(crate) scaled_embedding: bool,
    /// Hugging Face stores `w` where the norm multiplies by `1 + w`; GGUF stores the sum.
    pub(crate) hf_norms_lack_one: bool,
    pub(crate) projections: Projections,
    /// GGUF reorders the rows of Q and K so that the two elements of a rotated pair are neighbours.
    pub(crate) gguf_pairs_are_neighbours: bool,
    /// The output head is tied when the config does not say.
    pub(crate) hf_tied_default: bool,
    pub(crate) default_rope_theta: f32,
    pub(crate) default_window: Option<usize>,
    pub(crate) default_pattern: WindowPattern,
    /// Base of the windowed layers' own unscaled rotary embedding; `None`: all layers share one.
    pub(crate) local_rope_theta: Option<f32>,
    pub(crate) attention_soft_cap: Option<f32>,
    pub(crate) logit_soft_cap: Option<f32>,
    /// The one size of the family, by layer count, whose attention scale comes from `hidden_size / n_heads` and not
    /// from the head dimension; GGUF files do not state the scale.
    pub(crate) n_layers_of_wide_scale: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Never,
    Optional,
    Always,
}

/// How a file stores Q, K, V and gate, up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projections {
    Separate,
    /// Q, K, V stacked in one matrix, gate and up in another.
    Fused,
}

/// Which layers are windowed when the model has a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WindowPattern {
    All,
    /// The last layer of every `period` sees everything.
    AllButEvery {
        period: usize,
    },
    /// As listed, one per layer.
    Listed(Vec<bool>),
}

impl WindowPattern {
    fn is_windowed(&self, layer: usize) -> bool {
        match self {
            WindowPattern::All => true,
            WindowPattern::AllButEvery { period } => layer % period + 1 < *period,
            WindowPattern::Listed(list) => list.get(layer).copied().unwrap_or(false),
        }
    }
}

/// The plain pre-norm SiLU decoder; other rows say how they differ.
const LLAMA: FamilyRules = FamilyRules {
    family: Family::Llama,
    gguf_architecture: "llama",
    hf_model_types: &[("llama", None), ("mistral", Some(4096))],
    activation: Activation::Silu,
    qkv_bias: Presence::Optional,
    qk_norm: false,
    post_norms: false,
    scaled_embedding: false,
    hf_norms_lack_one: false,
    projections: Projections::Separate,
    gguf_pairs_are_neighbours: true,
    hf_tied_default: false,
    default_rope_theta: 10_000.0,
    default_window: None,
    default_pattern: WindowPattern::All,
    local_rope_theta: None,
    attention_soft_cap: None,
    logit_soft_cap: None,
    n_layers_of_wide_scale: None,
};

const QWEN2: FamilyRules = FamilyRules {
    family: Family::Qwen2,
    gguf_architecture: "qwen2",
    hf_model_types: &[("qwen2", None)],
    qkv_bias: Presence::Always,
    gguf_pairs_are_neighbours: false,
    ..LLAMA
};

const GEMMA2: FamilyRules = FamilyRules {
    family: Family::Gemma2,
    gguf_architecture: "gemma2",
    hf_model_types: &[("gemma2", Some(4096))],
    activation: Activation::GeluTanh,
    qkv_bias: Presence::Never,
    post_norms: true,
    scaled_embedding: true,
    hf_norms_lack_one: true,
    gguf_pairs_are_neighbours: false,
    hf_tied_default: true,
    default_window: Some(4096),
    default_pattern: WindowPattern::AllButEvery { period: 2 },
    attention_soft_cap: Some(50.0),
    logit_soft_cap: Some(30.0),
    n_layers_of_wide_scale: Some(46),
    ..LLAMA
};

const GEMMA3: FamilyRules = FamilyRules {
    family: Family::Gemma3,
    gguf_architecture: "gemma3",
    hf_model_types: &[("gemma3_text", Some(4096))],
    qk_norm: true,
    default_rope_theta: 1_000_000.0,
    default_window: None,
    default_pattern: WindowPattern::AllButEvery { period: 6 },
    local_rope_theta: Some(10_000.0),
    attention_soft_cap: None,
    logit_soft_cap: None,
    n_layers_of_wide_scale: Some(62),
    ..GEMMA2
};

/// Where a file states a window, it is applied to every layer, as Transformers does; llama.cpp reads and ignores it.
const PHI3: FamilyRules = FamilyRules {
    family: Family::Phi3,
    gguf_architecture: "phi3",
    hf_model_types: &[("phi3", None)],
    qkv_bias: Presence::Never,
    projections: Projections::Fused,
    gguf_pairs_are_neighbours: false,
    ..LLAMA
};

const FAMILIES: [&FamilyRules; 5] = [&LLAMA, &QWEN2, &GEMMA2, &GEMMA3, &PHI3];

/// The row for a GGUF `general.architecture`.
pub(crate) fn by_gguf_architecture(name: &str) -> Result<&'static FamilyRules, ModelError> {
    FAMILIES.into_iter().find(|rules| rules.gguf_architecture == name).ok_or_else(|| {
        ModelError::UnsupportedArchitecture {
            found: name.to_owned(),
            supported: FAMILIES.map(|r| r.gguf_architecture).join(", "),
        }
    })
}

/// The row for a Hugging Face `model_type`, and the window Transformers assumes for it.
pub(crate) fn by_hf_model_type(name: &str) -> Result<(&'static FamilyRules, Option<usize>), ModelError> {
    let types = || {
        FAMILIES.iter().flat_map(|rules| rules.hf_model_types.iter().map(move |(ty, window)| (*rules, *ty, *window)))
    };
    types().find(|(_, ty, _)| *ty == name).map(|(rules, _, window)| (rules, window)).ok_or_else(|| {
        let supported = types().map(|(_, ty, _)| ty).collect::<Vec<_>>().join(", ");
        ModelError::UnsupportedArchitecture { found: name.to_owned(), supported }
    })
}

/// A setting that a file can state, switch off, or leave to the family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Setting<T> {
    Unsaid,
    Off,
    Value(T),
}

impl<T> Setting<T> {
    fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Setting::Unsaid => default,
            Setting::Off => None,
            Setting::Value(v) => Some(v),
        }
    }
}

/// What a file states, in one vocabulary for both formats.
#[derive(Debug)]
pub(crate) struct Hyper {
    pub(crate) vocab_size: usize,
    pub(crate) context_length: usize,
    pub(crate) hidden_size: usize,
    pub(crate) ffn_size: usize,
    pub(crate) n_layers: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: Option<usize>,
    pub(crate) norm_eps: f32,
    pub(crate) rope_theta: f32,
    pub(crate) local_rope_theta: Option<f32>,
    pub(crate) rotary_dim: Option<usize>,
    pub(crate) rope_scaling: RopeScaling,
    pub(crate) window: Setting<usize>,
    pub(crate) pattern: Option<WindowPattern>,
    /// What `1 / sqrt` is taken of for the attention scale.
    pub(crate) attention_scale: AttentionScale,
    pub(crate) attention_soft_cap: Setting<f32>,
    pub(crate) logit_soft_cap: Setting<f32>,
    pub(crate) qkv_bias: bool,
    pub(crate) attention_output_bias: bool,
    pub(crate) tied_embeddings: bool,
}

/// How a file states the attention scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum AttentionScale {
    /// By the family's rule.
    Unsaid,
    /// The factor itself.
    Factor(f32),
    /// One over the square root of this.
    InverseRoot(f64),
}

impl Hyper {
    /// Joins the stated numbers with the family's facts and checks the result; `key` names a field as the file does.
    pub(crate) fn into_spec(
        self,
        rules: &'static FamilyRules,
        key: &dyn Fn(Field) -> String,
    ) -> Result<ArchSpec, ModelError> {
        let invalid = |field, value: String, why: String| ModelError::InvalidValue { key: key(field), value, why };
        if self.n_heads == 0 {
            return Err(invalid(Field::NHeads, "0".to_owned(), "must be at least 1".to_owned()));
        }
        if self.n_layers > limits::LAYERS {
            let why = format!("must be at most {}", limits::LAYERS);
            return Err(invalid(Field::NLayers, self.n_layers.to_string(), why));
        }
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None if self.hidden_size.is_multiple_of(self.n_heads) => self.hidden_size / self.n_heads,
            None => {
                let why = format!("must divide \"{}\", {}", key(Field::HiddenSize), self.hidden_size);
                return Err(invalid(Field::NHeads, self.n_heads.to_string(), why));
            }
        };
        let pattern = self.pattern.unwrap_or_else(|| rules.default_pattern.clone());
        match &pattern {
            WindowPattern::Listed(list) if list.len() != self.n_layers => {
                let why = format!("must have one entry for each of the {} layers", self.n_layers);
                return Err(invalid(Field::WindowPattern, format!("{} entries", list.len()), why));
            }
            WindowPattern::AllButEvery { period: 0 } => {
                return Err(invalid(Field::WindowPattern, "0".to_owned(), "must be at least 1".to_owned()));
            }
            _ => {}
        }
        let window = self.window.or(rules.default_window);
        let rotary_dim = self.rotary_dim.unwrap_or(head_dim);
        let mut ropes = vec![RopeSpec { theta: self.rope_theta, rotary_dim, scaling: self.rope_scaling }];
        let mut local_rope = 0;
        if let Some(default_theta) = rules.local_rope_theta {
            local_rope = ropes.len();
            let theta = self.local_rope_theta.unwrap_or(default_theta);
            ropes.push(RopeSpec { theta, rotary_dim, scaling: RopeScaling::None });
        }
        let layer_spec = |layer| match window {
            Some(window) if pattern.is_windowed(layer) => LayerSpec { window: Some(window), rope: local_rope },
            _ => LayerSpec { window: None, rope: 0 },
        };
        let inverse_root = |x: f64| (1.0 / x.sqrt()) as f32;
        let spec = ArchSpec {
            family: rules.family,
            vocab_size: self.vocab_size,
            context_length: self.context_length,
            hidden_size: self.hidden_size,
            ffn_size: self.ffn_size,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim,
            norm_eps: self.norm_eps,
            embedding_scale: if rules.scaled_embedding { (self.hidden_size as f32).sqrt() } else { 1.0 },
            attention_scale: match self.attention_scale {
                AttentionScale::Factor(factor) => factor,
                AttentionScale::InverseRoot(x) => inverse_root(x),
                AttentionScale::Unsaid if rules.n_layers_of_wide_scale == Some(self.n_layers) => {
                    inverse_root((self.hidden_size / self.n_heads) as f64)
                }
                AttentionScale::Unsaid => inverse_root(head_dim as f64),
            },
            attention_soft_cap: self.attention_soft_cap.or(rules.attention_soft_cap),
            logit_soft_cap: self.logit_soft_cap.or(rules.logit_soft_cap),
            activation: rules.activation,
            qkv_bias: self.qkv_bias,
            attention_output_bias: self.attention_output_bias,
            qk_norm: rules.qk_norm,
            post_norms: rules.post_norms,
            tied_embeddings: self.tied_embeddings,
            ropes,
            layers: (0..self.n_layers).map(layer_spec).collect(),
        };
        spec.validate(key)?;
        if rules.gguf_pairs_are_neighbours && rotary_dim != head_dim {
            let why = format!("a {} model rotates the whole head of {head_dim}", rules.gguf_architecture);
            return Err(invalid(Field::RotaryDim, rotary_dim.to_string(), why));
        }
        Ok(spec)
    }
}
