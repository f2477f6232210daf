//! Reading a Hugging Face directory: `config.json` into the family's vocabulary, and the names of its tensors.
//!
//! Configs come in two generations. Up to Transformers 4, the rotary base stands beside a `rope_scaling` object; from
//! 5 on, `rope_parameters` holds both, once for the model or once per kind of layer. Both are read.

use bantam_formats::SafetensorsDir;
use bantam_formats::safetensors::FloatType;
use bantam_kernels::BlockType;
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::family::{self, AttentionScale, FamilyRules, Hyper, Presence, Setting, WindowPattern};
use crate::rope::{Llama3Scaling, longrope_attention_factor};
use crate::spec::{Activation, ArchSpec, Field, RopeScaling};
use crate::tensors::{LayerSlot, RawTensor, RowOrder, Slot, TensorSource};

/// A `config.json` object, or one inside it, with typed access; `null` is the same as absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config<'a> {
    /// Where the object stands in the file, "" or "rope_parameters.".
    prefix: &'static str,
    object: Option<&'a Map<String, Value>>,
}

impl<'a> Config<'a> {
    /// The whole file.
    pub(crate) fn root(config: &'a Value) -> Self {
        Config { prefix: "", object: config.as_object() }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object?.get(key).filter(|value| !value.is_null())
    }

    fn is_null(&self, key: &str) -> bool {
        self.object.and_then(|object| object.get(key)).is_some_and(Value::is_null)
    }

    pub(crate) fn invalid(&self, key: &str, value: &Value, why: &str) -> ModelError {
        let mut value = value.to_string();
        if value.len() > 80 {
            value = value.chars().take(80).chain("...".chars()).collect();
        }
        ModelError::InvalidValue { key: self.key(key), value, why: why.to_owned() }
    }

    fn optional<T>(
        &self,
        key: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.invalid(key, value, expected))
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.optional(key, |v| v.as_u64().and_then(|n| usize::try_from(n).ok()), "must be a whole number")
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.optional(key, Value::as_f64, "must be a number")
    }

    fn optional_flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.optional(key, Value::as_bool, "must be true or false")
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.optional(key, Value::as_str, "must be a string")
    }

    pub(crate) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| ModelError::MissingKey { key: self.key(key) })
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.required(key, self.optional_size(key)?)
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, ModelError> {
        self.required(key, self.optional_number(key)?)
    }

    fn numbers(&self, key: &str) -> Result<Vec<f32>, ModelError> {
        let read = |v: &Value| v.as_array()?.iter().map(|x| x.as_f64().map(|x| x as f32)).collect::<Option<Vec<_>>>();
        self.required(key, self.optional(key, read, "must be a list of numbers")?)
    }

    fn object(&self, key: &str, prefix: &'static str) -> Result<Option<Config<'a>>, ModelError> {
        let object = self.optional(key, Value::as_object, "must be an object")?;
        Ok(object.map(|object| Config { prefix, object: Some(object) }))
    }

    /// `null` switches a setting off; an absent key leaves it to the family.
    fn setting<T>(&self, key: &str, value: Option<T>) -> Setting<T> {
        match value {
            Some(value) => Setting::Value(value),
            None if self.is_null(key) => Setting::Off,
            None => Setting::Unsaid,
        }
    }
}

fn key(field: Field) -> String {
    match field {
        Field::VocabSize => "vocab_size",
        Field::ContextLength => "max_position_embeddings",
        Field::HiddenSize => "hidden_size",
        Field::FfnSize => "intermediate_size",
        Field::NLayers => "num_hidden_layers",
        Field::NHeads => "num_attention_heads",
        Field::NKvHeads => "num_key_value_heads",
        Field::HeadDim => "head_dim",
        Field::NormEps => "rms_norm_eps",
        Field::AttentionScale => "query_pre_attn_scalar",
        Field::AttentionSoftCap => "attn_logit_softcapping",
        Field::LogitSoftCap => "final_logit_softcapping",
        Field::Window => "sliding_window",
        Field::WindowPattern => "layer_types",
        Field::RopeTheta => "rope_theta",
        Field::LocalRopeTheta => "rope_local_base_freq",
        Field::RotaryDim => "partial_rotary_factor",
        Field::RopeType => "rope_type",
        Field::RopeFactor => "rope_parameters.factor",
        Field::RopeFactors => "rope_parameters",
        Field::RopeShortFactors => "rope_parameters.short_factor",
        Field::RopeLongFactors => "rope_parameters.long_factor",
        Field::RopeOriginalContext => "original_max_position_embeddings",
        Field::RopeAttentionFactor => "rope_parameters.attention_factor",
    }
    .to_owned()
}

