//! What a task file may say, and what its hash stands for.

use std::path::Path;

use bantam_tasks::Task;

use crate::fake::parse;

const CLASSIFY: &str = "name = 'topic'\nkind = 'classify'\nmodel = 'small'\ninstructions = 'Say it.'\n\
    [classify]\nlabels = ['billing', { name = 'delivery', description = 'parcels' }]\n";
const FIELDS: &str = "name = 'order'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\nrequired = ['n']\n\
    [fields.schema.properties]\nn = { type = 'integer' }\n";

fn refused(text: &str) -> String {
    match parse(text) {
        Err(error) => error,
        Ok(task) => panic!("taken: {text}\n{task:?}"),
    }
}

#[test]
fn what_cannot_work_names_the_key_and_the_fix() {
    let labels = |labels: &str| format!("name = 't'\nkind = 'classify'\n[classify]\nlabels = {labels}\n");
    let path = |labels: &str| format!("name = 't'\nkind = 'classify'\n[classify]\nmode = 'path'\nlabels = {labels}\n");
    let many: Vec<String> = (0..201).map(|i| format!("'l{i}'")).collect();
    let schema = |schema: &str| format!("name = 't'\nkind = 'fields'\n[fields]\nschema = {schema}\n");
    let with = |base: &str, top: &str| format!("{top}\n{base}");
    for (text, parts) in [
        ("name = ".to_owned(), &["task.toml", "line 1"][..]),
        ("kind = 'classify'".to_owned(), &["name"]),
        (with(CLASSIFY, "colour = 'red'"), &["colour"]),
        (CLASSIFY.replace("labels =", "label ="), &["label"]),
        (CLASSIFY.replace("description = 'parcels'", "meaning = 'parcels'"), &["a label is a text, or a table"]),
        (CLASSIFY.replace("'classify'", "'label'"), &["label", "classify"]),
        (CLASSIFY.replace("'topic'", "'Topic'"), &["name", "lower-case"]),
        (CLASSIFY.replace("'topic'", "'../topic'"), &["name", "lower-case"]),
        (CLASSIFY.replace("kind = 'classify'", "kind = 'fields'"), &["kind", "[fields]"]),
        ("name = 't'\nkind = 'classify'\n".to_owned(), &["kind", "[classify]"]),
        (format!("{CLASSIFY}[fields]\nschema = {{}}\n"), &["kind", "[classify]", "no [fields]"]),
        (with(CLASSIFY, "candidates = ['b']"), &["candidates", "leave one out"]),
        (labels("['a', 'a']"), &["classify.labels[1]", "'a' is the same label as classify.labels[0]"]),
        (labels("['Straße', 'b', 'STRASSE', 'B']"), &["classify.labels[3]", "same label as classify.labels[1]"]),
        (labels("['a']"), &["classify.labels", "must be 2 to 200 labels, and are 1"]),
        (labels("[]"), &["classify.labels", "2 to 200"]),
        (labels(&format!("[{}]", many.join(","))), &["classify.labels", "are 201"]),
        (labels("['a', ' b']"), &["classify.labels[1]", "space"]),
        (labels("['a', '']"), &["classify.labels[1]", "empty"]),
        (labels(&format!("['a', '{}']", "x".repeat(121))), &["classify.labels[1]", "121 characters; 120"]),
        (path("['a/b', 'a/c', 'A']"), &["classify.labels[2]", "'A' is the beginning of classify.labels[0]"]),
        (path("['a/b', 'a//c']"), &["classify.labels[1]", "no path"]),
        (path("['a/b', 'c']\nnone = 'a'"), &["classify.none", "beginning"]),
        (labels("['a', 'b']\nnone = 'A'"), &["classify.none", "is one of the labels"]),
        (labels("['a', 'b']\nmode = 'many'\nnone = 'c'"), &["classify.none", "empty list"]),
        (labels("['a', 'b']\nmode = 'some'"), &["some", "path"]),
        (schema("{ type = 'array' }"), &["fields.schema", "object"]),
        (schema("{ type = 'object', properties = { a = { '$ref' = 'https://x.test/a' } } }"), &["outside", "$defs"]),
        (schema("{ type = 'object', properties = { a = { type = 'nothing' } } }"), &["fields.schema", "no valid"]),
        (schema("'missing.json'"), &["missing.json"]),
        (format!("{FIELDS}[fields]\nmax_tokens = 0\n").replace("[fields.schema]\n", "[fields.schema]\n"), &["fields"]),
        (
            with(FIELDS, "").replace("[fields.schema]", "[fields]\nmax_tokens = 0\n[fields.schema]"),
            &["max_tokens", "at least 1"],
        ),
        (format!("{FIELDS}[[checks]]\nfield = 'm'\nrequired = true\n"), &["checks[0]", "'m'"]),
        (format!("{CLASSIFY}[[checks]]\nfield = 'm'\nrequired = true\n"), &["checks", "kind 'fields'"]),
        (format!("{FIELDS}[[examples]]\ninput = 'x'\nanswer = {{ n = 'y' }}\n"), &["examples[0].answer", "/n"]),
        (format!("{CLASSIFY}[[examples]]\ninput = 'x'\nanswer = 'Billing'\n"), &["examples[0].answer", "'Billing'"]),
        (
            format!("{CLASSIFY}[[examples]]\ninput = {{ txt = 'x' }}\nanswer = 'billing'\n"),
            &["examples[0].input", "'text'"],
        ),
        (format!("{CLASSIFY}[[examples]]\ninput = 5\nanswer = 'billing'\n"), &["an example's input is a text"]),
        (
            with(CLASSIFY, "input = ['a', 'b']") + "[[examples]]\ninput = 'x'\nanswer = 'billing'\n",
            &["examples[0].input", "a, b"],
        ),
        (
            format!("{CLASSIFY}{}", "[[examples]]\ninput = 'x'\nanswer = 'billing'\n".repeat(65)),
            &["examples", "64", "task fit"],
        ),
        (with(CLASSIFY, "input = []"), &["input", "1 to 16"]),
        (with(CLASSIFY, "input = ['a', 'a']"), &["input[1]", "twice"]),
        (with(CLASSIFY, "server = 'localhost:80'"), &["server", "http://"]),
        (with(FIELDS, "server = 'http://localhost/v1'"), &["model", "missing"]),
        (with(CLASSIFY, "api_key_env = 'KEY'"), &["api_key_env", "'server'"]),
        (format!("{CLASSIFY}[accept]\nconfidence = 1.5\n"), &["accept.confidence", "1.5"]),
        (format!("{CLASSIFY}[accept]\nconfidence = nan\n"), &["accept.confidence", "NaN"]),
        (format!("{CLASSIFY}[accept]\nconfidence = 0.5\notherwise = 'drop'\n"), &["drop", "review"]),
    ] {
        let error = refused(&text);
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}\n{text}");
        }
    }
}

