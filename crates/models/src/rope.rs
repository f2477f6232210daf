//! From the rope part of a spec to rotation tables, and the formulas by which configs state their factors.

use bantam_kernels::rope::{RopeConfig, RopeError, RopeTable};

use crate::spec::{RopeScaling, RopeSet, RopeSpec};

/// The rotations of one [`RopeSpec`].
#[derive(Debug)]
pub(crate) struct Rope {
    short: RopeTable,
    long: Option<RopeTable>,
}

impl Rope {
    pub(crate) fn new(spec: &RopeSpec) -> Result<Self, RopeError> {
        let plain = RopeConfig { theta: spec.theta, rotary_dim: spec.rotary_dim, ..RopeConfig::default() };
        let table = |config: RopeConfig| RopeTable::new(&config);
        let (short, long) = match &spec.scaling {
            RopeScaling::None => (table(plain)?, None),
            RopeScaling::Linear { factor } => (table(RopeConfig { position_scale: 1.0 / factor, ..plain })?, None),
            RopeScaling::Factors { factors } => {
                (table(RopeConfig { frequency_divisors: factors.clone(), ..plain })?, None)
            }
            RopeScaling::LongRope { short, long, attention_factor, .. } => {
                let config = RopeConfig { attention_factor: *attention_factor, ..plain };
                let with =
                    |factors: &Vec<f32>| table(RopeConfig { frequency_divisors: factors.clone(), ..config.clone() });
                (with(short)?, Some(with(long)?))
            }
        };
        Ok(Self { short, long })
    }

    pub(crate) fn table(&self, set: RopeSet) -> &RopeTable {
        match (set, &self.long) {
            (RopeSet::Long, Some(long)) => long,
            _ => &self.short,
        }
    }
}

/// LongRoPE's factor on cos and sin when the model does not state one: `sqrt(1 + ln(stretch) / ln(original_context))`,
/// where `stretch` is the context over the original one (Ding et al. 2024, as Transformers computes it).
pub(crate) fn longrope_attention_factor(stretch: f64, original_context: usize) -> f32 {
    if stretch <= 1.0 || original_context < 2 {
        return 1.0;
    }
    (1.0 + libm::log(stretch) / libm::log(original_context as f64)).sqrt() as f32
}

/// How a Llama 3.1 config states its stretching.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Llama3Scaling {
    pub(crate) factor: f32,
    pub(crate) low_freq_factor: f32,
    pub(crate) high_freq_factor: f32,
    pub(crate) original_context: f32,
}

impl Llama3Scaling {
    /// One divisor per frequency: short wavelengths stay, long ones are divided by `factor`, and the band between
    /// passes smoothly from one to the other (Llama 3.1 reference code, `apply_scaling`).
    ///
    /// In f32 throughout, as those who write the factors into GGUF files compute them, so that both formats agree.
    pub(crate) fn factors(&self, theta: f32, rotary_dim: usize) -> Vec<f32> {
        let divisor = |i: usize| {
            let exponent = (2 * i) as f32 / rotary_dim as f32;
            let frequency = 1.0 / libm::pow(f64::from(theta), f64::from(exponent)) as f32;
            let wavelength = 2.0 * std::f32::consts::PI / frequency;
            if wavelength < self.original_context / self.high_freq_factor {
                1.0
            } else if wavelength > self.original_context / self.low_freq_factor {
                self.factor
            } else {
                let smooth = (self.original_context / wavelength - self.low_freq_factor)
                    / (self.high_freq_factor - self.low_freq_factor);
                1.0 / ((1.0 - smooth) / self.factor + smooth)
            }
        };
        (0..rotary_dim / 2).map(divisor).collect()
    }
}
