//! What LiteLLM calls providers, as presets of ours.

/// How a provider of LiteLLM is reached from here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Server {
    /// The preset.
    pub(super) preset: &'static str,
    /// Where it is, if the preset does not know and LiteLLM does.
    pub(super) base_url: Option<&'static str>,
    /// The environment variable that LiteLLM takes its key from, if the file names none.
    pub(super) key_env: Option<&'static str>,
    /// What stands after the address that LiteLLM is given, up to where the preset's paths begin.
    pub(super) suffix: &'static str,
}

const fn known(preset: &'static str, key_env: &'static str) -> Server {
    Server { preset, base_url: None, key_env: Some(key_env), suffix: "" }
}

const fn compatible(base_url: &'static str, key_env: &'static str) -> Server {
    Server { preset: COMPATIBLE, base_url: Some(base_url), key_env: Some(key_env), suffix: "" }
}

const fn own(preset: &'static str, suffix: &'static str) -> Server {
    Server { preset, base_url: None, key_env: None, suffix }
}

/// The preset of servers about which no more is known than that they have OpenAI's API.
pub(super) const COMPATIBLE: &str = "openai-compatible";

const SERVERS: [(&str, Server); 37] = [
    ("openai", known("openai", "OPENAI_API_KEY")),
    ("text-completion-openai", known("openai", "OPENAI_API_KEY")),
    ("anthropic", known("anthropic", "ANTHROPIC_API_KEY")),
    ("azure", known("azure", "AZURE_API_KEY")),
    ("azure_text", known("azure", "AZURE_API_KEY")),
    ("gemini", known("gemini", "GEMINI_API_KEY")),
    ("together_ai", known("together", "TOGETHERAI_API_KEY")),
    ("groq", known("groq", "GROQ_API_KEY")),
    ("fireworks_ai", known("fireworks", "FIREWORKS_AI_API_KEY")),
    ("mistral", known("mistral", "MISTRAL_API_KEY")),
    ("codestral", compatible("https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY")),
    ("deepseek", known("deepseek", "DEEPSEEK_API_KEY")),
    ("openrouter", known("openrouter", "OPENROUTER_API_KEY")),
    ("xai", compatible("https://api.x.ai/v1", "XAI_API_KEY")),
    ("perplexity", compatible("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY")),
    ("deepinfra", compatible("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY")),
    ("cerebras", compatible("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY")),
    ("sambanova", compatible("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY")),
    ("nvidia_nim", compatible("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY")),
    ("voyage", compatible("https://api.voyageai.com/v1", "VOYAGE_API_KEY")),
    ("cohere", compatible("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY")),
    ("cohere_chat", compatible("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY")),
    ("moonshot", compatible("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY")),
    ("nebius", compatible("https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY")),
    ("hyperbolic", compatible("https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY")),
    ("novita", compatible("https://api.novita.ai/v3/openai", "NOVITA_API_KEY")),
    ("hosted_vllm", own("vllm", "")),
    ("vllm", own("vllm", "")),
    ("ollama", own("ollama", "/v1")),
    ("ollama_chat", own("ollama", "/v1")),
    ("huggingface", own("tgi", "/v1")),
    ("lm_studio", own(COMPATIBLE, "")),
    ("llamafile", own(COMPATIBLE, "")),
    ("litellm_proxy", own(COMPATIBLE, "")),
    ("custom_openai", own(COMPATIBLE, "")),
    ("openai_like", own(COMPATIBLE, "")),
    ("azure_ai", own(COMPATIBLE, "")),
];

/// Why some cannot be.
const UNREACHABLE: [(&str, &str); 8] = [
    ("bedrock", "requests to Bedrock are signed with AWS keys in Amazon's own way, which there is no preset for"),
    (
        "bedrock_converse",
        "requests to Bedrock are signed with AWS keys in Amazon's own way, which there is no preset for",
    ),
    (
        "vertex_ai",
        "requests to Vertex AI need Google Cloud's own sign-in, which there is no preset for; gemini has the same models with a key",
    ),
    ("sagemaker", "requests to SageMaker are signed with AWS keys in Amazon's own way, which there is no preset for"),
    ("watsonx", "watsonx has an API and a sign-in of its own, which there is no preset for"),
    ("replicate", "Replicate has an API of its own, which there is no preset for"),
    ("auto_router", "LiteLLM's own router; [auto] is what routes here, trained with `bantam route train`"),
    ("complexity_router", "LiteLLM's own router; [auto] is what routes here, trained with `bantam route train`"),
];

/// The server that a provider's name stands for.
pub(super) fn server(provider: &str) -> Result<Server, String> {
    if let Some((_, server)) = SERVERS.iter().find(|(name, _)| *name == provider) {
        return Ok(*server);
    }
    let why = UNREACHABLE.iter().find(|(name, _)| *name == provider).map(|(_, why)| (*why).to_owned());
    Err(why.unwrap_or_else(|| format!("no preset is known for the provider '{provider}'; add it under [[providers]]")))
}

/// The provider of a model's name and the name that it has there, as LiteLLM tells them apart.
pub(super) fn provider_of(model: &str) -> (String, String) {
    if let Some((prefix, rest)) = model.split_once('/') {
        let is_known = server(prefix).is_ok() || UNREACHABLE.iter().any(|(name, _)| *name == prefix);
        // A name with a slash that is nobody's: `mistralai/mistral-7b` is told by nothing but itself.
        if is_known || by_name(model).is_none() {
            return (prefix.to_owned(), rest.to_owned());
        }
    }
    (by_name(model).unwrap_or_default().to_owned(), model.to_owned())
}

/// Whose a bare name is.
fn by_name(model: &str) -> Option<&'static str> {
    const BEGINNINGS: [(&str, &str); 14] = [
        ("gpt-", "openai"),
        ("ft:gpt-", "openai"),
        ("chatgpt-", "openai"),
        ("o1", "openai"),
        ("o3", "openai"),
        ("o4", "openai"),
        ("text-embedding-", "openai"),
        ("text-davinci-", "openai"),
        ("davinci-", "openai"),
        ("babbage-", "openai"),
        ("claude-", "anthropic"),
        ("command-", "cohere"),
        ("gemini-", "vertex_ai"),
        ("deepseek-", "deepseek"),
    ];
    BEGINNINGS.iter().find(|(beginning, _)| model.starts_with(beginning)).map(|(_, provider)| *provider)
}
