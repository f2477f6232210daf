//! The interactive chat of `bantam run`.

use bantam_engine::SubmitError;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cmd::run::{RunArgs, Show, chat_prompt, generate};
use crate::exit;
use crate::load::Loaded;

const HELP: &str = "\
/help            this text
/system TEXT     set the system message and start over
/clear           forget the conversation
/exit            leave (so does Ctrl-D)
Ctrl-C           stop the answer; drop the line; twice, leave
A line that ends in \\ goes on in the next one.";

pub(crate) fn run(loaded: &Loaded, args: &RunArgs, globals: &Globals) -> anyhow::Result<()> {
    // Says at once, not after the first line was typed, that this model cannot chat.
    chat_prompt(loaded, &[json!({"role": "user", "content": "."})])?;

    let config = Config::builder().max_history_size(1000)?.history_ignore_space(true).auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config)?;
    let history = loaded.data_dir.join("history");
    // A missing or unreadable history is an empty one.
    let _ = editor.load_history(&history);

    if !globals.quiet {
        eprintln!("{}: {}. /help lists the commands.", loaded.id, loaded.description);
    }
    let mut system = args.system.clone();
    let mut messages = fresh(system.as_deref());
    let mut interrupted = false;
    loop {
        let line = match read(&mut editor) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) if !interrupted => {
                eprintln!("Ctrl-C again (or Ctrl-D) leaves.");
                interrupted = true;
                continue;
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
            Err(error) => return Err(error.into()),
        };
        interrupted = false;
        let line = line.trim();
        match line.split_once(' ').map_or((line, ""), |(command, rest)| (command, rest.trim())) {
            ("", _) => continue,
            ("/exit" | "/quit" | "/bye", "") => break,
            ("/help" | "/?", "") => {
                eprintln!("{HELP}");
                continue;
            }
            ("/clear", "") => {
                messages = fresh(system.as_deref());
                continue;
            }
            ("/system", text) => {
                system = (!text.is_empty()).then(|| text.to_owned());
                messages = fresh(system.as_deref());
                continue;
            }
            // A path is no command.
            (command, _) if command.starts_with('/') && command[1..].chars().all(char::is_alphabetic) => {
                eprintln!("{command} is not a command; /help lists them.");
                continue;
            }
            _ => messages.push(json!({"role": "user", "content": line})),
        }

        let outcome = chat_prompt(loaded, &messages)
            .and_then(|ids| generate(loaded, args.sampling.request(ids), Show { text: true }));
        match outcome {
            Ok(answer) => {
                if !globals.quiet {
                    eprintln!("{}", answer.summary());
                }
                messages.push(json!({"role": "assistant", "content": answer.text}));
            }
            Err(error) => {
                eprintln!("error: {}", exit::message(&error));
                if matches!(error.downcast_ref(), Some(SubmitError::TooLong { .. })) {
                    eprintln!("The conversation has become too long; /clear begins a new one.");
                }
                messages.pop();
            }
        }
    }
    if let Err(error) = editor.save_history(&history) {
        eprintln!("note: the history could not be saved to {}: {error}", history.display());
    }
    Ok(())
}

fn fresh(system: Option<&str>) -> Vec<Value> {
    system.map(|text| json!({"role": "system", "content": text})).into_iter().collect()
}

fn read(editor: &mut DefaultEditor) -> rustyline::Result<String> {
    let mut text = editor.readline("> ")?;
    while text.ends_with('\\') {
        text.pop();
        text.push('\n');
        text += &editor.readline("… ")?;
    }
    Ok(text)
}
