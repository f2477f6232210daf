//! Progress on standard error: bars for a terminal, lines for a log, JSON lines on standard output for a program.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bantam_hub::{Event, Progress, human_bytes, human_duration};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::cli::Globals;
use crate::output;

/// How often a log that is no terminal gets a line.
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(15);

/// Shows how a pull goes.
pub(crate) struct PullProgress {
    bar: ProgressBar,
    style: Style,
    last_log: Cell<Option<Instant>>,
}

/// Who reads the progress of a pull.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Terminal,
    Log,
    Json,
    Quiet,
}

/// Who reads the result of the command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person, or the command's own JSON must stay the only thing on standard output.
    Person,
    /// A program that wants each step as a JSON line.
    Program,
}

impl PullProgress {
    pub(crate) fn new(globals: &Globals, reader: Reader) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = match reader {
            _ if globals.quiet => Style::Quiet,
            Reader::Program => Style::Json,
            Reader::Person if bar.is_hidden() => Style::Log,
            Reader::Person => Style::Terminal,
        };
        if style == Style::Terminal {
            bar.set_style(bar_style("{spinner} {msg} ({elapsed})"));
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        PullProgress { bar, style, last_log: Cell::new(None) }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn note(&self, text: &str) {
        match self.style {
            Style::Terminal => self.bar.suspend(|| eprintln!("{text}")),
            Style::Log => eprintln!("{text}"),
            Style::Json | Style::Quiet => {}
        }
    }

    fn json(&self, event: &Event<'_>) {
        let line = match event {
            Event::Waiting { name } => json!({"event": "waiting", "model": name}),
            Event::Trying { source } => json!({"event": "trying", "source": source}),
            Event::Bytes { done, total, rate, left } => json!({
                "event": "progress", "done_bytes": done, "total_bytes": total,
                "bytes_per_second": rate.round(), "seconds_left": left.map(|left| left.as_secs()),
            }),
            Event::Retrying { error, wait } => {
                json!({"event": "retrying", "error": error.to_string(), "wait_seconds": wait.as_secs_f64()})
            }
            Event::Failed { source, error } => {
                json!({"event": "failed", "source": source, "error": error.to_string(), "hint": error.hint()})
            }
            Event::Checking => json!({"event": "checking"}),
            _ => return,
        };
        // A reader that does not read on does not stop the pull.
        let _ = output::print_json(&line);
    }

    fn bytes(&self, done: u64, total: Option<u64>, rate: f64, left: Option<Duration>) {
        let mut text = human_bytes(done);
        if let Some(total) = total {
            text += &format!(" of {}", human_bytes(total));
        }
        if rate >= 1.0 {
            text += &format!(", {}/s", human_bytes(rate as u64));
        }
        if let Some(left) = left {
            text += &format!(", {} left", human_duration(left));
        }
        if self.style == Style::Terminal {
            if let Some(total) = total {
                self.bar.set_style(bar_style("{spinner} [{bar:32}] {percent:>3}% {msg}"));
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            self.bar.set_message(text);
        } else if self.last_log.get().is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            // The first tick says nothing yet.
            if self.last_log.replace(Some(Instant::now())).is_some() {
                self.note(&format!("  {text}"));
            }
        }
    }
}

impl Progress for PullProgress {
    fn event(&self, event: Event<'_>) {
        if self.style == Style::Json {
            return self.json(&event);
        }
        match event {
            Event::Waiting { name } => {
                self.note(&format!("another process is pulling {name}; waiting for it"));
                self.bar.set_message("waiting");
            }
            Event::Trying { source } => {
                self.note(&format!("pulling from {source}"));
                self.bar.set_style(bar_style("{spinner} {msg} ({elapsed})"));
                self.bar.reset();
                self.bar.set_message("connecting");
            }
            Event::Bytes { done, total, rate, left } => self.bytes(done, total, rate, left),
            Event::Retrying { error, wait } => {
                self.note(&format!("  {error}; trying again in {:.1} s", wait.as_secs_f64()));
            }
            Event::Failed { error, .. } => {
                // The whole text comes at the end, if no other source works.
                self.note(&format!("  did not work: {}", error.to_string().lines().next().unwrap_or_default()));
            }
            Event::Checking => self.bar.set_message("checking"),
            _ => {}
        }
    }
}

/// A bar over windows of a text.
pub(crate) fn windows(globals: &Globals) -> ProgressBar {
    counting(globals, "{spinner} [{bar:32}] {pos}/{len} windows, {eta} left")
}

/// A bar over texts.
pub(crate) fn texts(globals: &Globals, n: u64) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} texts, {per_sec}, {eta} left");
    bar.set_length(n);
    bar
}

/// A bar over answers that are computed again.
pub(crate) fn answers(globals: &Globals, n: u64) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} answers, {eta} left");
    bar.set_length(n);
    bar
}

/// A bar over the rows of a table.
pub(crate) fn rows(globals: &Globals, n: u64) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} rows, {msg}, {eta} left");
    bar.set_length(n);
    bar
}

/// A bar over questions; the message says what becomes of them.
pub(crate) fn questions(globals: &Globals, n: u64, what: &'static str) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} questions {msg}, {eta} left").with_message(what);
    bar.set_length(n);
    bar
}

/// A bar over the candidates of a pilot, one after another; the prefix says what is being done.
pub(crate) fn candidates(globals: &Globals) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} {msg}: {prefix} ({elapsed})");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar over a share, in thousandths.
pub(crate) fn share(globals: &Globals) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {percent:>3}% {msg} ({elapsed})");
    bar.set_length(1000);
    bar
}

/// A bar over the runs of a benchmark.
pub(crate) fn runs(globals: &Globals, n: u64) -> ProgressBar {
    let bar = counting(globals, "{spinner} [{bar:32}] {pos}/{len} runs, {msg}");
    bar.set_length(n);
    bar
}

/// A bar over the reading of a model.
pub(crate) fn loading(globals: &Globals, name: &str) -> ProgressBar {
    counting(globals, "{spinner} [{bar:32}] {percent:>3}% loading {msg}").with_message(name.to_owned())
}

fn counting(globals: &Globals, template: &str) -> ProgressBar {
    let target = if globals.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    bar.set_style(bar_style(template));
    bar
}

fn bar_style(template: &str) -> ProgressStyle {
    // A broken template would be a slip in this file; the plain bar still works then.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
