//! `ArchSpec`: one decoder-only transformer, described as data.
//!
//! Every family is the same chain of blocks (norm, attention, norm, gated feed-forward) with a few
//! switches. The forward pass, and later the training path and the converters, read only this
//! description; no code asks which family it is running. A spec is made by the GGUF reader or the
//! Hugging Face reader and has been validated when anyone else sees it.

use serde::Serialize;

use crate::error::ModelError;
use crate::family::Family;

/// The whole description of a decoder. All sizes are counts of elements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchSpec {
    /// Which row of the family table this came from; for display and for reading files, not for computing.
    pub family: Family,
    /// Rows of the token embedding and of the output head.
    pub vocab_size: usize,
    /// Positions the model was trained for; a sequence may not grow past it.
    pub context_length: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub ffn_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head; not always `hidden_size / n_heads`.
    pub head_dim: usize,
    /// Epsilon of every RMSNorm.
    pub norm_eps: f32,
    /// Factor on the embedding (Gemma: the square root of `hidden_size`).
    pub embedding_scale: f32,
    /// Factor on the attention scores before soft cap and mask.
    pub attention_scale: f32,
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_soft_cap: Option<f32>,
    /// `cap * tanh(logit / cap)` on the logits.
    pub logit_soft_cap: Option<f32>,
    /// Activation of the gate in the feed-forward block.
    pub activation: Activation,
    /// Q, K and V projections have a bias.
    pub qkv_bias: bool,
    /// The attention output projection has a bias.
    pub attention_output_bias: bool,
    /// Q and K are normalised per head before RoPE.
    pub qk_norm: bool,
    /// The outputs of attention and feed-forward are normalised before they join the residual stream.
    pub post_norms: bool,
    /// The output head is the token embedding.
    pub tied_embeddings: bool,
    /// The rotary embeddings that layers refer to by index.
    pub ropes: Vec<RopeSpec>,
    /// One entry per layer, first layer first.
    pub layers: Vec<LayerSpec>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerSpec {
    /// A query sees at most this many keys, itself included; `None` sees all before it.
    pub window: Option<usize>,
    /// Index into [`ArchSpec::ropes`].
    pub rope: usize,
}

/// Activation `f` of the feed-forward block `down(f(gate(x)) * up(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// One set of rotary frequencies: `theta^(-2i / rotary_dim)`, divided as `scaling` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RopeSpec {
    /// The base.
    pub theta: f32,
    /// The first `rotary_dim` elements of a head are rotated, the rest pass through; even.
    pub rotary_dim: usize,
    /// How frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// Stretching of rotary frequencies. Factor lists have `rotary_dim / 2` elements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by one factor (position interpolation).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Frequency `i` divided by `factors[i]` (the three bands of Llama 3.1).
    Factors {
        /// The divisors.
        factors: Vec<f32>,
    },
    /// LongRoPE: one of two factor lists by the length of the sequence (see [`RopeSet`]), and a factor on cos and sin.
    LongRope {
        /// Divisors for sequences that fit the original context.
        short: Vec<f32>,
        /// Divisors for longer sequences.
        long: Vec<f32>,
        /// Longest sequence that uses `short`.
        original_context: usize,
        /// Factor on cos and sin, for both lists.
        attention_factor: f32,
    },
}

/// Which LongRoPE factor list a sequence uses.
///
/// Transformers looks at the length at every step and switches in the middle of a generation, which leaves cached
/// keys rotated one way and new ones another. Here the set is fixed when a sequence is admitted, from the longest it
/// may become ([`ArchSpec::rope_set`]), and is part of what identifies a cached prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum RopeSet {
    /// The only set of most models; the short list of a LongRoPE model.
    #[default]
    Short,
    /// The long list of a LongRoPE model.
    Long,
}

/// Upper bounds on what a file may claim. Far above any real model, low enough that products of them fit in `u64` and
/// that per-layer bookkeeping stays small; large allocations follow the tensors, whose bytes were seen.
pub(crate) mod limits {
    pub(super) const VOCAB: usize = 1 << 24;
    pub(super) const CONTEXT: usize = 1 << 28;
    pub(super) const WIDTH: usize = 1 << 20;
    pub(super) const HEADS: usize = 1 << 12;
    pub(super) const HEAD_DIM: usize = 1024;
    pub(crate) const LAYERS: usize = 1024;
}

