//! A word is replaced in every stream as it would be in the whole answer, however it is cut.

use bantam_providers::wire::rewrite::{Pieces, Rewriter};
use bantam_providers::wire::texts::{Extent, Kind, Place};
use bantam_providers::wire::{Api, SseEvent, Stream};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::round_trips::{completion_of, message_of, response_of};
use crate::streams::options;

const WORD: &str = "<NAME>";
const NAME: &str = "Ann \"A\" Ö";

/// Puts the name back for the word, and holds back what may be the word's beginning.
struct Restore {
    held: String,
    name: String,
}

impl Restore {
    fn new(place: Place) -> Option<Self> {
        let escaped = Value::from(NAME).to_string();
        let name = match place.extent {
            Extent::JsonDelta => escaped[1..escaped.len() - 1].to_owned(),
            _ => NAME.to_owned(),
        };
        (place.kind != Kind::Reasoning).then(|| Self { held: String::new(), name })
    }
}

impl Pieces for Restore {
    fn push(&mut self, piece: &str) -> String {
        let text = (std::mem::take(&mut self.held) + piece).replace(WORD, &self.name);
        let held = (1..WORD.len()).rev().find(|len| text.ends_with(&WORD[..*len])).unwrap_or(0);
        let (out, held) = text.split_at(text.len() - held);
        self.held = held.to_owned();
        out.to_owned()
    }
    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

fn rewritten(events: Vec<SseEvent>, api: Api) -> Vec<SseEvent> {
    let mut rewriter = Rewriter::new(api, Restore::new);
    let mut out = Vec::new();
    events.into_iter().for_each(|event| rewriter.push(event, &mut out));
    rewriter.finish(&mut out);
    out
}

proptest! {
    #[test]
    fn words_are_replaced_as_in_the_whole(
        said in "(a|ö|<|<NA|<NAME>){1,6}",
        thought in "(b|<NAME>|<N){0,3}",
        inputs in prop::collection::vec("(c|<NAME>|<NAM){0,4}", 0..3),
        step in 1_usize..9,
        last_with_end in any::<bool>(),
    ) {
        let chunk = |delta: Value| json!({"id": "chatcmpl-1", "created": 3, "model": "m", "choices": [{"index": 0, "delta": delta}]});
        let cut = |text: &str| -> Vec<String> {
            text.chars().collect::<Vec<_>>().chunks(step).map(|c| c.iter().collect()).collect()
        };
        let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}))];
        chunks.extend(cut(&thought).into_iter().map(|p| chunk(json!({"reasoning_content": p}))));
        chunks.extend(cut(&said).into_iter().map(|p| chunk(json!({"content": p}))));
        for (i, input) in inputs.iter().enumerate() {
            chunks.push(chunk(json!({"tool_calls": [{"index": i, "id": format!("c{i}"), "type": "function",
                                                     "function": {"name": "f", "arguments": ""}}]})));
            let arguments = json!({"x": input}).to_string();
            chunks.extend(cut(&arguments).into_iter().map(
                |p| chunk(json!({"tool_calls": [{"index": i, "function": {"arguments": p}}]}))));
        }
        let finish = if inputs.is_empty() { "stop" } else { "tool_calls" };
        if last_with_end {
            chunks.last_mut().unwrap()["choices"][0]["finish_reason"] = finish.into();
        } else {
            let mut end = chunk(json!({}));
            end["choices"][0]["finish_reason"] = finish.into();
            chunks.push(end);
        }
        let said = said.replace(WORD, NAME);
        let inputs: Vec<Value> = inputs.iter().map(|input| json!({"x": input.replace(WORD, NAME)})).collect();
        for to in [Api::Chat, Api::Messages, Api::Responses] {
            let mut stream = Stream::new(Api::Chat, to, options()).unwrap();
            let mut events = Vec::new();
            for chunk in &chunks {
                stream.push(&SseEvent::data(chunk.to_string()), &mut events).unwrap();
            }
            stream.push(&SseEvent::data("[DONE]"), &mut events).unwrap();
            let events = rewritten(events, to);
            let (got_said, got_thought, got_inputs): (Value, Value, Vec<Value>) = match to {
                Api::Chat => {
                    let message = completion_of(&events)["message"].clone();
                    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
                    (message["content"].clone(), message["reasoning_content"].clone(),
                     calls.iter().map(|c| serde_json::from_str(c["function"]["arguments"].as_str().unwrap()).unwrap()).collect())
                }
                Api::Messages => {
                    let blocks = message_of(&events)["content"].clone();
                    let all = |kind: &str, key: &str| blocks.as_array().unwrap().iter()
                        .filter(|b| b["type"] == kind).map(|b| b[key].clone()).collect::<Vec<_>>();
                    (all("text", "text").first().cloned().unwrap_or_default(),
                     all("thinking", "thinking").first().cloned().unwrap_or_default(), all("tool_use", "input"))
                }
                _ => {
                    let numbers: Vec<u64> = events.iter()
                        .map(|e| serde_json::from_str::<Value>(&e.data).unwrap()["sequence_number"].as_u64().unwrap()).collect();
                    prop_assert_eq!(&numbers, &(0..numbers.len() as u64).collect::<Vec<_>>());
                    // What the pieces say is what the last event says.
                    let deltas: String = events.iter().map(|e| serde_json::from_str::<Value>(&e.data).unwrap())
                        .filter(|e| e["type"] == "response.output_text.delta").map(|e| e["delta"].as_str().unwrap().to_owned()).collect();
                    prop_assert_eq!(&deltas, &said);
                    let output = response_of(&events)["output"].clone();
                    let all = |kind: &str| output.as_array().unwrap().iter().filter(|i| i["type"] == kind).cloned().collect::<Vec<_>>();
                    (all("message")[0]["content"][0]["text"].clone(),
                     all("reasoning").first().map(|r| r["summary"][0]["text"].clone()).unwrap_or_default(),
                     all("function_call").iter().map(|c| serde_json::from_str(c["arguments"].as_str().unwrap()).unwrap()).collect())
                }
            };
            prop_assert_eq!(got_said, said.as_str(), "{}", to);
            prop_assert_eq!(got_thought.as_str().unwrap_or_default(), &thought, "{}", to);
            prop_assert_eq!(got_inputs, inputs.clone(), "{}", to);
        }
    }
}