#[test]
fn schemas_that_go_round_in_circles_end() {
    let endless = "name = 't'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\n[fields.schema.properties]\n\
        a = { '$ref' = '#/$defs/x' }\n[fields.schema.'$defs']\nx = { '$ref' = '#/$defs/x' }\n";
    // Taken or refused, the process lives and the example below is judged.
    let example = "[[examples]]\ninput = 'x'\nanswer = { a = 1 }\n";
    let _ = (parse(endless), parse(&format!("{endless}{example}")));
    let tree = "name = 't'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\nrequired = ['n']\n\
        [fields.schema.properties]\nn = { type = 'integer' }\nnext = { '$ref' = '#' }\n";
    let answers = |answer: &str| parse(&format!("{tree}[[examples]]\ninput = 'x'\nanswer = {answer}\n"));
    assert!(answers("{ n = 1, next = { n = 2, next = { n = 3 } } }").is_ok());
    assert!(answers("{ n = 1, next = { next = { n = 3 } } }").unwrap_err().contains("/next"));
}

#[test]
fn the_hash_changes_with_what_decides_an_answer_and_with_nothing_else() {
    let base = parse(CLASSIFY).unwrap();
    let same_hash = [
        CLASSIFY.replace("'small'", "'large'"),
        format!("description = 'What.'\n{}", CLASSIFY.replace("model = 'small'", "candidates = ['a']")),
        format!("server = 'http://x.test/v1'\n{CLASSIFY}"),
        format!("# A remark.\n{}", CLASSIFY.replace("labels =", "mode = 'one'\nlabels   =")),
        CLASSIFY.replace("'billing'", "{ name = 'billing' }").replace("'Say it.'", "'''\n Say it. '''"),
        format!("{CLASSIFY}[accept]\nconfidence = 0\notherwise = 'review'\n"),
    ];
    for text in same_hash {
        let task = parse(&text).unwrap();
        assert_eq!((&task.hash, &task.definition), (&base.hash, &base.definition), "{text}");
    }
    let accept = parse(&format!("{CLASSIFY}[accept]\nconfidence = 0.5\n")).unwrap();
    assert!(accept.hash != base.hash && accept.definition == base.definition);
    let checked = parse(&format!("{FIELDS}[[checks]]\nfield = 'n'\nrequired = true\n")).unwrap();
    let fields = parse(FIELDS).unwrap();
    assert!(checked.hash != fields.hash && checked.definition == fields.definition);

    let other = [
        CLASSIFY.replace("'topic'", "'topics'"),
        CLASSIFY.replace("Say it.", "Say it!"),
        CLASSIFY.replace("parcels", "letters"),
        CLASSIFY.replace("'billing', ", "'bills', "),
        CLASSIFY.replace("[classify]", "[classify]\nnone = 'x'"),
        CLASSIFY.replace("[classify]", "[classify]\nmode = 'many'"),
        format!("input = ['title', 'text']\n{CLASSIFY}"),
        format!("{CLASSIFY}[[examples]]\ninput = 'x'\nanswer = 'billing'\n"),
    ];
    let mut hashes = vec![base.definition.clone(), fields.definition];
    hashes.extend(other.iter().map(|text| parse(text).unwrap().definition));
    hashes.push(parse(&FIELDS.replace("'integer'", "'number'")).unwrap().definition);
    hashes.sort();
    let n = hashes.len();
    hashes.dedup();
    assert_eq!(hashes.len(), n);
}

