//! Keys, headers and addresses: what is sent, what is not, and what is refused.

use std::io::Write;

use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::mock::{Mock, MockConfig};
use bantam_providers::preset::Preset;
use bantam_providers::target::{PlainHttp, Target, TargetConfig};
use bantam_providers::wire::Api;
use hyper::HeaderMap;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{LONG, ask, chat, config, mock, plan, upstreams};

#[tokio::test]
async fn keys_are_sent_as_the_preset_says_and_never_printed() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "sk-very-secret").unwrap();
    for (preset, header, value) in [
        ("vllm", "authorization", "Bearer sk-very-secret"),
        ("anthropic", "x-api-key", "sk-very-secret"),
        ("azure", "api-key", "sk-very-secret"),
    ] {
        let keyed = MockConfig { key: Some("sk-very-secret".into()), keep: 10, ..MockConfig::default() };
        let mock = Mock::start(keyed).await.unwrap();
        let mut target = config("a", &mock);
        target.preset = preset.into();
        target.key_file = Some(file.path().to_owned());
        let resolved = target.resolve().unwrap();
        let upstreams = upstreams(&[target.clone()]);
        let api = if preset == "anthropic" { Api::Messages } else { Api::Chat };
        let outgoing =
            |target: &Target| -> Result<Outbound, Refusal> { Ok(Outbound { api, ..chat(target, &json!({})) }) };
        let call =
            Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline: Instant::now() + LONG, trace: None };
        let answer = upstreams.call(&plan(&upstreams, "a"), call).await.unwrap();
        assert_eq!(answer.status, 200, "{preset}");
        assert_eq!(mock.seen()[0].headers[header], value);
        for printed in [format!("{target:?}"), format!("{resolved:?}"), format!("{upstreams:?}"), format!("{answer:?}")]
        {
            assert!(!printed.contains("very-secret"), "{printed}");
        }
    }
}

#[tokio::test]
async fn a_callers_credentials_and_connection_headers_are_not_passed_on() {
    let mock = mock("").await;
    let mut target = config("a", &mock);
    target.headers.insert("x-team".into(), "ours".into());
    let upstreams = upstreams(&[target]);
    let outgoing = |target: &Target| -> Result<Outbound, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer bt-virtual-key"),
            ("x-api-key", "bt-virtual-key"),
            ("cookie", "session=1"),
            ("host", "elsewhere.example"),
            ("transfer-encoding", "chunked"),
            ("connection", "upgrade"),
            ("x-forwarded-for", "10.1.2.3"),
            ("x-team", "theirs"),
            ("x-request-id", "42"),
            ("openai-beta", "one"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        Ok(Outbound { headers, ..chat(target, &json!({})) })
    };
    let call = Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline: Instant::now() + LONG, trace: None };
    upstreams.call(&plan(&upstreams, "a"), call).await.unwrap();
    let seen = mock.seen().remove(0).headers;
    for gone in ["authorization", "x-api-key", "cookie", "transfer-encoding", "connection", "x-forwarded-for"] {
        assert!(!seen.contains_key(gone), "{gone}");
    }
    assert_eq!(seen["host"], mock.address().to_string());
    assert_eq!(
        (&seen["x-team"], &seen["x-request-id"], &seen["openai-beta"]),
        (&"ours".parse().unwrap(), &"42".parse().unwrap(), &"one".parse().unwrap())
    );
}

#[tokio::test]
async fn azure_has_its_deployment_and_version_in_the_address() {
    let mock = mock("").await;
    let mut target = config("a", &mock);
    target.preset = "azure".into();
    target.base_url = Some(mock.base_url().replace("/v1", "/"));
    target.model = "my gpt/4".into();
    let upstreams = upstreams(&[target]);
    ask(&upstreams, &plan(&upstreams, "a"), "").await.unwrap();
    assert_eq!(mock.seen()[0].path, "/openai/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21");
}

#[test]
fn every_preset_makes_a_target() {
    let all = Preset::all().unwrap();
    for name in [
        "openai",
        "anthropic",
        "azure",
        "gemini",
        "together",
        "groq",
        "fireworks",
        "mistral",
        "deepseek",
        "openrouter",
        "vllm",
        "tgi",
        "ollama",
        "llama-cpp",
        "tensorrt-llm",
        "bentoml",
        "bantam",
    ] {
        let mut target = TargetConfig::new("a", name, "m");
        if all[name].base_url.is_none() {
            let error = target.resolve().unwrap_err().to_string();
            assert!(error.contains("base_url"), "{error}");
            target.base_url = Some("http://127.0.0.1:9/v1".into());
        }
        if all[name].health.is_some() {
            target.health = Some(Default::default());
        }
        let target = target.resolve().unwrap();
        assert!(target.has(Api::Chat) || target.has(Api::Messages), "{name}");
        assert!(target.preset.base_url.as_ref().is_none_or(|url| url.starts_with("https://") || name == "ollama"));
    }
}

