//! Questions with the right answer and the one that a strong model gave.

use serde::Deserialize;

/// Most bytes of a file of questions.
const MAX_BYTES: usize = 64 << 20;

/// Numbers that differ by no more than this share of the larger are the same.
const TOLERANCE: f64 = 1e-9;

/// The API that a question is asked by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBy {
    /// As a message.
    #[default]
    Chat,
    /// As a text to be continued up to the end of its line.
    Completions,
}

/// A question with a recorded answer. RouteLLM's names of the fields are read, too; further fields are let pass.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Question {
    /// What kind of question it is, for figures by kind.
    #[serde(default = "some_kind")]
    pub kind: String,
    /// What is asked.
    #[serde(alias = "prompt")]
    pub question: String,
    /// What a strong model answered.
    #[serde(alias = "strong_response")]
    pub answer: String,
    /// The right answer: one of `choices`, or a number.
    pub gold: String,
    /// All answers there are; without them the answer ends with a number.
    #[serde(default)]
    pub choices: Vec<String>,
    /// How it is asked.
    #[serde(default)]
    pub api: AskedBy,
}

fn some_kind() -> String {
    "question".into()
}

/// A file of questions that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuestionError {
    /// It is too long.
    #[error("the questions are {bytes} bytes long; {MAX_BYTES} are the most that can be read")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// A line that is no question.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong and what would do.
        why: String,
    },
    /// There are no questions.
    #[error("there are no questions; each line is a JSON object with question, answer and gold")]
    None,
}

impl Question {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// [`QuestionError`], which names the line.
    pub fn read(text: &str) -> Result<Vec<Self>, QuestionError> {
        if text.len() > MAX_BYTES {
            return Err(QuestionError::TooLong { bytes: text.len() });
        }
        let mut questions = Vec::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let fault = |why: String| QuestionError::Line { line, why };
            let question: Self = serde_json::from_str(text)
                .map_err(|e| fault(format!("is no object with the texts question, answer and gold: {e}")))?;
            question.check().map_err(fault)?;
            questions.push(question);
        }
        if questions.is_empty() { Err(QuestionError::None) } else { Ok(questions) }
    }

    fn check(&self) -> Result<(), String> {
        if self.question.trim().is_empty() {
            return Err("question is empty".into());
        }
        match self.choices.is_empty() {
            true if number(&self.gold).is_none() => {
                Err(format!("gold is '{}', which is no number; give the choices, or a number", self.gold))
            }
            false if !self.choices.contains(&self.gold) => {
                Err(format!("gold is '{}', which is none of choices", self.gold))
            }
            _ => Ok(()),
        }
    }

    /// Whether an answer is right: exactly the choice, or one whose last number is the right one.
    #[must_use]
    pub fn is_right(&self, answer: &str) -> bool {
        if !self.choices.is_empty() {
            return answer.trim() == self.gold;
        }
        match (last_number(answer), number(&self.gold)) {
            (Some(found), Some(gold)) => (found - gold).abs() <= TOLERANCE * found.abs().max(gold.abs()),
            _ => false,
        }
    }
}

/// A number as people write it: `1,234.50`.
fn number(text: &str) -> Option<f64> {
    text.trim().replace(',', "").parse().ok().filter(|x: &f64| x.is_finite())
}

/// The last number of a text. A `-` that follows a digit or a letter is no sign.
fn last_number(text: &str) -> Option<f64> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let begin = text[..end].rfind(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.'));
    let start = begin.map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let digits = text[start..end].trim_start_matches([',', '.']);
    // A sentence may end and begin without a space: the last number is what follows the last two points.
    let digits = if number(digits).is_some() { digits } else { digits.rsplit(['.', ',']).next()? };
    let before = text[..start].chars().rev();
    let mut before = before.take(2);
    let sign = match (before.next(), before.next()) {
        (Some('-' | '\u{2212}'), Some(c)) if c.is_alphanumeric() || c == ')' => 1.0,
        (Some('-' | '\u{2212}'), _) => -1.0,
        _ => 1.0,
    };
    number(digits).map(|x| sign * x)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_number_counts() {
        for (text, wanted) in [
            ("so 9 * $2 = $18 every day.", Some(18.0)),
            ("That is $1,234.50.", Some(1234.5)),
            ("It is -4", Some(-4.0)),
            ("10-4", Some(4.0)),
            ("1. first 2. second 3", Some(3.0)),
            ("in 2024.12 eggs.", Some(2024.12)),
            ("1.2.3", Some(3.0)),
            ("\u{2212}7 \u{b0}C", Some(-7.0)),
            ("\u{20ac}5", Some(5.0)),
            ("none", None),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(last_number(text), wanted, "{text}");
        }
    }

    #[test]
    fn questions_are_read_under_both_names_and_bad_ones_named() {
        let text = "{\"id\": 0, \"prompt\": \"What is 2 + 2?\", \"gold\": \"4\", \"strong_response\": \"2 + 2 = 4\"}\n\n\
            {\"question\": \"Warm?\", \"answer\": \"yes\", \"gold\": \"yes\", \"choices\": [\"yes\", \"no\"], \"api\": \"completions\"}";
        let read = Question::read(text).unwrap();
        assert!(read[0].is_right(&read[0].answer) && !read[0].is_right("5") && !read[0].is_right("four"));
        assert!(read[1].is_right(" yes\n") && !read[1].is_right("yes, very"));
        assert_eq!(read[1].api, AskedBy::Completions);
        for (bad, part) in [
            ("{}", "line 1"),
            ("\n{\"question\": \" \", \"answer\": \"\", \"gold\": \"1\"}", "line 2: question"),
            ("{\"question\": \"a\", \"answer\": \"b\", \"gold\": \"c\"}", "no number"),
            ("{\"question\": \"a\", \"answer\": \"b\", \"gold\": \"c\", \"choices\": [\"d\"]}", "none of choices"),
            (" \n", "no questions"),
        ] {
            let error = Question::read(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