#[test]
fn files_beside_the_task_are_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("order.toml");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("order.toml", "name = 'order'\nkind = 'fields'\n[fields]\nschema = 'order.json'\n");
    write("order.json", r#"{"type": "object", "properties": {"n": {"type": "integer"}}}"#);
    let first = Task::open(&path).unwrap();
    assert_eq!(first.fitted, dir.path().join("order.fit.json"));
    write("order.json", r#"{"type": "object", "properties": {"n": {"type": "number"}}}"#);
    let other = Task::open(&path).unwrap();
    assert!(first.definition != other.definition);
    write("order.fit.json", "{}");
    let fitted = Task::open(&path).unwrap();
    assert!(fitted.hash != other.hash && fitted.definition == other.definition);
    write("order.json", "{");
    assert!(Task::open(&path).unwrap_err().to_string().contains("order.json: is not JSON"));
    write("order.json", &" ".repeat(1 << 21));
    assert!(Task::open(&path).unwrap_err().to_string().contains("more than"));
    write("order.toml", "\u{feff}");
    assert!(Task::open(&path).is_err());
    std::fs::write(&path, b"name = '\xff'").unwrap();
    assert!(Task::open(&path).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_directory_has_each_name_once() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Task::open_dir(Path::new("/nonexistent")).unwrap().is_empty());
    std::fs::write(dir.path().join("b.toml"), CLASSIFY).unwrap();
    std::fs::write(dir.path().join("a.toml"), FIELDS).unwrap();
    std::fs::write(dir.path().join("notes.md"), "x").unwrap();
    let names: Vec<String> = Task::open_dir(dir.path()).unwrap().into_iter().map(|task| task.name).collect();
    assert_eq!(names, ["order", "topic"]);
    std::fs::write(dir.path().join("c.toml"), CLASSIFY).unwrap();
    assert!(Task::open_dir(dir.path()).unwrap_err().to_string().contains("same name"));
}
