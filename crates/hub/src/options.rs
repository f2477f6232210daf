//! What a pull may do and how patient it is.

use std::fmt;
use std::time::Duration;

use crate::cancel::Cancel;

/// A secret for a hub. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token without surrounding white space; nothing if that leaves nothing.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Settings of a pull.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Never touch the network.
    pub offline: bool,
    /// Read a model that is already here and pull it again if its digest is not that of its manifest.
    pub verify: bool,
    /// Sent to `hf_endpoint` and nowhere else.
    pub hf_token: Option<Token>,
    /// Base URL of Hugging Face or a mirror of it.
    pub hf_endpoint: String,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the next bytes.
    pub read_timeout: Duration,
    /// How often to try again, without progress in between, after a fault that may pass.
    pub retries: u32,
    /// The wait before the first of these; it doubles each time.
    pub retry_wait: Duration,
    /// Free space in bytes to leave on the disk.
    pub keep_free: u64,
    /// Ways to start the package client, in the order of trying.
    pub pip_commands: Vec<Vec<String>>,
    /// How long the package client may go without a new byte before it is stopped.
    pub pip_stall: Duration,
    /// Stops the pull from another thread.
    pub cancel: Cancel,
}

impl PullOptions {
    /// Where models are on Hugging Face itself.
    pub const HUGGING_FACE: &'static str = "https://huggingface.co";
}

impl Default for PullOptions {
    fn default() -> Self {
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        PullOptions {
            offline: false,
            verify: false,
            hf_token: None,
            hf_endpoint: Self::HUGGING_FACE.to_owned(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            retries: 4,
            retry_wait: Duration::from_millis(500),
            keep_free: 64 << 20,
            pip_commands: vec![
                command(&["python3", "-m", "pip"]),
                command(&["python", "-m", "pip"]),
                command(&["pip3"]),
                command(&["pip"]),
            ],
            pip_stall: Duration::from_secs(300),
            cancel: Cancel::default(),
        }
    }
}

impl PullOptions {
    /// The defaults with `HF_TOKEN` and `HF_ENDPOINT` taken from the environment. Proxies (`HTTPS_PROXY`, `ALL_PROXY`,
    /// `NO_PROXY`) and certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`) are read from there in any case.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        PullOptions {
            hf_token: set("HF_TOKEN").as_deref().and_then(Token::new),
            hf_endpoint: set("HF_ENDPOINT").map_or(Self::HUGGING_FACE.to_owned(), |text| text.trim().to_owned()),
            ..PullOptions::default()
        }
    }
}
