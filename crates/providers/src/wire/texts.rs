//! Where people's words stand in bodies and events: what a detector of personal data reads, and where pseudonyms are
//! put back.

use super::Api;

/// A body or an event of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A client's request.
    Request(Api),
    /// A whole answer.
    Answer(Api),
    /// The JSON of one event of a streamed answer.
    Event(Api),
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Instructions of the application.
    System,
    /// What the user says.
    User,
    /// What the model says.
    Assistant,
    /// What the model thinks.
    Reasoning,
    /// A string inside a tool call's arguments.
    ToolArguments,
    /// What a tool answered.
    ToolResult,
    /// The description of a tool.
    ToolDescription,
    /// A name or an id of a person.
    Identity,
}

/// How much of a text is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// All of it.
    Whole,
    /// A piece of a stream; the next piece of the same `slot` goes on where it ends.
    Delta,
    /// A piece of a stream of JSON text: what is put in must be escaped as in a JSON string.
    JsonDelta,
}

/// One text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// How much of it.
    pub extent: Extent,
    /// In a stream, which of its texts: pieces with the same kind and slot belong together.
    pub slot: u64,
}
