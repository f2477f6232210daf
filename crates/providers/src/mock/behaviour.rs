//! How a mock behaves: delays and faults, written as `ttft=200~0.4,token=10,status=503,share=0.1`.

use std::str::FromStr;
use std::time::Duration;

/// What the parts of a behaviour mean, for help texts.
pub const BEHAVIOUR_HELP: &str = "\
ttft=MS            milliseconds to the first byte; 200~0.5 draws them log-normally, median 200, sigma 0.5
token=MS           milliseconds between two tokens of a stream, and for each token of a whole answer; may be drawn, too
tokens=N           tokens of an answer that is not recorded (default 16)
calls=N            how many tools are called where the request has tools and lets the model choose (default 1)
stamp              tokens of a stream are their time of sending, in nanoseconds since 1970, as t=NANOSECONDS
share=P            the fault meets this share of requests (default 1)
first=N            the fault meets only the first N requests that ask for it
retry-after=TEXT   header of answers with status=
faults, one of:
status=CODE        an error of this status, in the API's own form
html               502 with a page, as from a proxy
page               200 with a page
hang               no answer at all, the connection stays open
close              the connection is closed before an answer
cut=N              it is closed inside the event (or byte) after N tokens of a stream, or N bytes of a whole answer
stall=N            nothing comes any more after N tokens of a stream
slow=MS            every byte is sent by itself, so many milliseconds apart
garbage            bytes that are not HTTP
redirect           307 to another path
huge=BYTES         a body of so many bytes
lie                usage that has nothing to do with the answer
duplicate          every delta of a tool call twice
reorder            deltas of two tool calls in turn, the last call first
broken             events whose data is not JSON";

/// How long something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delay {
    /// Milliseconds, the median where they are drawn.
    pub millis: f64,
    /// Standard deviation of the logarithm; 0 draws nothing.
    pub sigma: f64,
}

impl Delay {
    /// One delay.
    #[must_use]
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> Duration {
        if self.millis <= 0.0 {
            return Duration::ZERO;
        }
        // Box and Muller's method; the logarithm's argument is above 0.
        let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
        let millis = self.millis * (self.sigma * normal).exp();
        Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(MAX_DELAY).min(MAX_DELAY)
    }
}

const MAX_DELAY: Duration = Duration::from_secs(3600);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MockFault {
    /// An error of this status.
    Status(u16),
    /// 502 with a page.
    Html,
    /// 200 with a page.
    Page,
    /// No answer.
    Hang,
    /// The connection is closed before an answer.
    Close,
    /// The connection is closed after so many tokens, or bytes of a whole answer.
    Cut(u32),
    /// Nothing comes after so many tokens.
    Stall(u32),
    /// One byte at a time, milliseconds apart.
    Slow(u32),
    /// Bytes that are not HTTP.
    Garbage,
    /// A redirect.
    Redirect,
    /// A body of so many bytes.
    Huge(u64),
    /// Wrong usage.
    Lie,
    /// Tool deltas twice.
    Duplicate,
    /// Tool deltas of several calls in turn, the last first.
    Reorder,
    /// Events that are not JSON.
    Broken,
}

/// How requests are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// To the first byte.
    pub ttft: Delay,
    /// Between tokens.
    pub token: Delay,
    /// Tokens of an answer that is not recorded.
    pub tokens: u32,
    /// Tools called where the request lets the model choose.
    pub calls: u32,
    /// Whether tokens are their time of sending.
    pub stamp: bool,
    /// What goes wrong.
    pub fault: Option<MockFault>,
    /// For which share of requests.
    pub share: f64,
    /// For how many requests.
    pub first: Option<u64>,
    /// `retry-after` of errors.
    pub retry_after: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            ttft: Delay::default(),
            token: Delay::default(),
            tokens: 16,
            calls: 1,
            stamp: false,
            fault: None,
            share: 1.0,
            first: None,
            retry_after: None,
        }
    }
}

/// A text that describes no behaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BehaviourError {
    /// A word that has no meaning.
    #[error(
        "'{key}' is no behaviour; there are ttft, token, tokens, calls, stamp, share, first, retry-after, status, html, page, hang, close, cut, stall, slow, garbage, redirect, huge, lie, duplicate, reorder, broken"
    )]
    Unknown {
        /// The word.
        key: String,
    },
    /// A value that cannot be.
    #[error("{key}: '{value}' is not {wanted}")]
    Value {
        /// The word before `=`.
        key: String,
        /// What follows.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
}

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Self, BehaviourError> {
        Behaviour::default().with(text)
    }
}

/// Most tokens of an answer, and most tools called in one.
const MAX_TOKENS: u32 = 1 << 20;
const MAX_CALLS: u32 = 64;
/// Most bytes of a body that is huge on purpose.
const MAX_HUGE: u64 = 1 << 34;

