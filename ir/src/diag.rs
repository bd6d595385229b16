//! Diagnostics as data: what is wrong, where, and what to do about it. Printing them is the command line's work.

use std::fmt;

/// A byte range of the source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// The smallest range that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code: `E` and four digits. The first digit is the stage: 0 text, 1 names and calls, 2 types and shapes,
    /// 3 attributes, 4 weights, 5 dims and limits.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where; `None` when it concerns the whole input.
    pub span: Option<Span>,
    /// What to change, where it can be known.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding at a place.
    pub fn at(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), span: Some(span), help: None }
    }

    /// A finding about the whole input.
    pub fn global(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), span: None, help: None }
    }

    /// With a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)?;
        if let Some(help) = &self.help {
            write!(f, " (help: {help})")?;
        }
        Ok(())
    }
}

/// What an operation's own checks say of a call: which operand or attribute, what, and the remedy. The verifier turns
/// it into a [`Diagnostic`] at the right place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Diagnostic code.
    pub code: &'static str,
    /// Where in the call.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub help: Option<String>,
}

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole call.
    Call,
    /// The k-th operand.
    Operand(usize),
    /// The attribute of that name.
    Attr(&'static str),
    /// The written result type.
    Result,
}

impl Fault {
    /// A fault of the whole call: types or shapes do not fit (`E0201`).
    pub fn call(message: impl Into<String>) -> Fault {
        Fault { code: "E0201", place: Place::Call, message: message.into(), help: None }
    }

    /// A fault of operand `k`: its type or shape does not fit (`E0202`).
    pub fn operand(k: usize, message: impl Into<String>) -> Fault {
        Fault { code: "E0202", place: Place::Operand(k), message: message.into(), help: None }
    }

    /// A fault of an attribute's value (`E0303`).
    pub fn attr(name: &'static str, message: impl Into<String>) -> Fault {
        Fault { code: "E0303", place: Place::Attr(name), message: message.into(), help: None }
    }

    /// The result type must be written, or the written one cannot be (`E0203`).
    pub fn result(message: impl Into<String>) -> Fault {
        Fault { code: "E0203", place: Place::Result, message: message.into(), help: None }
    }

    /// With a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }
}

impl From<crate::dim::DimError> for Fault {
    fn from(e: crate::dim::DimError) -> Fault {
        Fault { code: "E0501", place: Place::Call, message: e.to_string(), help: None }
    }
}
