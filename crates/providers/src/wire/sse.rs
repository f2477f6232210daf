//! Server-sent events, as the WHATWG HTML standard (9.2.6) reads them.

use super::WireError;

/// Most bytes of one event, if nothing else was said.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The name in its `event:` line.
    pub event: Option<String>,
    /// Its `data:` lines, joined by line feeds.
    pub data: String,
}

impl SseEvent {
    /// An event without a name, as OpenAI's chat has them.
    #[must_use]
    pub fn data(data: impl Into<String>) -> Self {
        Self { event: None, data: data.into() }
    }

    /// An event with a name, as Anthropic's messages and OpenAI's responses have them.
    #[must_use]
    pub fn named(event: impl Into<String>, data: impl Into<String>) -> Self {
        Self { event: Some(event.into()), data: data.into() }
    }

    /// Appends the event as it goes over the wire. Line breaks in the data become several `data:` lines; a name is cut
    /// at its first line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(event) = self.event.as_deref().and_then(|e| e.split(['\r', '\n']).next()) {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(event.as_bytes());
            out.push(b'\n');
        }
        let mut rest = self.data.as_str();
        loop {
            let end = rest.find(['\r', '\n']);
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(&rest.as_bytes()[..end.unwrap_or(rest.len())]);
            out.push(b'\n');
            let Some(end) = end else { break };
            let line_break = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
            rest = &rest[end + line_break..];
        }
        out.push(b'\n');
    }
}

/// Reads a stream of events from pieces that may be cut anywhere.
#[derive(Clone, Debug)]
pub struct SseParser {
    limit: usize,
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// A line ended with a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    /// No line was read yet: a byte order mark may stand here.
    at_start: bool,
    event: Option<String>,
    data: String,
    has_data: bool,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

impl SseParser {
    /// A parser that takes events of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            event: None,
            data: String::new(),
            has_data: false,
        }
    }

    /// Reads more bytes and appends the events that are whole. An event that the stream ends in is never given.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] and [`WireError::NotUtf8`]; what follows in the stream cannot be trusted then.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<SseEvent>) -> Result<(), WireError> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + part.len() > self.limit {
                return Err(WireError::TooLarge { what: "event", limit: self.limit });
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            if self.line.is_empty() {
                self.read_line(part, out)?;
            } else {
                self.line.extend_from_slice(part);
                let line = std::mem::take(&mut self.line);
                self.read_line(&line, out)?;
                self.line = line;
                self.line.clear();
            }
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], out: &mut Vec<SseEvent>) -> Result<(), WireError> {
        let mut line = std::str::from_utf8(line).map_err(|_| WireError::NotUtf8)?;
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = self.event.take().filter(|e| !e.is_empty());
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                out.push(SseEvent { event, data });
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "event" => self.event = Some(value.to_owned()),
            // Comments have an empty name; `id` and `retry` are for clients that connect again.
            _ => {}
        }
        Ok(())
    }
}