impl ArchSpec {
    /// Layers of the decoder.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Width of the concatenated query heads.
    #[must_use]
    pub fn q_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    #[must_use]
    pub fn kv_size(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// The rope set for a sequence that may grow to `total_len` tokens; ask once, at admission.
    #[must_use]
    pub fn rope_set(&self, total_len: usize) -> RopeSet {
        let is_long = self.ropes.iter().any(|rope| match &rope.scaling {
            RopeScaling::LongRope { original_context, .. } => total_len > *original_context,
            _ => false,
        });
        if is_long { RopeSet::Long } else { RopeSet::Short }
    }

    /// Checks every size and number; `key` turns a field of the spec into the name the file uses for it.
    pub(crate) fn validate(&self, key: &dyn Fn(Field) -> String) -> Result<(), ModelError> {
        let bad = |field, value: String, why: &str| {
            Err(ModelError::InvalidValue { key: key(field), value, why: why.to_owned() })
        };
        let bounded = [
            (Field::VocabSize, self.vocab_size, limits::VOCAB),
            (Field::ContextLength, self.context_length, limits::CONTEXT),
            (Field::HiddenSize, self.hidden_size, limits::WIDTH),
            (Field::FfnSize, self.ffn_size, limits::WIDTH),
            (Field::NLayers, self.n_layers(), limits::LAYERS),
            (Field::NHeads, self.n_heads, limits::HEADS),
            (Field::NKvHeads, self.n_kv_heads, limits::HEADS),
            (Field::HeadDim, self.head_dim, limits::HEAD_DIM),
        ];
        for (field, value, max) in bounded {
            if value == 0 || value > max {
                return bad(field, value.to_string(), &format!("must be between 1 and {max}"));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let why = format!("must divide the number of heads, {}", self.n_heads);
            return bad(Field::NKvHeads, self.n_kv_heads.to_string(), &why);
        }
        let positive = [
            (Field::NormEps, Some(self.norm_eps)),
            (Field::AttentionScale, Some(self.attention_scale)),
            (Field::AttentionSoftCap, self.attention_soft_cap),
            (Field::LogitSoftCap, self.logit_soft_cap),
        ];
        for (field, value) in positive {
            if let Some(v) = value
                && !(v.is_finite() && v > 0.0)
            {
                return bad(field, v.to_string(), "must be a positive number");
            }
        }
        for layer in &self.layers {
            if layer.window == Some(0) {
                return bad(Field::Window, "0".to_owned(), "must be at least 1");
            }
            if layer.rope >= self.ropes.len() {
                return bad(Field::RopeTheta, layer.rope.to_string(), "names a rotary embedding that does not exist");
            }
        }
        self.ropes.iter().try_for_each(|rope| rope.validate(self.head_dim, key))
    }
}

impl RopeSpec {
    fn validate(&self, head_dim: usize, key: &dyn Fn(Field) -> String) -> Result<(), ModelError> {
        let bad = |field, value: String, why: String| Err(ModelError::InvalidValue { key: key(field), value, why });
        if !(self.theta.is_finite() && self.theta > 0.0) {
            return bad(Field::RopeTheta, self.theta.to_string(), "must be a positive number".to_owned());
        }
        if self.rotary_dim == 0 || !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > head_dim {
            let why = format!("must be even, positive and at most the head dimension {head_dim}");
            return bad(Field::RotaryDim, self.rotary_dim.to_string(), why);
        }
        let factors_ok = |field, list: &[f32]| {
            if list.len() != self.rotary_dim / 2 {
                let why = format!("must have {} factors, half the rotary dimension", self.rotary_dim / 2);
                return bad(field, format!("{} factors", list.len()), why);
            }
            match list.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
                Some(f) => bad(field, f.to_string(), "every factor must be a positive number".to_owned()),
                None => Ok(()),
            }
        };
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } if factor.is_finite() && *factor > 0.0 => Ok(()),
            RopeScaling::Linear { factor } => {
                bad(Field::RopeFactor, factor.to_string(), "must be a positive number".to_owned())
            }
            RopeScaling::Factors { factors } => factors_ok(Field::RopeFactors, factors),
            RopeScaling::LongRope { short, long, original_context, attention_factor } => {
                factors_ok(Field::RopeShortFactors, short)?;
                factors_ok(Field::RopeLongFactors, long)?;
                if *original_context == 0 {
                    return bad(Field::RopeOriginalContext, "0".to_owned(), "must be at least 1".to_owned());
                }
                if !(attention_factor.is_finite() && *attention_factor > 0.0) {
                    let why = "must be a positive number".to_owned();
                    return bad(Field::RopeAttentionFactor, attention_factor.to_string(), why);
                }
                Ok(())
            }
        }
    }
}

/// The numbers a model file states about itself, by meaning. Each file format has its own names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    VocabSize,
    ContextLength,
    HiddenSize,
    FfnSize,
    NLayers,
    NHeads,
    NKvHeads,
    HeadDim,
    NormEps,
    AttentionScale,
    AttentionSoftCap,
    LogitSoftCap,
    Window,
    WindowPattern,
    RopeTheta,
    LocalRopeTheta,
    RotaryDim,
    RopeType,
    RopeFactor,
    RopeFactors,
    RopeShortFactors,
    RopeLongFactors,
    RopeOriginalContext,
    RopeAttentionFactor,
}
