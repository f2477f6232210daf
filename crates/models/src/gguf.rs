//! Reading a GGUF file: its metadata into the family's vocabulary, and its names for tensors.
//!
//! Key names are those of the GGUF specification and of the files that llama.cpp's converter writes.

use bantam_formats::{GgmlType, Gguf, TensorInfo};
use bantam_kernels::{BlockType, Cpu};

use crate::error::ModelError;
use crate::family::{self, AttentionScale, FamilyRules, Hyper, Presence, Setting, WindowPattern};
use crate::rope::longrope_attention_factor;
use crate::spec::{ArchSpec, Field, RopeScaling};
use crate::tensors::{LayerSlot, RawTensor, RowOrder, Slot, TensorSource, vector};

const ROPE_FREQS: &str = "rope_freqs.weight";
const ROPE_SHORT: &str = "rope_factors_short.weight";
const ROPE_LONG: &str = "rope_factors_long.weight";

/// A GGUF file as the loader sees it.
#[derive(Debug)]
pub(crate) struct GgufModel<'a> {
    gguf: &'a Gguf,
    rules: &'static FamilyRules,
}

impl<'a> GgufModel<'a> {
    pub(crate) fn new(gguf: &'a Gguf) -> Result<Self, ModelError> {
        let rules = family::by_gguf_architecture(gguf.required("general.architecture")?)?;
        Ok(Self { gguf, rules })
    }

    pub(crate) fn spec(&self, cpu: &Cpu) -> Result<ArchSpec, ModelError> {
        self.hyper(cpu)?.into_spec(self.rules, &|field| self.key(field))
    }

    fn key(&self, field: Field) -> String {
        let suffix = match field {
            Field::VocabSize => "vocab_size",
            Field::ContextLength => "context_length",
            Field::HiddenSize => "embedding_length",
            Field::FfnSize => "feed_forward_length",
            Field::NLayers => "block_count",
            Field::NHeads => "attention.head_count",
            Field::NKvHeads => "attention.head_count_kv",
            Field::HeadDim => "attention.key_length",
            Field::NormEps => "attention.layer_norm_rms_epsilon",
            Field::AttentionScale => "attention.scale",
            Field::AttentionSoftCap => "attn_logit_softcapping",
            Field::LogitSoftCap => "final_logit_softcapping",
            Field::Window => "attention.sliding_window",
            Field::WindowPattern => "attention.sliding_window_pattern",
            Field::RopeTheta => "rope.freq_base",
            Field::LocalRopeTheta => "rope.freq_base_swa",
            Field::RotaryDim => "rope.dimension_count",
            Field::RopeType => "rope.scaling.type",
            Field::RopeFactor => "rope.scaling.factor",
            Field::RopeOriginalContext => "rope.scaling.original_context_length",
            Field::RopeAttentionFactor => "rope.scaling.attn_factor",
            Field::RopeFactors => return ROPE_FREQS.to_owned(),
            Field::RopeShortFactors => return ROPE_SHORT.to_owned(),
            Field::RopeLongFactors => return ROPE_LONG.to_owned(),
        };
        self.arch_key(suffix)
    }

