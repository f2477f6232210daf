//! What sharing out questions between a small and a large model came to, beside what it is compared with.

mod figures;
mod question;

pub use figures::{Figures, Policy, PolicyKind, Routed, RoutingError, Side};
pub use question::{AskedBy, Question, QuestionError};