/// A Hugging Face directory as the loader sees it.
#[derive(Debug)]
pub(crate) struct HfModel<'a> {
    files: &'a SafetensorsDir,
    rules: &'static FamilyRules,
    assumed_window: Option<usize>,
}

impl<'a> HfModel<'a> {
    pub(crate) fn new(files: &'a SafetensorsDir) -> Result<Self, ModelError> {
        let config = Config::root(files.config());
        let model_type = config.required("model_type", config.optional_text("model_type")?)?;
        let (rules, assumed_window) = family::by_hf_model_type(model_type)?;
        Ok(Self { files, rules, assumed_window })
    }

    pub(crate) fn spec(&self) -> Result<ArchSpec, ModelError> {
        let has_bias = |slot| self.files.contains(&self.name(Slot::Layer(0, slot), "bias"));
        let config = Config::root(self.files.config());
        let hyper = Hyper {
            qkv_bias: match self.rules.qkv_bias {
                Presence::Never => false,
                Presence::Always => true,
                Presence::Optional => has_bias(LayerSlot::Q),
            },
            attention_output_bias: self.rules.qkv_bias == Presence::Optional && has_bias(LayerSlot::AttentionOutput),
            ..hyper(config, self.rules, self.assumed_window)?
        };
        hyper.into_spec(self.rules, &key)
    }
}

