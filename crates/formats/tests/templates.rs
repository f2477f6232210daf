//! Chat templates against what Hugging Face renders; `fixtures/make_templates.py` writes the expectations.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_formats::template::{ChatInput, ChatTemplate, TemplateError, TemplateTokens};
use serde_json::{Map, Value};

struct Fixture {
    json: Value,
    tokens: TemplateTokens,
}

impl Fixture {
    fn load() -> Fixture {
        let json: Value = serde_json::from_str(include_str!("fixtures/templates.json")).unwrap();
        let token = |name: &str| json["tokens"][name].as_str().map(str::to_owned);
        let tokens = TemplateTokens {
            bos: token("bos_token"),
            eos: token("eos_token"),
            pad: token("pad_token"),
            unk: token("unk_token"),
        };
        Fixture { json, tokens }
    }

    fn render(&self, source: &str, variables: &Map<String, Value>) -> Result<String, TemplateError> {
        let mut extra = variables.clone();
        let messages = extra.remove("messages").unwrap();
        let tools = extra.remove("tools");
        let add_generation_prompt = extra.remove("add_generation_prompt") == Some(Value::Bool(true));
        let now = self.json["now"].as_str().unwrap().parse().unwrap();
        ChatTemplate::new(source, self.tokens.clone())?.render(&ChatInput {
            messages: messages.as_array().unwrap(),
            tools: tools.as_ref().map(|tools| tools.as_array().unwrap().as_slice()),
            add_generation_prompt,
            extra,
            now: Some(now),
            ..ChatInput::default()
        })
    }
}

/// What differs from the expectation, if anything.
fn difference(expected: &Value, found: Result<String, TemplateError>) -> Option<String> {
    let agrees = match &found {
        Ok(text) => expected["text"].as_str() == Some(text),
        Err(TemplateError::Raised { message }) => expected["raised"].as_str() == Some(message),
        Err(TemplateError::Failed { .. } | TemplateError::Syntax { .. }) => expected["fails"].is_string(),
        Err(_) => false,
    };
    let wanted = ["text", "raised", "fails"].iter().find_map(|key| Some(format!("{key} {:?}", expected.get(*key)?)));
    (!agrees).then(|| format!("wanted {}\n found {found:?}", wanted.unwrap_or_default()))
}

#[test]
fn families_render_as_hugging_face_does() {
    let fixture = Fixture::load();
    let mut wrong = Vec::new();
    let cases = fixture.json["cases"].as_array().unwrap();
    for case in cases {
        let (template, conversation) = (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let source = fixture.json["templates"][template].as_str().unwrap();
        let variables = fixture.json["conversations"][conversation].as_object().unwrap();
        if let Some(difference) = difference(case, fixture.render(source, variables)) {
            wrong.push(format!("{template} on {conversation}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn constructs_render_as_hugging_face_does() {
    let fixture = Fixture::load();
    let mut wrong = Vec::new();
    let snippets = fixture.json["snippets"].as_array().unwrap();
    let variables = fixture.json["snippet_variables"].as_object().unwrap();
    for snippet in snippets {
        let source = snippet["source"].as_str().unwrap();
        if let Some(difference) = difference(snippet, fixture.render(source, variables)) {
            wrong.push(format!("{source:?}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), snippets.len(), wrong.join("\n"));
}