    fn arch_key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.rules.gguf_architecture)
    }

    fn size(&self, field: Field) -> Result<usize, ModelError> {
        Ok(self.gguf.required::<usize>(&self.key(field))?)
    }

    fn optional_size(&self, field: Field) -> Result<Option<usize>, ModelError> {
        Ok(self.gguf.optional::<usize>(&self.key(field))?)
    }

    fn optional_number(&self, field: Field) -> Result<Option<f32>, ModelError> {
        Ok(self.gguf.optional::<f32>(&self.key(field))?)
    }

    fn unsupported(&self, key: String, value: &str, why: &str) -> ModelError {
        ModelError::InvalidValue { key, value: value.to_owned(), why: why.to_owned() }
    }

    fn hyper(&self, cpu: &Cpu) -> Result<Hyper, ModelError> {
        let experts = self.arch_key("expert_count");
        if let Some(n) = self.gguf.optional::<u32>(&experts)?.filter(|n| *n > 0) {
            return Err(self.unsupported(experts, &n.to_string(), "mixtures of experts are not supported"));
        }
        let n_heads = self.size(Field::NHeads)?;
        let head_dim = self.optional_size(Field::HeadDim)?;
        let value_length = self.arch_key("attention.value_length");
        if let Some(v) = self.gguf.optional::<usize>(&value_length)?
            && head_dim.is_some_and(|k| k != v)
        {
            let why = format!("must equal \"{}\"", self.key(Field::HeadDim));
            return Err(self.unsupported(value_length, &v.to_string(), &why));
        }
        let context_length = self.size(Field::ContextLength)?;
        let soft_cap = |field| -> Result<Setting<f32>, ModelError> {
            Ok(match self.optional_number(field)? {
                None => Setting::Unsaid,
                Some(0.0) => Setting::Off,
                Some(cap) => Setting::Value(cap),
            })
        };
        let has_bias = |slot| self.gguf.tensor(&self.name(Slot::Layer(0, slot), "bias")).is_some();
        Ok(Hyper {
            vocab_size: self.vocab_size()?,
            context_length,
            hidden_size: self.size(Field::HiddenSize)?,
            ffn_size: self.size(Field::FfnSize)?,
            n_layers: self.size(Field::NLayers)?,
            n_heads,
            n_kv_heads: self.optional_size(Field::NKvHeads)?.unwrap_or(n_heads),
            head_dim,
            norm_eps: self.gguf.required::<f32>(&self.key(Field::NormEps))?,
            rope_theta: self.optional_number(Field::RopeTheta)?.unwrap_or(self.rules.default_rope_theta),
            local_rope_theta: self.optional_number(Field::LocalRopeTheta)?,
            rotary_dim: self.optional_size(Field::RotaryDim)?,
            rope_scaling: self.rope_scaling(cpu, context_length)?,
            window: match self.optional_size(Field::Window)? {
                None => Setting::Unsaid,
                Some(0) => Setting::Off,
                Some(window) => Setting::Value(window),
            },
            pattern: self.window_pattern()?,
            attention_scale: match self.optional_number(Field::AttentionScale)? {
                Some(scale) if scale != 0.0 => AttentionScale::Factor(scale),
                _ => AttentionScale::Unsaid,
            },
            attention_soft_cap: soft_cap(Field::AttentionSoftCap)?,
            logit_soft_cap: soft_cap(Field::LogitSoftCap)?,
            qkv_bias: match self.rules.qkv_bias {
                Presence::Never => false,
                Presence::Always => true,
                Presence::Optional => has_bias(LayerSlot::Q),
            },
            attention_output_bias: self.rules.qkv_bias == Presence::Optional && has_bias(LayerSlot::AttentionOutput),
            tied_embeddings: self.gguf.tensor(&self.name(Slot::Output, "weight")).is_none(),
        })
    }

    /// The rows of the token embedding; the key, where there is one, must agree.
    fn vocab_size(&self) -> Result<usize, ModelError> {
        let name = self.name(Slot::TokenEmbedding, "weight");
        let embedding = self.find(&name)?.ok_or_else(|| ModelError::MissingTensor { name: name.clone() })?;
        let rows = embedding.shape.first().copied().unwrap_or(0);
        match self.optional_size(Field::VocabSize)? {
            Some(stated) if stated != rows => {
                let why = format!("tensor \"{name}\" has {rows} rows");
                Err(self.unsupported(self.key(Field::VocabSize), &stated.to_string(), &why))
            }
            _ => Ok(rows),
        }
    }

    /// One number is a period whose last layer sees everything (0: none does); a list has one entry per layer.
    fn window_pattern(&self) -> Result<Option<WindowPattern>, ModelError> {
        let key = self.key(Field::WindowPattern);
        if let Ok(Some(list)) = self.gguf.optional::<&[bool]>(&key) {
            return Ok(Some(WindowPattern::Listed(list.to_vec())));
        }
        Ok(self.gguf.optional::<usize>(&key)?.map(|period| match period {
            0 => WindowPattern::All,
            period => WindowPattern::AllButEvery { period },
        }))
    }

    fn rope_scaling(&self, cpu: &Cpu, context_length: usize) -> Result<RopeScaling, ModelError> {
        let factors = |name: &str| -> Result<Option<Vec<f32>>, ModelError> {
            self.find(name)?.map(|tensor| vector(cpu, &tensor)).transpose()
        };
        let attention_factor = self.optional_number(Field::RopeAttentionFactor)?;
        match (factors(ROPE_SHORT)?, factors(ROPE_LONG)?) {
            (Some(short), Some(long)) => {
                let original_context = self.optional_size(Field::RopeOriginalContext)?.unwrap_or(context_length);
                let stretch = context_length as f64 / original_context.max(1) as f64;
                let attention_factor =
                    attention_factor.unwrap_or_else(|| longrope_attention_factor(stretch, original_context));
                return Ok(RopeScaling::LongRope { short, long, original_context, attention_factor });
            }
            (Some(_), None) => return Err(ModelError::MissingTensor { name: ROPE_LONG.to_owned() }),
            (None, Some(_)) => return Err(ModelError::MissingTensor { name: ROPE_SHORT.to_owned() }),
            (None, None) => {}
        }
        if let Some(factor) = attention_factor.filter(|f| *f != 1.0) {
            let why = "is supported only together with long and short rope factors";
            return Err(self.unsupported(self.key(Field::RopeAttentionFactor), &factor.to_string(), why));
        }
        let kind = self.key(Field::RopeType);
        let old_factor = self.arch_key("rope.scale_linear");
        let factor = match self.optional_number(Field::RopeFactor)? {
            Some(factor) => Some(factor),
            None => self.gguf.optional::<f32>(&old_factor)?,
        };
        match self.gguf.optional::<&str>(&kind)? {
            Some("none") => return Ok(RopeScaling::None),
            None | Some("linear" | "longrope") => {}
            Some(other) => return Err(self.unsupported(kind, other, "supported: none, linear, longrope")),
        }
        if let Some(factors) = factors(ROPE_FREQS)? {
            return Ok(RopeScaling::Factors { factors });
        }
        Ok(match factor {
            None | Some(0.0 | 1.0) => RopeScaling::None,
            Some(factor) => RopeScaling::Linear { factor },
        })
    }
}