impl Behaviour {
    /// This behaviour with what a text changes.
    ///
    /// # Errors
    /// [`BehaviourError`], which names the part.
    pub fn with(mut self, text: &str) -> Result<Self, BehaviourError> {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            self.set(key, value)?;
        }
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BehaviourError> {
        let fault = |wanted| BehaviourError::Value { key: key.to_owned(), value: value.to_owned(), wanted };
        let number = |most: u64| {
            let number: Option<u64> = value.parse().ok();
            number.filter(|&n| n <= most).ok_or_else(|| fault("a whole number, or it is too large"))
        };
        let small = |most: u32| number(u64::from(most)).map(|n| n as u32);
        match key {
            "ttft" => self.ttft = delay(value).ok_or_else(|| fault("milliseconds such as 200 or 200~0.5"))?,
            "token" => self.token = delay(value).ok_or_else(|| fault("milliseconds such as 10 or 10~0.5"))?,
            "tokens" => self.tokens = small(MAX_TOKENS)?,
            "calls" => self.calls = small(MAX_CALLS)?,
            "stamp" => self.stamp = true,
            "share" => {
                let share: Option<f64> = value.parse().ok();
                self.share = share.filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| fault("a share from 0 to 1"))?;
            }
            "first" => self.first = Some(number(u64::MAX)?),
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "status" => {
                let status: Option<u16> = value.parse().ok();
                let status =
                    status.filter(|s| (400..600).contains(s)).ok_or_else(|| fault("a status from 400 to 599"))?;
                self.fault = Some(MockFault::Status(status));
            }
            "html" => self.fault = Some(MockFault::Html),
            "page" => self.fault = Some(MockFault::Page),
            "hang" => self.fault = Some(MockFault::Hang),
            "close" => self.fault = Some(MockFault::Close),
            "cut" => self.fault = Some(MockFault::Cut(small(u32::MAX)?)),
            "stall" => self.fault = Some(MockFault::Stall(small(u32::MAX)?)),
            "slow" => self.fault = Some(MockFault::Slow(small(60_000)?)),
            "garbage" => self.fault = Some(MockFault::Garbage),
            "redirect" => self.fault = Some(MockFault::Redirect),
            "huge" => self.fault = Some(MockFault::Huge(number(MAX_HUGE)?)),
            "lie" => self.fault = Some(MockFault::Lie),
            "duplicate" => self.fault = Some(MockFault::Duplicate),
            "reorder" => self.fault = Some(MockFault::Reorder),
            "broken" => self.fault = Some(MockFault::Broken),
            _ => return Err(BehaviourError::Unknown { key: key.to_owned() }),
        }
        Ok(())
    }
}

fn delay(text: &str) -> Option<Delay> {
    let (millis, sigma) = text.split_once('~').unwrap_or((text, "0"));
    let (millis, sigma): (f64, f64) = (millis.parse().ok()?, sigma.parse().ok()?);
    let fits = (0.0..=3_600_000.0).contains(&millis) && (0.0..=10.0).contains(&sigma);
    fits.then_some(Delay { millis, sigma })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_over_what_was() {
        let base: Behaviour = "ttft=200~0.5, token=10".parse().unwrap();
        let changed = base.with("status=503,share=0.25,first=2,retry-after=1,ttft=1").unwrap();
        let wanted = Behaviour {
            ttft: Delay { millis: 1.0, sigma: 0.0 },
            token: Delay { millis: 10.0, sigma: 0.0 },
            fault: Some(MockFault::Status(503)),
            share: 0.25,
            first: Some(2),
            retry_after: Some("1".into()),
            ..Behaviour::default()
        };
        assert_eq!(changed, wanted);
        for bad in ["what", "ttft", "ttft=-1", "ttft=NaN", "share=2", "status=200", "cut", "slow=99999999", "calls=65"]
        {
            let error = bad.parse::<Behaviour>().unwrap_err().to_string();
            assert!(error.contains(bad.split('=').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn every_word_of_the_help_is_known() {
        for line in BEHAVIOUR_HELP.lines().filter(|line| !line.ends_with(':')) {
            let word = line.split_whitespace().next().unwrap();
            let value = |key: &str| match key {
                "share" => "0.5",
                "status" => "500",
                _ => "7",
            };
            let text = word.split_once('=').map_or(word.to_owned(), |(key, _)| format!("{key}={}", value(key)));
            text.parse::<Behaviour>().unwrap();
        }
    }

    #[test]
    fn drawn_delays_have_their_median() {
        let mut random = fastrand::Rng::with_seed(7);
        let delay = Delay { millis: 100.0, sigma: 0.5 };
        let mut drawn: Vec<f64> = (0..4001).map(|_| delay.draw(&mut random).as_secs_f64() * 1000.0).collect();
        drawn.sort_by(f64::total_cmp);
        // 16th and 84th percentile are a sigma away.
        for (at, wanted) in [(0.159, 100.0 * (-0.5f64).exp()), (0.5, 100.0), (0.841, 100.0 * 0.5f64.exp())] {
            let found = drawn[(at * 4000.0) as usize];
            assert!((found / wanted - 1.0).abs() < 0.06, "{at}: {found} and not {wanted}");
        }
    }
}
