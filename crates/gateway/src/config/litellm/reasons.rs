//! Why keys of LiteLLM's have no equal here.

/// What is said of a key that nothing more is known about.
const UNKNOWN: &str = "has no equal here and is left out";

/// Keys, wherever they stand, with what is to be known about them.
const REASONS: [(&str, &str); 69] = [
    ("include", "other files are not read; import each of them"),
    ("environment_variables", "values may be secrets and are not copied: set them in the environment of the process"),
    ("guardrails", "LiteLLM's guardrails are programs; [policy] decides what may leave, over what pii finds"),
    ("policies", "LiteLLM's guardrails are programs; [policy] decides what may leave, over what pii finds"),
    ("policy_attachments", "LiteLLM's guardrails are programs; [policy] decides what may leave, over what pii finds"),
    ("mcp_servers", "there is no MCP gateway"),
    ("mcp_tools", "there is no MCP gateway"),
    ("agent_list", "there is no gateway of agents"),
    ("search_tools", "tools are the client's; none are run here"),
    ("sandbox_tools", "tools are the client's; none are run here"),
    ("websearch_interception_params", "tools are the client's; none are run here"),
    ("code_interpreter_interception_params", "tools are the client's; none are run here"),
    ("mcp_semantic_tool_filter", "there is no MCP gateway"),
    ("disable_end_user_cost_tracking_prometheus_only", "metrics have no end users"),
    ("vector_store_registry", "there are no vector stores"),
    ("prompts", "there is no prompt management"),
    ("assistant_settings", "there is no assistants API"),
    ("files_settings", "there is no files API"),
    ("finetune_settings", "there is no fine-tuning API"),
    ("pass_through_endpoints", "only the APIs that are recorded are served"),
    (
        "callbacks",
        "metrics (Prometheus) are built in, traces (OpenTelemetry) with `--features otel`, requests are in the ledger; nothing else is called",
    ),
    (
        "success_callback",
        "metrics (Prometheus) are built in, traces (OpenTelemetry) with `--features otel`, requests are in the ledger; nothing else is called",
    ),
    (
        "failure_callback",
        "metrics (Prometheus) are built in, traces (OpenTelemetry) with `--features otel`, requests are in the ledger; nothing else is called",
    ),
    (
        "service_callback",
        "metrics (Prometheus) are built in, traces (OpenTelemetry) with `--features otel`, requests are in the ledger; nothing else is called",
    ),
    (
        "otel",
        "traces need a build with `--features otel`, and are configured in the environment (OTEL_EXPORTER_OTLP_ENDPOINT)",
    ),
    ("cache", "answers are not cached; models that run here share what prompts have in common"),
    ("cache_params", "answers are not cached; models that run here share what prompts have in common"),
    ("redis_host", "state is in the ledger; no Redis is needed"),
    ("redis_port", "state is in the ledger; no Redis is needed"),
    ("redis_password", "state is in the ledger; no Redis is needed"),
    ("redis_url", "state is in the ledger; no Redis is needed"),
    ("coordination_redis", "state is in the ledger; no Redis is needed"),
    ("use_redis_transaction_buffer", "state is in the ledger; no Redis is needed"),
    (
        "drop_params",
        "cannot be chosen: requests are translated for servers of another API and passed on as they are to others",
    ),
    (
        "modify_params",
        "cannot be chosen: requests are translated for servers of another API and passed on as they are to others",
    ),
    ("set_verbose", "say BANTAM_LOG=debug instead"),
    ("json_logs", "say it with `bantam serve --log-format json`"),
    ("telemetry", "there is none to switch off"),
    ("context_window_fallbacks", "a prompt that is too long is answered with that error and not sent elsewhere"),
    ("content_policy_fallbacks", "an answer that a provider refuses is passed on and not asked for elsewhere"),
    ("default_team_settings", "there are keys, but no teams"),
    ("enable_tag_filtering", "targets are chosen by weight and load, not by tags; give a route of its own to each"),
    ("tags", "targets are chosen by weight and load, not by tags; give a route of its own to each"),
    ("enable_pre_call_checks", "routes are not narrowed by a prompt's length"),
    ("allowed_fails", "a circuit breaker with its own rule takes targets out that keep failing"),
    ("cooldown_time", "a circuit breaker with its own rule takes targets out that keep failing"),
    (
        "retry_policy",
        "which faults are tried again is fixed: connections, time limits, 408, 429 and 5xx, before the first byte",
    ),
    ("stream_timeout", "streams have first_byte_timeout_ms like other answers, and idle_timeout_ms between pieces"),
    ("api_version", "the azure preset names the version that is asked for"),
    ("custom_auth", "keys are kept in the ledger; no program is asked"),
    ("enable_jwt_auth", "there are keys, but no JWTs"),
    ("litellm_jwtauth", "there are keys, but no JWTs"),
    ("store_model_in_db", "models are in bantam.toml alone, which SIGHUP reads again"),
    (
        "store_prompts_in_spend_logs",
        "whether texts are kept is said by bodies in [ledger]; nothing is kept unless it is said there",
    ),
    ("disable_prisma_schema_update", "the ledger has a schema of its own"),
    ("mock_response", "made-up answers come from `bantam mock`"),
    ("temperature", "requests are passed on with what the client says; nothing is put in"),
    ("max_tokens", "requests are passed on with what the client says; nothing is put in"),
    ("max_new_tokens", "requests are passed on with what the client says; nothing is put in"),
    ("extra_body", "requests are passed on with what the client says; nothing is put in"),
    ("extra_headers", "requests are passed on with what the client says; nothing is put in"),
    ("organization", "the preset sends no organisation; it is the key's own"),
    ("model_info", "is about LiteLLM's own list of models"),
    ("id", "targets are known by provider and model"),
    ("mode", "what a model does is asked of its provider"),
    ("base_model", "prices are looked up by the model's name; give another under [[prices.models]]"),
    ("adaptive_router_preferences", "[auto] is what routes here, trained with `bantam route train`"),
    ("adaptive_router_config", "[auto] is what routes here, trained with `bantam route train`"),
    ("include_cost_in_streaming_usage", "what a request cost is in the headers x-bantam-* and the ledger"),
];

/// Why a key is not taken over.
pub(super) fn reason(key: &str) -> &'static str {
    if key.starts_with("supports_") || key.starts_with("max_input") || key.starts_with("max_output") {
        return "what a model can do is asked of its provider";
    }
    if key.starts_with("aws_") || key.starts_with("vertex_") || key.starts_with("s3_") {
        return "belongs to a provider that there is no preset for";
    }
    REASONS.iter().find(|(name, _)| *name == key).map_or(UNKNOWN, |(_, why)| *why)
}