impl TensorSource for GgufModel<'_> {
    fn rules(&self) -> &'static FamilyRules {
        self.rules
    }

    fn name(&self, slot: Slot, part: &str) -> String {
        let base = match slot {
            Slot::TokenEmbedding => "token_embd",
            Slot::OutputNorm => "output_norm",
            Slot::Output => "output",
            Slot::Layer(layer, slot) => {
                let base = match slot {
                    LayerSlot::AttentionNorm => "attn_norm",
                    LayerSlot::Q => "attn_q",
                    LayerSlot::K => "attn_k",
                    LayerSlot::V => "attn_v",
                    LayerSlot::Qkv => "attn_qkv",
                    LayerSlot::QNorm => "attn_q_norm",
                    LayerSlot::KNorm => "attn_k_norm",
                    LayerSlot::AttentionOutput => "attn_output",
                    LayerSlot::PostAttentionNorm => "post_attention_norm",
                    LayerSlot::FfnNorm => "ffn_norm",
                    LayerSlot::Gate => "ffn_gate",
                    LayerSlot::Up | LayerSlot::GateUp => "ffn_up",
                    LayerSlot::Down => "ffn_down",
                    LayerSlot::PostFfnNorm => "post_ffw_norm",
                };
                return format!("blk.{layer}.{base}.{part}");
            }
        };
        format!("{base}.{part}")
    }

    fn find(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        self.gguf.tensor(name).map(|info| raw(self.gguf, info)).transpose()
    }

    fn names(&self) -> Vec<&str> {
        self.gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
    }

    fn is_ignorable(&self, name: &str) -> bool {
        // Read with the metadata.
        [ROPE_FREQS, ROPE_SHORT, ROPE_LONG].contains(&name)
    }

    fn qk_rows(&self) -> RowOrder {
        if self.rules.gguf_pairs_are_neighbours { RowOrder::Neighbours } else { RowOrder::Halves }
    }

    fn norms_lack_one(&self) -> bool {
        false
    }
}

fn raw<'a>(gguf: &'a Gguf, info: &'a TensorInfo) -> Result<RawTensor<'a>, ModelError> {
    let ty = match info.ty {
        GgmlType::F32 => BlockType::F32,
        GgmlType::F16 => BlockType::F16,
        GgmlType::BF16 => BlockType::BF16,
        GgmlType::Q4_0 => BlockType::Q4_0,
        GgmlType::Q4_1 => BlockType::Q4_1,
        GgmlType::Q5_0 => BlockType::Q5_0,
        GgmlType::Q8_0 => BlockType::Q8_0,
        GgmlType::Q4_K => BlockType::Q4_K,
        GgmlType::Q5_K => BlockType::Q5_K,
        GgmlType::Q6_K => BlockType::Q6_K,
        other => return Err(ModelError::unsupported_tensor_type(&info.name, other.name())),
    };
    // Sizes of tensors in a file that was opened fit the address space.
    let shape = info.shape.iter().rev().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect();
    Ok(RawTensor { name: info.name.clone(), ty, shape, data: gguf.tensor_data(info) })
}
