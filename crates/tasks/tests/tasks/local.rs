//! The real engine, tokenizer and templates, over a model of bytes.

use std::sync::Arc;
use std::time::Duration;

use bantam_engine::{Engine, EngineConfig};
use bantam_formats::{ChatTemplate, TemplateTokens};
use bantam_tasks::model::LocalModel;
use bantam_tasks::{RowError, Runner, Task, TaskResult};

use crate::fake::task;
use crate::toy::{self, Toy};

fn model(template: Option<&str>) -> LocalModel {
    let tokenizer = Arc::new(toy::tokenizer());
    let toy = Toy::new(Arc::clone(&tokenizer), 2048, Duration::ZERO);
    LocalModel {
        id: "toy".into(),
        fingerprint: "toy-1".into(),
        engine: Engine::with_backend(Box::new(toy), EngineConfig { queue_len: 8, ..EngineConfig::default() }).unwrap(),
        tokenizer,
        template: template.map(|source| Arc::new(ChatTemplate::new(source, TemplateTokens::default()).unwrap())),
    }
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn run(model: &LocalModel, task: &Arc<Task>, texts: &[&str]) -> Vec<Result<TaskResult, RowError>> {
    let rows: Vec<Vec<String>> = texts.iter().map(|text| vec![(*text).to_owned()]).collect();
    Runner::generating(Arc::clone(task), model, None).unwrap().run(&rows)
}

fn topic(instructions: &str) -> Arc<Task> {
    task(&format!(
        "name = 't'\nkind = 'classify'\ninstructions = '{instructions}'\n[classify]\nlabels = ['ab', 'abc', 'x']\n\
         [[examples]]\ninput = 'an input'\nanswer = 'abc'\n"
    ))
}

#[test]
fn rows_answer_alone_as_together_with_and_without_a_template() {
    let path = task(
        "name = 't'\nkind = 'classify'\n[classify]\nmode = 'path'\nlabels = ['a/b', 'a/c', 'd']\n[accept]\nconfidence = 0.9\n",
    );
    let many = task(
        "name = 't'\nkind = 'classify'\n[classify]\nmode = 'many'\nlabels = ['a, b', 'c']\n[[examples]]\ninput = 'x'\nanswer = ['a, b']\n",
    );
    let fields = task(
        "name = 't'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\nrequired = ['k', 'b']\nadditionalProperties = false\n\
         [fields.schema.properties]\nk = { enum = ['one', 'two'] }\nb = { type = 'boolean' }\n",
    );
    // More rows than the queue takes at one time.
    let texts: Vec<String> = (0..30).map(|n| format!("text {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for model in [model(Some(CHATML)), model(None)] {
        for task in [&topic("Say it."), &path, &many, &fields] {
            let stable = |outcome: Result<TaskResult, RowError>| {
                let mut result = outcome.unwrap();
                (result.latency_ms, result.usage.cached_tokens) = (0.0, 0);
                assert!((0.0..=1.0).contains(&result.confidence.unwrap()), "{result:?}");
                result
            };
            let together: Vec<_> = run(&model, task, &texts).into_iter().map(stable).collect();
            for (text, together) in texts.iter().zip(&together) {
                assert_eq!(&stable(run(&model, task, &[text]).remove(0)), together);
            }
        }
    }
}

#[test]
fn what_reads_like_special_tokens_in_an_input_is_text() {
    let model = model(Some(CHATML));
    let results = run(&model, &topic("Say it."), &["0123456789", "<|im_end|>", "[0]<1>"]);
    let results: Vec<TaskResult> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results[0].usage.prompt_tokens, results[1].usage.prompt_tokens, "ten bytes are ten tokens");
    let flags: Vec<usize> = results.iter().map(|result| result.flags.len()).collect();
    assert_eq!(flags, [0, 1, 0]);
    assert_eq!(results[1].flags, ["special_tokens_in_input"]);
}

#[test]
fn a_template_that_knows_no_system_role_still_says_the_instructions() {
    let tokens = |template: &str, instructions: &str| {
        run(&model(Some(template)), &topic(instructions), &["x"]).remove(0).unwrap().usage.prompt_tokens
    };
    let passes_over = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}");
    let refuses = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
    );
    for template in [CHATML, &passes_over, &refuses] {
        let (short, long) = (tokens(template, "Say."), tokens(template, &"Say. ".repeat(20)));
        assert_eq!(long - short, 19 * 5, "{template}");
    }
    let silent = "{% for m in messages %}{{ m.role }}{% endfor %}";
    let error = Runner::generating(topic("Say it."), &model(Some(silent)), None).unwrap_err().to_string();
    assert!(error.contains("toy: its chat template does not say the user's text"), "{error}");
}

#[test]
fn what_does_not_fit_and_what_is_cut_are_errors_of_their_row() {
    let model = model(Some(CHATML));
    let long = "word ".repeat(500);
    let outcomes = run(&model, &topic("Say it."), &["x", &long, "y"]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(outcomes[1], Err(RowError::TooLong { tokens, max }) if tokens > max), "{outcomes:?}");
    let cut = task(
        "name = 't'\nkind = 'fields'\n[fields]\nmax_tokens = 3\n[fields.schema]\ntype = 'object'\nrequired = ['a']\n\
         [fields.schema.properties]\na = { type = 'string', minLength = 9 }\n",
    );
    assert_eq!(run(&model, &cut, &["x"]), [Err(RowError::Cut { tokens: 3 })]);
}
