//! Hostile templates end with a typed error, soon and in little memory.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_formats::template::{ChatInput, ChatTemplate, TemplateError, TemplateTokens};
use serde_json::{Value, json};

fn render(source: &str) -> Result<String, TemplateError> {
    let messages = [json!({"role": "user", "content": "hi"})];
    ChatTemplate::new(source, TemplateTokens::default())?.render(&ChatInput::new(&messages))
}

#[track_caller]
fn assert_limited(source: &str) {
    let found = render(source).map(|text| text.len());
    assert!(matches!(found, Err(TemplateError::Limit { .. })), "{found:?}");
}

#[test]
fn loops_end() {
    assert_limited("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}");
    assert_limited("{% for a in range(100000) %}{% for b in range(1000) %}{{ a * b }}{% endfor %}{% endfor %}");
    assert!(matches!(render("{{ range(10 ** 9) }}"), Err(TemplateError::Failed { .. })));
    assert!(matches!(render("{{ range(10 ** 30) }}"), Err(TemplateError::Failed { .. })));
    assert_limited("{% for a in range(99999) %}{{ range(99999) | list | length }}{% endfor %}");
}

#[test]
fn text_does_not_grow_without_end() {
    assert_limited("{{ 'a' * 10 ** 9 }}");
    assert_limited("{{ 'a' * 10 ** 30 }}");
    let doubled =
        |step: &str| format!("{{% set ns = namespace(x='xx') %}}{{% for i in range(90) %}}{step}{{% endfor %}}");
    assert_limited(&doubled("{% set ns.x = ns.x ~ ns.x %}"));
    assert_limited(&doubled("{% set ns.x = ns.x + ns.x %}"));
    assert_limited(&doubled("{% set ns.x = ns.x | replace('', ns.x) %}"));
    assert_limited(&doubled("{% set ns.x = ns.x.replace('x', 'xx') %}"));
    assert_limited(&doubled("{% set ns.x = ns.x.join([ns.x, ns.x]) %}"));
    assert_limited(&doubled("{% set ns.x = [ns.x, ns.x] | join(ns.x) %}"));
    assert_limited(&doubled("{% set ns.x = '%s%s' % (ns.x, ns.x) %}"));
    assert_limited(&doubled("{% set ns.x = '{0}{0}'.format(ns.x) %}"));
    assert_limited(&doubled("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"));
    assert_limited(&doubled("{% set ns.x = ns.x | indent(ns.x, true) %}"));
    assert_limited("{{ 'a'.center(10 ** 12) }}");
    assert_limited("{{ 'a'.zfill(10 ** 30) }}");
    assert_limited("{{ 'a' | center(10 ** 12) }}");
    assert_limited(
        "{% for i in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                    {% for j in range(1000) %}bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb{% endfor %}{% endfor %}",
    );
}

#[test]
fn lists_do_not_grow_without_end() {
    assert_limited("{{ [0] * 10 ** 12 }}");
    let doubled =
        |step: &str| format!("{{% set ns = namespace(x=[1, 2]) %}}{{% for i in range(300) %}}{step}{{% endfor %}}");
    assert_limited(&doubled("{% set ns.x = ns.x + ns.x %}"));
    assert_limited(&doubled("{% set ns.x = ns.x * 2 %}"));
    assert_limited(&doubled("{% set ns.x = [ns.x] %}"));
    assert_limited(&doubled("{% set ns.x = {'a': ns.x} %}"));
    assert_limited(&doubled("{% set ns.x = [ns.x.count] %}"));
    // A tree of shared halves is small until somebody walks it.
    let tree = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    assert!(render(tree).is_ok());
    for walk in ["{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x | string | length }}", "{{ ns.x ~ '' }}"] {
        assert_limited(&format!("{tree}{walk}"));
    }
    let two = tree.replace("ns", "other");
    assert_limited(&format!("{tree}{two}{{{{ ns.x == other.x }}}}"));
    assert_limited(&format!("{tree}{two}{{{{ ns.x < other.x }}}}"));
    assert_limited(&format!("{tree}{two}{{{{ ns.x in [other.x] }}}}"));
    assert_limited("{{ [1, 2, 3] | batch(10 ** 12, 0) | list }}");
    assert_limited("{{ [1, 2, 3] | slice(10 ** 12) | list }}");
}

#[test]
fn recursion_ends() {
    assert_limited("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    assert_limited(
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% if true %}{{ a() }}{% endif %}{% endmacro %}{{ a() }}",
    );
    assert_limited("{% macro m(x) %}{{ m([x]) ~ [m(x), (1 + (2 * m(x)))] }}{% endmacro %}{{ m(1) }}");
    assert_limited("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}");
    assert_limited(
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}{% endcall %}",
    );
    let deep = "{% macro m(n) %}{{ m(n - 1) if n else 'end' }}{% endmacro %}{{ m(40) }}";
    assert_eq!(render(deep).unwrap(), "end");
}

