#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn import(text: &str) -> Imported {
    import_litellm(text, &|name| (name == "KNOWN_BASE").then(|| "http://10.0.0.7:8000/v1".to_owned())).unwrap()
}

fn noted<'a>(imported: &'a Imported, key: &str) -> Vec<&'a str> {
    imported.notes.iter().filter(|note| note.key == key).map(|note| note.what.as_str()).collect()
}

const WHOLE: &str = r#"
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/OPENAI_API_KEY
      rpm: 900
      temperature: 0.2
  - model_name: gpt-4o
    litellm_params:
      model: azure/my-deployment
      api_base: https://me.openai.azure.com/
      api_key: sk-very-secret-1
      api_version: "2024-02-01"
      timeout: 5
      max_retries: 4
      rpm: 300
    model_info: {id: one, supports_vision: true}
  - model_name: claude
    litellm_params: {model: claude-haiku-4-5, region_name: eu, max_parallel_requests: 8}
  - model_name: small
    litellm_params: {model: ollama/llama3.2, api_base: "http://me:very-secret-6@localhost:11434/"}
  - model_name: internal
    litellm_params:
      model: openai/qwen
      api_base: os.environ/KNOWN_BASE
      api_key: sk-very-secret-2
      input_cost_per_token: 0.0000004
      output_cost_per_token: "1.6e-06"
    tpm: 20_000
  - model_name: far
    litellm_params: {model: openai/x, api_base: "http://models.example.com/v1", api_key: sk-very-secret-1}
  - model_name: unset
    litellm_params: {model: openai/y, api_base: os.environ/NOT_SET}
  - model_name: bedrock-claude
    litellm_params: {model: bedrock/anthropic.claude-3, aws_region_name: us-east-1}
  - model_name: "openai/*"
    litellm_params: {model: openai/*, api_key: os.environ/OPENAI_API_KEY}
  - model_name: auto
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}
litellm_settings:
  drop_params: True
  num_retries: 2
  request_timeout: 120
  callbacks: [langfuse, prometheus]
  fallbacks: [{"gpt-4o": [claude, bedrock-claude]}]
  default_fallbacks: [small]
  context_window_fallbacks: [{"gpt-4o": ["claude"]}]
  max_budget: 100
  budget_duration: 30d
router_settings:
  routing_strategy: usage-based-routing-v2
  model_group_alias: {"gpt-4": gpt-4o, "gpt-3": {model: nobody, hidden: true}}
  redis_host: localhost
general_settings:
  background_health_checks: true
  health_check_interval: 60
  master_key: sk-very-secret-3
  database_url: postgresql://user:very-secret-4@host/db
environment_variables:
  LANGFUSE_SECRET: very-secret-5
made_up_key: 1
"#;

#[test]
fn what_has_an_equal_is_taken_over() {
    let config = import(WHOLE).config;
    let provider = |name: &str| config.providers.iter().find(|p| p.name == name).unwrap();
    let route = |name: &str| config.routes.iter().find(|r| r.name == name).unwrap();
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["gpt-4o", "claude", "small", "internal", "far", "unset", "gpt-4"]);
    let targets: Vec<_> =
        route("gpt-4o").targets.iter().map(|t| (t.provider.as_deref().unwrap(), &*t.model, t.weight)).collect();
    assert_eq!(targets, [("openai", "gpt-4o", 3), ("azure", "my-deployment", 1)], "shares by requests a minute");
    assert_eq!(route("gpt-4o").fallback, ["claude", "small"]);
    assert_eq!(route("small").fallback, [""; 0], "none to itself");
    assert_eq!(route("gpt-4").targets, route("gpt-4o").targets);

    assert_eq!(provider("openai").api_key.as_ref().unwrap().env.as_deref(), Some("OPENAI_API_KEY"));
    let azure = provider("azure");
    assert_eq!(
        (azure.base_url.as_deref(), azure.retries, azure.first_byte_timeout_ms),
        (Some("https://me.openai.azure.com"), Some(4), Some(5000))
    );
    let claude = provider("anthropic");
    assert_eq!(
        (claude.preset.as_str(), claude.region.as_deref(), claude.max_in_flight, claude.retries),
        ("anthropic", Some("eu"), Some(8), Some(2))
    );
    assert_eq!(claude.api_key.as_ref().unwrap().env.as_deref(), Some("ANTHROPIC_API_KEY"), "as LiteLLM finds it");
    assert_eq!(provider("ollama").base_url.as_deref(), Some("http://localhost:11434/v1"));
    let internal = provider("openai-2");
    assert_eq!(
        (internal.preset.as_str(), internal.base_url.as_deref(), internal.allow_http),
        ("openai-compatible", Some("http://10.0.0.7:8000/v1"), false)
    );
    assert!(provider("openai-3").allow_http);
    assert_eq!(provider("openai-4").base_url.as_deref(), Some("https://not-set.invalid"));
    assert_eq!(config.providers.len(), 7, "equal ones are one");
    assert!(config.providers.iter().all(|provider| provider.health_interval_s == Some(60)));

    let price = &config.prices.models[0];
    assert_eq!((price.name.as_str(), price.input_per_million, price.output_per_million), ("qwen", 0.4, 1.6));
    assert_eq!(
        (provider("openai").first_byte_timeout_ms, config.server.timeout_s),
        (Some(120_000), 600),
        "of each call"
    );
    assert_eq!((config.keys.required, config.keys.budget_per_month.as_deref()), (Some(true), Some("100.00")));
    assert_eq!(config.ledger.postgres.as_ref().unwrap().env.as_deref(), Some("BANTAM_DATABASE_URL"));
}

#[test]
fn a_provider_that_no_route_asks_is_left_out() {
    let alone = "model_list: [{model_name: '*', litellm_params: {model: 'openai/*'}}, {model_name: auto, litellm_params: {model: gpt-4o}}]";
    let imported = import(alone);
    assert!(imported.config.providers.is_empty() && imported.config.routes.is_empty());
    assert!(noted(&imported, "model_list[0].litellm_params.model")[0].contains("preset = \"openai\""));
    let long = import("litellm_settings: {request_timeout: 6000}").config.server.timeout_s;
    assert_eq!(long, 6000, "a request is not ended before the call it waits for");
}

#[test]
fn what_has_none_is_noted_with_its_reason() {
    let imported = import(WHOLE);
    for (key, part) in [
        ("model_list[0].litellm_params.temperature", "nothing is put in"),
        ("model_list[1].litellm_params.api_version", "version"),
        ("model_list[1].model_info.id", "provider and model"),
        ("model_list[3].litellm_params.api_base", "a login"),
        ("model_list[5].litellm_params.api_base", "allow_http"),
        ("model_list[6].litellm_params.api_base", "NOT_SET"),
        ("model_list[7].litellm_params.model", "AWS"),
        ("model_list[8].litellm_params.model", "openai/*"),
        ("model_list[9].litellm_params.model", "[auto]"),
        ("litellm_settings.fallbacks", "bedrock-claude"),
        ("litellm_settings.context_window_fallbacks", "too long"),
        ("litellm_settings.callbacks", "Prometheus"),
        ("router_settings.routing_strategy", "usage-based-routing-v2"),
        ("router_settings.model_group_alias.gpt-3", "nobody"),
        ("router_settings.redis_host", "Redis"),
        ("general_settings.master_key", "bantam key create"),
        ("general_settings.database_url", "of its own"),
        ("environment_variables", "environment"),
        ("made_up_key", "no equal"),
    ] {
        assert!(noted(&imported, key).iter().any(|what| what.contains(part)), "{key}: {:?}", noted(&imported, key));
    }
}

#[test]
fn no_secret_is_copied() {
    let imported = import(WHOLE);
    let all = format!("{} {:?}", toml::to_string(&imported.config).unwrap(), imported.notes);
    assert!(!all.contains("very-secret"), "{all}");
    let mut variables: Vec<&str> =
        convert::variables(&imported.config).iter().filter_map(|secret| secret.env.as_deref()).collect();
    variables.sort_unstable();
    let expected = [
        "ANTHROPIC_API_KEY",
        "AZURE_KEY",
        "AZURE_KEY",
        "BANTAM_DATABASE_URL",
        "LITELLM_MASTER_KEY",
        "OPENAI_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_KEY",
    ];
    assert_eq!(variables, expected, "equal secrets are one variable");
}

#[test]
fn wrong_shapes_are_named() {
    for (text, part) in [
        ("- a", "model_list"),
        ("model_list: 3", "model_list"),
        ("model_list: [3]", "model_list[0]"),
        ("model_list: [{litellm_params: {model: x}}]", "model_list[0].model_name"),
        ("model_list: [{model_name: x, litellm_params: {model: [1]}}]", "model_list[0].litellm_params.model"),
        ("model_list: [{model_name: x, litellm_params: {model: gpt-4o, timeout: soon}}]", "litellm_params.timeout"),
        ("litellm_settings: {num_retries: -1}", "litellm_settings.num_retries"),
        ("router_settings: {fallbacks: [a]}", "router_settings.fallbacks"),
        ("a: b: c", "YAML"),
    ] {
        let error = import_litellm(text, &|_| None).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(import("").config.routes.is_empty());
    assert!(noted(&import("model_list: [{model_name: x}]"), "model_list[0]")[0].contains("litellm_params"));
    let bomb = (1..30).fold("a0: &a0 [x, x, x, x]\n".to_owned(), |text, i| {
        let last = i - 1;
        text + &format!("a{i}: &a{i} [*a{last}, *a{last}, *a{last}, *a{last}]\n")
    });
    assert!(import_litellm(&bomb, &|_| None).is_err());
    assert!(matches!(import_litellm(&" ".repeat(MAX_BYTES + 1), &|_| None), Err(ImportError::TooLong { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A key that nobody knows is a note, wherever it stands, and what comes out can always be read.
    #[test]
    fn unknown_keys_are_never_dropped_in_silence(place in 0_usize..5, key in "[a-z]{3,12}", models in 1_usize..4) {
        let key = format!("x_{key}");
        let extra = |at: usize, indent: &str| if at == place { format!("{indent}{key}: 1\n") } else { String::new() };
        let mut text = extra(0, "");
        text += "model_list:\n";
        for i in 0..models {
            text += &format!("  - model_name: m{i}\n{}", extra(1, "    "));
            text += &format!("    litellm_params:\n      model: openai/m{i}\n{}", extra(2, "      "));
        }
        text += &format!("litellm_settings:\n  num_retries: 1\n{}", extra(3, "  "));
        text += &format!("router_settings:\n  timeout: 9\n{}", extra(4, "  "));
        let imported = import(&text);
        let found = imported.notes.iter().filter(|note| note.key.ends_with(&key)).map(|note| 1 + note.more).sum::<usize>();
        prop_assert_eq!(found, if matches!(place, 1 | 2) { models } else { 1 });
        prop_assert_eq!(imported.config.routes.len(), models);
    }
}