#[test]
fn an_address_without_a_path_gets_the_presets() {
    let base = |preset: &str, url: &str| {
        let target = TargetConfig { base_url: Some(url.into()), ..TargetConfig::new("a", preset, "m") };
        target.resolve().unwrap().base_url().to_string()
    };
    assert_eq!(base("vllm", "http://10.0.0.5:8000"), "http://10.0.0.5:8000/v1");
    assert_eq!(base("vllm", "http://10.0.0.5:8000/"), "http://10.0.0.5:8000/v1");
    assert_eq!(base("vllm", "http://10.0.0.5:8000/models/v1"), "http://10.0.0.5:8000/models/v1");
    assert_eq!(base("groq", "https://ours.example"), "https://ours.example/openai/v1");
    assert_eq!(base("anthropic", "https://ours.example"), "https://ours.example/");
}

#[test]
fn wrong_fields_are_named() {
    let change = |change: &dyn Fn(&mut TargetConfig)| {
        let mut target = TargetConfig::new("a", "vllm", "m");
        target.base_url = Some("http://10.0.0.5:8000/v1".into());
        change(&mut target);
        target.resolve().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(change(&|_| {}), Ok(()));
    assert_eq!(change(&|t| t.base_url = Some("http://[fd00::1]:8000".into())), Ok(()));
    assert_eq!(change(&|t| t.base_url = Some("http://vllm.internal:8000/v1".into())), Ok(()));
    type Change = dyn Fn(&mut TargetConfig);
    let wrong: [(&str, &Change); 15] = [
        ("preset: there is none called 'vlm'", &|t| t.preset = "vlm".into()),
        ("base_url: 8.8.8.8 is a public address", &|t| t.base_url = Some("http://8.8.8.8/v1".into())),
        ("base_url: 169.254.169.254 is a public", &|t| t.base_url = Some("http://169.254.169.254/".into())),
        ("base_url: ::ffff:8.8.8.8 is a public", &|t| t.base_url = Some("http://[::ffff:8.8.8.8]/".into())),
        ("base_url: it starts with https://", &|t| t.base_url = Some("ftp://10.0.0.5/".into())),
        ("base_url: it starts with https://", &|t| t.base_url = Some("10.0.0.5:8000".into())),
        ("base_url: it holds a login", &|t| t.base_url = Some("https://me:secret@host/v1".into())),
        ("base_url: parameters", &|t| t.base_url = Some("https://host/v1?key=1".into())),
        ("weight:", &|t| t.weight = 0),
        ("limits:", &|t| t.limits.in_flight = 0),
        ("timeouts:", &|t| t.timeouts.idle = std::time::Duration::ZERO),
        ("key_env: the environment variable BANTAM_NO_SUCH_KEY", &|t| t.key_env = Some("BANTAM_NO_SUCH_KEY".into())),
        ("key_file: /nowhere/key:", &|t| t.key_file = Some("/nowhere/key".into())),
        ("headers: x y:", &|t| drop(t.headers.insert("x y".into(), "1".into()))),
        ("paths: 'chat' does not begin with /", &|t| drop(t.paths.insert(Api::Chat, "chat".into()))),
    ];
    for (message, make) in wrong {
        let error = change(make).unwrap_err();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert_eq!(
        change(&|t| {
            t.base_url = Some("http://8.8.8.8/v1".into());
            t.plain_http = PlainHttp::Anywhere;
        }),
        Ok(())
    );
}

#[test]
fn configuration_is_read_strictly() {
    let text = r#"
        name = "gpt"
        preset = "openai"
        model = "gpt-4.1-mini"
        weight = 2
        timeouts = { connect = 1.5, total = 30 }
        limits = { in_flight = 8, queue_wait = 0.5 }
        attributes = { region = "eu", retention = "none" }
        health = { path = "/v1/models" }
    "#;
    let target: TargetConfig = toml::from_str(text).unwrap();
    let target = target.resolve().unwrap();
    assert_eq!((target.timeouts.connect.as_millis(), target.timeouts.idle.as_secs()), (1500, 60));
    assert_eq!((target.limits.in_flight, target.attributes["region"].as_str()), (8, "eu"));
    for wrong in ["key = \"sk-1\"", "timeuots = {}", "timeouts = { conect = 1 }", "timeouts = { connect = -1 }"] {
        let text = format!("name = \"a\"\npreset = \"openai\"\nmodel = \"m\"\n{wrong}\n");
        assert!(toml::from_str::<TargetConfig>(&text).is_err(), "{wrong}");
    }
}
