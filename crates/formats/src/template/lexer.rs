//! Template source to tokens, with Jinja's whitespace rules as Hugging Face sets them: `trim_blocks` (the newline
//! after a block or comment goes), `lstrip_blocks` (the indentation before one goes), no trailing newline.
//!
//! Source: Jinja 3.1's template designer documentation, "Whitespace Control".

use std::sync::Arc;

use super::error::TemplateError;
use super::text::is_space;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside tags.
    Text(Arc<str>),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    Op(&'static str),
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Text(_) => "text".into(),
            Token::VariableBegin => "`{{`".into(),
            Token::VariableEnd => "`}}`".into(),
            Token::BlockBegin => "`{%`".into(),
            Token::BlockEnd => "`%}`".into(),
            Token::Name(name) => format!("`{}`", name.chars().take(40).collect::<String>()),
            Token::Str(_) => "a string".into(),
            Token::Int(_) | Token::Float(_) => "a number".into(),
            Token::Op(op) => format!("`{op}`"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Located {
    pub(super) token: Token,
    pub(super) line: u32,
}

/// Longest first, so that `**` is not read as two `*`.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Variable,
    Block,
    Comment,
}

impl Tag {
    fn close(self) -> &'static str {
        match self {
            Tag::Variable => "}}",
            Tag::Block => "%}",
            Tag::Comment => "#}",
        }
    }
}

