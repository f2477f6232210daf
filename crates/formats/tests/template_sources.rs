//! Where chat templates come from: a GGUF file's metadata, or a `tokenizer_config.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_formats::gguf::{Gguf, GgufWriter};
use bantam_formats::template::{ChatInput, ChatTemplate, TemplateError};
use bantam_formats::tokenizer::Tokenizer;
use serde_json::{Value, json};

fn vocabulary() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer
        .set("general.architecture", "llama")
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "a"].as_slice())
        .set("tokenizer.ggml.scores", vec![0f32; 4])
        .set("tokenizer.ggml.token_type", vec![2i32, 3, 3, 1])
        .set("tokenizer.ggml.bos_token_id", 1u32)
        .set("tokenizer.ggml.eos_token_id", 2u32)
        .set("tokenizer.ggml.unknown_token_id", 0u32);
    writer
}

fn open(writer: &GgufWriter) -> (Gguf, Tokenizer) {
    let gguf = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    (gguf, tokenizer)
}

const SOURCE: &str = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}";

fn render(template: &ChatTemplate, name: Option<&str>) -> String {
    let messages = [json!({"role": "user", "content": "hi"})];
    template.render(&ChatInput { name, ..ChatInput::new(&messages) }).unwrap()
}

#[test]
fn gguf_metadata_gives_templates_and_tokens() {
    let mut writer = vocabulary();
    writer
        .set("tokenizer.chat_template", SOURCE)
        .set("tokenizer.chat_template.tool_use", "tools")
        .set("tokenizer.chat_templates", ["tool_use"].as_slice());
    let (gguf, tokenizer) = open(&writer);
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().unwrap();
    assert_eq!(render(&template, None), "<s>hi</s>False");
    assert_eq!(render(&template, Some("tool_use")), "tools");
    assert_eq!(template.names().collect::<Vec<_>>(), ["default", "tool_use"]);
    assert_eq!(template.source(), SOURCE);
}

#[test]
fn a_base_model_has_no_template() {
    let (gguf, tokenizer) = open(&vocabulary());
    assert!(ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().is_none());
}

#[test]
fn a_template_of_another_type_is_an_error() {
    let mut writer = vocabulary();
    writer.set("tokenizer.chat_template", 1u32);
    let (gguf, tokenizer) = open(&writer);
    let error = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap_err();
    assert!(error.to_string().contains("`tokenizer.chat_template` should be string"), "{error}");
}

#[test]
fn tokenizer_config_gives_templates() {
    let (_, tokenizer) = open(&vocabulary());
    let read = |config: Value| ChatTemplate::from_hf_config(&config, &tokenizer);
    assert_eq!(render(&read(json!({"chat_template": SOURCE})).unwrap().unwrap(), None), "<s>hi</s>False");
    let list = json!([{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]);
    let template = read(json!({"chat_template": list})).unwrap().unwrap();
    assert_eq!((render(&template, None), render(&template, Some("rag"))), ("d".into(), "r".into()));
    assert!(read(json!({})).unwrap().is_none());
    for bad in [json!(1), json!([1]), json!([{"name": "x"}])] {
        assert!(matches!(read(json!({"chat_template": bad})), Err(TemplateError::Config)));
    }
}