#[test]
fn deep_source_is_refused() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("-", ""),
        ("not ", ""),
        ("{1:", "}"),
        ("a(", ")"),
        ("a[", "]"),
        ("x is in (", ")"),
        ("1 if 1 else ", ""),
    ] {
        assert_limited(&format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000)));
    }
    assert_limited(&format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000)));
    // Python's grammar has no `a if b if c`; what Jinja reads there nobody writes.
    assert!(matches!(render(&format!("{{{{ {}1 }}}}", "1 if ".repeat(20_000))), Err(TemplateError::Syntax { .. })));
    assert_limited(&"x".repeat(300 << 10));
    // Chains are as long as they like.
    for chain in ["1 + ", "1 or ", "1 and ", "1 ~ ", "1 < "] {
        assert!(render(&format!("{{{{ {}1 }}}}", chain.repeat(20_000))).is_ok(), "{chain}");
    }
    assert!(render(&format!("{{{{ 'x'{} }}}}", "|upper".repeat(20_000))).is_ok());
    assert!(render(&format!("{{{{ 'x'{} }}}}", "[0]".repeat(20_000))).is_ok());
}

#[test]
fn long_conversations_are_rendered() {
    let messages: Vec<Value> = (0..20_000)
        .map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "x".repeat(200)}))
        .collect();
    let source =
        "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] | trim }}<|im_end|>\n{% endfor %}";
    let template = ChatTemplate::new(source, TemplateTokens::default()).unwrap();
    assert!(template.render(&ChatInput::new(&messages)).unwrap().len() > 20_000 * 200);
    let one = [json!({"role": "user", "content": "é".repeat(5 << 20)})];
    assert!(template.render(&ChatInput::new(&one)).unwrap().len() > 10 << 20);
}

#[test]
fn deep_conversations_are_refused() {
    let mut content = json!("x");
    for _ in 0..1000 {
        content = json!([content]);
    }
    let messages = [json!({"role": "user", "content": content})];
    let template = ChatTemplate::new("{{ messages }}", TemplateTokens::default()).unwrap();
    assert!(matches!(
        template.render(&ChatInput::new(&messages)),
        Err(TemplateError::Failed { .. } | TemplateError::Limit { .. })
    ));
}

#[test]
fn order_of_what_cannot_be_ordered_does_not_panic() {
    let nan = "{% set nan = 'nan' | float %}";
    for use_nan in [
        "{{ [3, nan, 1, nan, 2] * 50 | sort }}",
        "{{ ([3, nan, 1, nan, 2] * 50) | sort | length }}",
        "{{ [nan, 1] | max }}",
        "{{ nan | int }}",
        "{{ nan | round }}",
    ] {
        let _ = render(&format!("{nan}{use_nan}"));
    }
    assert!(matches!(render("{{ ([1, 'a', none] * 50) | sort }}"), Err(TemplateError::Failed { .. })));
}

#[test]
fn names_choose_among_templates() {
    let sources =
        [("default", "d"), ("tool_use", "t"), ("rag", "r")].map(|(name, source)| (name.to_owned(), source.to_owned()));
    let template = ChatTemplate::with_names(sources, TemplateTokens::default()).unwrap();
    let input = ChatInput::default();
    let tools = [json!({})];
    assert_eq!(template.render(&input).unwrap(), "d");
    assert_eq!(template.render(&ChatInput { tools: Some(&tools), ..input.clone() }).unwrap(), "t");
    assert_eq!(template.render(&ChatInput { name: Some("rag"), ..input.clone() }).unwrap(), "r");
    let error = template.render(&ChatInput { name: Some("x"), ..input }).unwrap_err();
    assert_eq!(error.to_string(), "the model has no chat template named `x`; it has default, rag, tool_use");
}

#[test]
fn faults_name_the_line() {
    let error = render("a\n\n{% if true %}\n  {{ messages[0].nope.x }}\n{% endif %}").unwrap_err();
    assert_eq!(error.to_string(), "the chat template fails at line 4: dict has no `nope`");
    let error = render("a\n{% if %}").unwrap_err();
    assert_eq!(error.to_string(), "the chat template is broken at line 2: expected an expression, found `%}`");
    let error = render("{{ raise_exception('Only users!') }}").unwrap_err();
    assert!(matches!(error, TemplateError::Raised { message } if message == "Only users!"));
}