pub(super) fn tokenize(source: &str) -> Result<Vec<Located>, TemplateError> {
    let normalized = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = normalized.strip_suffix('\n').unwrap_or(&normalized);
    let mut lexer = Lexer { source, pos: 0, line: 1, line_starting: true, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    pos: usize,
    line: u32,
    /// Whether what was consumed last ended with a newline.
    line_starting: bool,
    tokens: Vec<Located>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.pos..).unwrap_or_default()
    }

    fn advance(&mut self, n_bytes: usize) -> &'a str {
        let taken = self.rest().get(..n_bytes).unwrap_or_default();
        self.pos += taken.len();
        self.line += taken.bytes().filter(|&byte| byte == b'\n').count() as u32;
        self.line_starting = taken.ends_with('\n');
        taken
    }

    fn push(&mut self, token: Token) {
        self.tokens.push(Located { token, line: self.line });
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::Syntax { line: self.line, message: message.into() }
    }

    fn run(&mut self) -> Result<(), TemplateError> {
        while let Some((start, tag)) = next_tag(self.rest()) {
            let sign = self.rest().as_bytes().get(start + 2).copied();
            self.text_before_tag(start, tag, sign);
            self.advance(2 + usize::from(matches!(sign, Some(b'-' | b'+'))));
            match tag {
                Tag::Comment => self.comment()?,
                Tag::Block => match self.raw_tag_len("raw") {
                    Some(len) => self.raw(len)?,
                    None => {
                        self.push(Token::BlockBegin);
                        self.inside(tag)?;
                        self.push(Token::BlockEnd);
                    }
                },
                Tag::Variable => {
                    self.push(Token::VariableBegin);
                    self.inside(tag)?;
                    self.push(Token::VariableEnd);
                }
            }
        }
        let text = self.rest();
        self.push_text(text);
        self.advance(text.len());
        Ok(())
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Token::Text(text.into()));
        }
    }

    /// Emits the `len` bytes of text before a tag, less the whitespace that the tag takes away.
    fn text_before_tag(&mut self, len: usize, tag: Tag, sign: Option<u8>) {
        let text = self.rest().get(..len).unwrap_or_default();
        let kept = match sign {
            Some(b'-') => text.trim_end_matches(is_space),
            Some(b'+') => text,
            _ if tag == Tag::Variable => text,
            _ => {
                let line_start = text.rfind('\n').map_or(0, |newline| newline + 1);
                let at_line_start = line_start > 0 || self.line_starting;
                match text.split_at_checked(line_start) {
                    Some((before, indent)) if at_line_start && indent.chars().all(is_space) => before,
                    _ => text,
                }
            }
        };
        self.push_text(kept);
        if len > 0 {
            self.advance(len);
        }
    }

    /// Takes the end of a tag at the current position: `-%}` with all whitespace after it, `+%}`, or `%}` with one
    /// newline where the kind of tag trims it.
    fn tag_end(&mut self, tag: Tag) -> bool {
        let rest = self.rest();
        let close = tag.close();
        if let Some(after) = rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(close)) {
            let spaces = after.len() - after.trim_start_matches(is_space).len();
            self.advance(1 + close.len() + spaces);
            return true;
        }
        if tag != Tag::Variable && rest.strip_prefix('+').is_some_and(|rest| rest.starts_with(close)) {
            self.advance(1 + close.len());
            return true;
        }
        let Some(after) = rest.strip_prefix(close) else { return false };
        let newline = tag != Tag::Variable && after.starts_with('\n');
        self.advance(close.len() + usize::from(newline));
        true
    }

    fn comment(&mut self) -> Result<(), TemplateError> {
        let Some(end) = self.rest().find("#}") else { return Err(self.error("a comment is not closed by `#}`")) };
        let body = self.rest().get(..end).unwrap_or_default();
        let sign = usize::from(body.ends_with(['-', '+']));
        self.advance(end - sign);
        self.tag_end(Tag::Comment);
        Ok(())
    }

    /// Length of `raw` (or `endraw`) and the spaces around it when a block tag here holds just that.
    fn raw_tag_len(&self, name: &str) -> Option<usize> {
        let rest = self.rest();
        let after = rest.trim_start_matches(is_space).strip_prefix(name)?.trim_start_matches(is_space);
        let closes = ["%}", "-%}", "+%}"].iter().any(|close| after.starts_with(close));
        closes.then_some(rest.len() - after.len())
    }

    fn raw(&mut self, tag_len: usize) -> Result<(), TemplateError> {
        self.advance(tag_len);
        // Jinja does not trim the newline after `{% raw %}`, as the text after it is verbatim.
        if self.rest().starts_with('-') {
            self.tag_end(Tag::Block);
        } else {
            let len = if self.rest().starts_with('+') { 3 } else { 2 };
            self.advance(len);
        }
        let mut searched = 0;
        loop {
            let tail = self.rest().get(searched..).unwrap_or_default();
            let Some(found) = tail.find("{%") else { return Err(self.error("`{% raw %}` is not closed")) };
            let start = searched + found;
            let sign = self.rest().as_bytes().get(start + 2).copied();
            let sign_len = usize::from(matches!(sign, Some(b'-' | b'+')));
            let body_pos = self.pos + start + 2 + sign_len;
            let at_body =
                Lexer { source: self.source, pos: body_pos, line: 0, line_starting: false, tokens: Vec::new() };
            if let Some(len) = at_body.raw_tag_len("endraw") {
                self.text_before_tag(start, Tag::Block, sign);
                self.advance(2 + sign_len + len);
                self.tag_end(Tag::Block);
                return Ok(());
            }
            searched = start + 2;
        }
    }

    /// Tokens inside a variable or block tag, up to and with its end.
    fn inside(&mut self, tag: Tag) -> Result<(), TemplateError> {
        let mut open_brackets: Vec<&'static str> = Vec::new();
        loop {
            if open_brackets.is_empty() && self.tag_end(tag) {
                return Ok(());
            }
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return Err(self.error(format!("a tag is not closed by `{}`", tag.close())));
            };
            if is_space(first) {
                self.advance(rest.len() - rest.trim_start_matches(is_space).len());
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphabetic() {
                let len = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                let name = self.advance(len);
                self.push(Token::Name(name.into()));
            } else if first == '"' || first == '\'' {
                self.string(first)?;
            } else {
                let op = OPERATORS.iter().find(|op| rest.starts_with(**op));
                let Some(&op) = op else { return Err(self.error(format!("unexpected character {first:?}"))) };
                match op {
                    "(" => open_brackets.push(")"),
                    "[" => open_brackets.push("]"),
                    "{" => open_brackets.push("}"),
                    ")" | "]" | "}" if open_brackets.pop() != Some(op) => {
                        return Err(self.error(format!("unexpected `{op}`")));
                    }
                    _ => {}
                }
                self.advance(op.len());
                self.push(Token::Op(op));
            }
        }
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let radix = match bytes.get(..2) {
            Some(b"0x" | b"0X") => 16,
            Some(b"0o" | b"0O") => 8,
            Some(b"0b" | b"0B") => 2,
            _ => 10,
        };
        let digits = |from: usize| {
            let tail = bytes.get(from..).unwrap_or_default();
            tail.iter().take_while(|byte| **byte == b'_' || (**byte as char).is_digit(radix)).count()
        };
        if radix != 10 {
            let len = digits(2);
            let text: String = rest.get(2..2 + len).unwrap_or_default().replace('_', "");
            let value = i128::from_str_radix(&text, radix).map_err(|_| self.error("this number cannot be read"))?;
            self.advance(2 + len);
            self.push(Token::Int(value));
            return Ok(());
        }
        let mut len = digits(0);
        let mut is_float = false;
        // After a dot a number is an item, as in `pairs.0.1`, and has no fraction.
        let after_dot = matches!(self.tokens.last(), Some(Located { token: Token::Op("."), .. }));
        if !after_dot {
            if bytes.get(len) == Some(&b'.') && bytes.get(len + 1).is_some_and(u8::is_ascii_digit) {
                len += 1 + digits(len + 1);
                is_float = true;
            }
            if matches!(bytes.get(len), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
                if bytes.get(len + 1 + sign).is_some_and(u8::is_ascii_digit) {
                    len += 1 + sign + digits(len + 1 + sign);
                    is_float = true;
                }
            }
        }
        let text = self.advance(len).replace('_', "");
        let token = if is_float { text.parse().ok().map(Token::Float) } else { text.parse().ok().map(Token::Int) };
        let token = token.ok_or_else(|| self.error("this number is too large"))?;
        self.push(token);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), TemplateError> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else { return Err(self.error("a string is not closed")) };
        let text = unescape(rest.get(1..end).unwrap_or_default()).map_err(|message| self.error(message))?;
        self.push(Token::Str(text.into()));
        self.advance(end + 1);
        Ok(())
    }
}

/// The first tag in `text`, by position.
fn next_tag(text: &str) -> Option<(usize, Tag)> {
    text.as_bytes().windows(2).enumerate().find_map(|(at, pair)| match pair {
        b"{{" => Some((at, Tag::Variable)),
        b"{%" => Some((at, Tag::Block)),
        b"{#" => Some((at, Tag::Comment)),
        _ => None,
    })
}

/// Python's string escapes; an unknown one stays as it is.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { return Err("a string ends in a backslash".into()) };
        let n_hex = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if n_hex > 0 {
            let digits: String = chars.by_ref().take(n_hex).collect();
            let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == n_hex);
            let decoded = code.and_then(char::from_u32);
            out.push(decoded.ok_or_else(|| format!("`\\{escape}{digits}` is not a character"))?);
            continue;
        }
        match escape {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            '\\' | '\'' | '"' => out.push(escape),
            '\n' => {}
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                out.extend(char::from_u32(code));
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    Ok(out)
}