fn hyper(config: Config<'_>, rules: &FamilyRules, assumed_window: Option<usize>) -> Result<Hyper, ModelError> {
    refuse_unsupported(config, rules)?;
    let n_heads = config.size("num_attention_heads")?;
    let hidden_size = config.size("hidden_size")?;
    let head_dim = config.optional_size("head_dim")?;
    let context_length = config.size("max_position_embeddings")?;
    let n_layers = config.size("num_hidden_layers")?;
    let optional_f32 = |key| Ok::<_, ModelError>(config.optional_number(key)?.map(|x| x as f32));
    let ropes = Ropes::read(config)?;
    // What the head would be without `head_dim`; `into_spec` checks the division.
    let rotary_head = head_dim.unwrap_or(hidden_size / n_heads.max(1));
    let partial = ropes.number("partial_rotary_factor", config)?.unwrap_or(1.0);
    let rotary_dim = (rotary_head as f64 * partial) as usize;
    let rope_theta = ropes.number("rope_theta", config)?.map_or(rules.default_rope_theta, |theta| theta as f32);
    let rope_scaling = ropes.scaling(config, rope_theta, rotary_dim, context_length)?;
    Ok(Hyper {
        vocab_size: config.size("vocab_size")?,
        context_length,
        hidden_size,
        ffn_size: config.size("intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads: config.optional_size("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim,
        norm_eps: config.number("rms_norm_eps")? as f32,
        rope_theta,
        local_rope_theta: match ropes.local.map(|local| local.optional_number("rope_theta")).transpose()?.flatten() {
            Some(theta) => Some(theta as f32),
            None => optional_f32("rope_local_base_freq")?,
        },
        rotary_dim: Some(rotary_dim),
        rope_scaling,
        window: window(config, assumed_window)?,
        pattern: window_pattern(config, n_layers)?,
        attention_scale: match config.optional_number("query_pre_attn_scalar")? {
            Some(scalar) => AttentionScale::InverseRoot(scalar),
            None => AttentionScale::Unsaid,
        },
        attention_soft_cap: config.setting("attn_logit_softcapping", optional_f32("attn_logit_softcapping")?),
        logit_soft_cap: config.setting("final_logit_softcapping", optional_f32("final_logit_softcapping")?),
        qkv_bias: false,
        attention_output_bias: false,
        tied_embeddings: config.optional_flag("tie_word_embeddings")?.unwrap_or(rules.hf_tied_default),
    })
}

fn refuse_unsupported(config: Config<'_>, rules: &FamilyRules) -> Result<(), ModelError> {
    let names: &[&str] = match rules.activation {
        Activation::Silu => &["silu", "swish"],
        Activation::GeluTanh => &["gelu_pytorch_tanh", "gelu_new"],
    };
    let act_key = if config.get("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    if let Some(value) = config.get(act_key)
        && !value.as_str().is_some_and(|act| names.contains(&act))
    {
        return Err(config.invalid(act_key, value, &format!("supported here: {}", names.join(", "))));
    }
    if let Some(value) = config.get("quantization_config") {
        return Err(config.invalid("quantization_config", value, "only unquantised weights are read; use a GGUF file"));
    }
    if config.optional_flag("use_bidirectional_attention")? == Some(true) {
        return Err(config.invalid(
            "use_bidirectional_attention",
            &Value::Bool(true),
            "only causal models are supported",
        ));
    }
    Ok(())
}

/// Qwen 2 states a window that counts only where `use_sliding_window` says so.
fn window(config: Config<'_>, assumed: Option<usize>) -> Result<Setting<usize>, ModelError> {
    if config.optional_flag("use_sliding_window")? == Some(false) {
        return Ok(Setting::Off);
    }
    let stated = config.optional_size("sliding_window")?;
    Ok(match (config.setting("sliding_window", stated), assumed) {
        (Setting::Unsaid, Some(window)) => Setting::Value(window),
        (setting, _) => setting,
    })
}

fn window_pattern(config: Config<'_>, n_layers: usize) -> Result<Option<WindowPattern>, ModelError> {
    if let Some(value) = config.get("layer_types") {
        let kind = |v: &Value| match v.as_str()? {
            "sliding_attention" => Some(true),
            "full_attention" => Some(false),
            _ => None,
        };
        let list = value.as_array().and_then(|list| list.iter().map(kind).collect::<Option<Vec<bool>>>());
        let why = "must be a list of \"full_attention\" and \"sliding_attention\"";
        return list
            .map(|list| Some(WindowPattern::Listed(list)))
            .ok_or_else(|| config.invalid("layer_types", value, why));
    }
    if let Some(period) = config.optional_size("sliding_window_pattern")? {
        return Ok(Some(WindowPattern::AllButEvery { period }));
    }
    Ok(config.optional_size("max_window_layers")?.map(|first| {
        // Bounded here because the layer count is checked later.
        let n_layers = n_layers.min(crate::spec::limits::LAYERS);
        WindowPattern::Listed((0..n_layers).map(|layer| layer >= first).collect())
    }))
}

/// The rotary part of a config, of either generation.
#[derive(Debug, Clone, Copy)]
struct Ropes<'a> {
    /// Of all layers, or of those that see everything.
    global: Config<'a>,
    /// Of the windowed layers.
    local: Option<Config<'a>>,
}

impl<'a> Ropes<'a> {
    fn read(config: Config<'a>) -> Result<Self, ModelError> {
        const NONE: Config<'static> = Config { prefix: "rope_parameters.", object: None };
        if let Some(parameters) = config.object("rope_parameters", "rope_parameters.")? {
            let global = parameters.object("full_attention", "rope_parameters.full_attention.")?;
            let local = parameters.object("sliding_attention", "rope_parameters.sliding_attention.")?;
            return Ok(Self { global: global.unwrap_or(parameters), local });
        }
        Ok(Self { global: config.object("rope_scaling", "rope_scaling.")?.unwrap_or(NONE), local: None })
    }

    /// From the rotary object, or from beside it.
    pub(crate) fn number(&self, key: &str, config: Config<'a>) -> Result<Option<f64>, ModelError> {
        match self.global.optional_number(key)? {
            Some(x) => Ok(Some(x)),
            None => config.optional_number(key),
        }
    }

    fn scaling(
        &self,
        config: Config<'a>,
        theta: f32,
        rotary_dim: usize,
        context_length: usize,
    ) -> Result<RopeScaling, ModelError> {
        if let Some(local) = self.local
            && let Some(value) = local.get("rope_type")
            && value.as_str() != Some("default")
        {
            return Err(local.invalid("rope_type", value, "windowed layers must use \"default\""));
        }
        let rope = self.global;
        let type_key = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
        match rope.optional_text(type_key)?.unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: rope.number("factor")? as f32 }),
            "llama3" => {
                let scaling = Llama3Scaling {
                    factor: rope.number("factor")? as f32,
                    low_freq_factor: rope.number("low_freq_factor")? as f32,
                    high_freq_factor: rope.number("high_freq_factor")? as f32,
                    original_context: rope.number("original_max_position_embeddings")? as f32,
                };
                Ok(RopeScaling::Factors { factors: scaling.factors(theta, rotary_dim) })
            }
            "longrope" | "su" => {
                let original = self.number("original_max_position_embeddings", config)?;
                let original_context = original.map_or(context_length, |n| n as usize);
                let stretch = match rope.optional_number("factor")? {
                    Some(factor) => factor,
                    None => context_length as f64 / original_context.max(1) as f64,
                };
                let attention_factor = match rope.optional_number("attention_factor")? {
                    Some(factor) => factor as f32,
                    None => longrope_attention_factor(stretch, original_context),
                };
                let short = rope.numbers("short_factor")?;
                let long = rope.numbers("long_factor")?;
                Ok(RopeScaling::LongRope { short, long, original_context, attention_factor })
            }
            other => {
                let why = "supported: default, linear, llama3, longrope";
                Err(rope.invalid(type_key, &Value::String(other.to_owned()), why))
            }
        }
    }
}

impl TensorSource for HfModel<'_> {
    fn rules(&self) -> &'static FamilyRules {
        self.rules
    }

    fn name(&self, slot: Slot, part: &str) -> String {
        let base = match slot {
            Slot::TokenEmbedding => "model.embed_tokens",
            Slot::OutputNorm => "model.norm",
            Slot::Output => "lm_head",
            Slot::Layer(layer, slot) => {
                let base = match slot {
                    LayerSlot::AttentionNorm => "input_layernorm",
                    LayerSlot::Q => "self_attn.q_proj",
                    LayerSlot::K => "self_attn.k_proj",
                    LayerSlot::V => "self_attn.v_proj",
                    LayerSlot::Qkv => "self_attn.qkv_proj",
                    LayerSlot::QNorm => "self_attn.q_norm",
                    LayerSlot::KNorm => "self_attn.k_norm",
                    LayerSlot::AttentionOutput => "self_attn.o_proj",
                    // Where there is no norm after attention, this name means the one before the feed-forward block.
                    LayerSlot::FfnNorm if self.rules.post_norms => "pre_feedforward_layernorm",
                    LayerSlot::FfnNorm | LayerSlot::PostAttentionNorm => "post_attention_layernorm",
                    LayerSlot::Gate => "mlp.gate_proj",
                    LayerSlot::Up => "mlp.up_proj",
                    LayerSlot::GateUp => "mlp.gate_up_proj",
                    LayerSlot::Down => "mlp.down_proj",
                    LayerSlot::PostFfnNorm => "post_feedforward_layernorm",
                };
                return format!("model.layers.{layer}.{base}.{part}");
            }
        };
        format!("{base}.{part}")
    }

    fn find(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        if !self.files.contains(name) {
            return Ok(None);
        }
        let tensor = self.files.tensor(name)?;
        let ty = match tensor.ty {
            FloatType::F32 => BlockType::F32,
            FloatType::F16 => BlockType::F16,
            FloatType::Bf16 => BlockType::BF16,
        };
        Ok(Some(RawTensor { name: name.to_owned(), ty, shape: tensor.shape.to_vec(), data: tensor.data }))
    }

    fn names(&self) -> Vec<&str> {
        self.files.names().collect()
    }

    fn is_ignorable(&self, name: &str) -> bool {
        // Old checkpoints carry the rotary frequencies, and some carry a copy of a tied output head.
        name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"
    }

    fn qk_rows(&self) -> RowOrder {
        RowOrder::Halves
    }

    fn norms_lack_one(&self) -> bool {
        self.rules.hf_norms_lack_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LayerSpec;
    use serde_json::json;

    /// The spec of a small config of some type, with more keys laid over it.
    fn spec(model_type: &str, keys: Value) -> Result<ArchSpec, ModelError> {
        let mut config = json!({
            "model_type": model_type, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5
        });
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        let (rules, assumed_window) = family::by_hf_model_type(model_type)?;
        hyper(Config::root(&config), rules, assumed_window)?.into_spec(rules, &key)
    }

    fn windows(spec: &ArchSpec) -> Vec<Option<usize>> {
        spec.layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn reads_llama3_scaling_beside_rope_theta() {
        let keys = json!({"rope_theta": 500000.0, "head_dim": 128, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
        let spec = spec("llama", keys).unwrap();
        let [rope] = &spec.ropes[..] else { panic!("one rope") };
        assert_eq!((rope.theta, rope.rotary_dim), (500_000.0, 128));
        let RopeScaling::Factors { factors } = &rope.scaling else { panic!("{:?}", rope.scaling) };
        // Llama 3.2's published `rope_freqs`: ones, a smooth band, thirty-twos.
        assert_eq!((factors.len(), factors[0], factors[28], factors[63]), (64, 1.0, 1.0, 32.0));
        assert!(factors.is_sorted() && factors[30] > 1.0 && factors[34] < 32.0, "{factors:?}");
    }

    #[test]
    fn reads_longrope_of_both_generations() {
        let factors = json!([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]);
        let old = json!({"partial_rotary_factor": 0.75, "rope_theta": 10000.0, "original_max_position_embeddings": 1024,
            "rope_scaling": {"type": "su", "short_factor": factors, "long_factor": factors}});
        let new = json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": factors, "long_factor": factors,
            "partial_rotary_factor": 0.75, "original_max_position_embeddings": 1024}});
        let (old, new) = (spec("phi3", old).unwrap(), spec("phi3", new).unwrap());
        assert_eq!(old, new);
        assert_eq!(old.ropes[0].rotary_dim, 12);
        let RopeScaling::LongRope { attention_factor, original_context, .. } = old.ropes[0].scaling else { panic!() };
        assert_eq!(original_context, 1024);
        // sqrt(1 + ln 4 / ln 1024) = sqrt(1.2)
        assert!((attention_factor - 1.2f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn reads_gemma3_of_both_generations() {
        let old = json!({"head_dim": 32, "query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 512,
            "sliding_window_pattern": 6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}});
        let types: Vec<&str> = (1..=8).map(|i| if i == 6 { "full_attention" } else { "sliding_attention" }).collect();
        let new = json!({"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 512, "layer_types": types, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}});
        let (old, new) = (spec("gemma3_text", old).unwrap(), spec("gemma3_text", new).unwrap());
        assert_eq!(old, new);
        assert_eq!(old.layers[5], LayerSpec { window: None, rope: 0 });
        assert_eq!(old.layers[6], LayerSpec { window: Some(512), rope: 1 });
        assert_eq!(old.ropes[0].scaling, RopeScaling::Linear { factor: 8.0 });
        assert_eq!(old.ropes[1].scaling, RopeScaling::None);
        assert!(old.tied_embeddings);
    }

    #[test]
    fn windows_are_those_of_transformers() {
        assert_eq!(windows(&spec("mistral", json!({})).unwrap()), [Some(4096); 8]);
        assert_eq!(windows(&spec("mistral", json!({"sliding_window": null})).unwrap()), [None; 8]);
        let qwen = |use_it| json!({"sliding_window": 128, "use_sliding_window": use_it, "max_window_layers": 6});
        assert_eq!(windows(&spec("qwen2", qwen(false)).unwrap()), [None; 8]);
        let mut last_two = [None; 8];
        last_two[6..].fill(Some(128));
        assert_eq!(windows(&spec("qwen2", qwen(true)).unwrap()), last_two);
    }

    #[test]
    fn the_attention_scale_of_the_widest_gemma_comes_from_its_width() {
        let keys = json!({"num_hidden_layers": 46, "hidden_size": 128, "head_dim": 16, "sliding_window": 64});
        assert_eq!(spec("gemma2", keys).unwrap().attention_scale, 1.0 / 32f32.sqrt());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases = [
            ("llama", json!({"hidden_act": "relu"}), "hidden_act"),
            ("llama", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "rope_scaling.type"),
            (
                "llama",
                json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}),
                "rope_parameters.rope_type",
            ),
            ("llama", json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            ("llama", json!({"num_attention_heads": "four"}), "num_attention_heads"),
            ("llama", json!({"num_attention_heads": -4}), "num_attention_heads"),
            ("llama", json!({"num_hidden_layers": 4000000000u32}), "num_hidden_layers"),
            (
                "qwen2",
                json!({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 2, "num_hidden_layers": 4000000000u32}),
                "num_hidden_layers",
            ),
            ("gemma2", json!({"layer_types": ["chunked_attention"]}), "layer_types"),
            ("gemma2", json!({"layer_types": ["full_attention"]}), "layer_types"),
            ("gemma3_text", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
            (
                "phi3",
                json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}),
                "rope_parameters.short_factor",
            ),
        ];
        for (model_type, keys, name) in cases {
            match spec(model_type, keys).unwrap_err() {
                ModelError::InvalidValue { key, .. } => assert_eq!(key, name),
                other => panic!("{name}: {other}"),
            }
        }
        assert!(
            matches!(spec("llama", json!({"vocab_size": null})), Err(ModelError::MissingKey { key }) if key == "vocab_size")
        );
        assert!(matches!(spec("opt", json!({})), Err(ModelError::UnsupportedArchitecture { .. })));
    }
}
