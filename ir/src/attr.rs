//! Attributes of operations: their values, and what an operation says it accepts.

use crate::dim::Dim;
use std::fmt;

/// A finite real with total order and hashing, so that attributes can be keys.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Real {
    fn cmp(&self, other: &Real) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttrValue {
    /// An integer or a dim expression.
    Dim(Dim),
    /// A real number written with a point or an exponent.
    Float(Real),
    /// `true` or `false`; a bare name is `true`.
    Bool(bool),
    /// A quoted string.
    Text(String),
    /// A bare word that is neither a bool nor a dim symbol in this place.
    Name(String),
    /// A bracketed list.
    List(Vec<AttrValue>),
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrValue::Dim(d) => write!(f, "{d}"),
            // `{:?}` keeps the point (`1.0`) and round-trips.
            AttrValue::Float(x) => write!(f, "{:?}", x.0),
            AttrValue::Bool(b) => write!(f, "{b}"),
            AttrValue::Text(s) => write!(f, "{s:?}"),
            AttrValue::Name(s) => f.write_str(s),
            AttrValue::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// What values an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttrKind {
    /// A plain integer.
    Int,
    /// An integer or a dim expression.
    Dim,
    /// A real (integers are accepted).
    Float,
    /// A flag.
    Bool,
    /// One of these words.
    Name(&'static [&'static str]),
    /// The name of an element type.
    DType,
    /// A list of plain integers.
    Ints,
    /// A list of dim expressions (in `reshape {shape}` one may be -1).
    Dims,
}

/// An attribute that an operation accepts.
#[derive(Clone, Copy, Debug)]
pub struct AttrSpec {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub kind: AttrKind,
    /// Whether it must be given.
    pub required: bool,
    /// One line: what it does and, when optional, what holds without it.
    pub doc: &'static str,
}

/// The attributes of a call, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Attrs(Vec<(String, AttrValue)>);

impl Attrs {
    /// No attributes.
    pub fn new() -> Attrs {
        Attrs::default()
    }

    /// With `name` set to `value`.
    pub fn with(mut self, name: &str, value: AttrValue) -> Attrs {
        match self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(k) => self.0[k].1 = value,
            Err(k) => self.0.insert(k, (name.to_string(), value)),
        }
        self
    }

    /// With the flag `name` set when `on`.
    pub fn with_flag(self, name: &str, on: bool) -> Attrs {
        if on { self.with(name, AttrValue::Bool(true)) } else { self }
    }

    /// With an integer.
    pub fn with_int(self, name: &str, value: i64) -> Attrs {
        self.with(name, AttrValue::Dim(Dim::constant(value)))
    }

    /// With a dim expression.
    pub fn with_dim(self, name: &str, value: Dim) -> Attrs {
        self.with(name, AttrValue::Dim(value))
    }

    /// With a real.
    pub fn with_float(self, name: &str, value: f64) -> Attrs {
        self.with(name, AttrValue::Float(Real(value)))
    }

    /// With a word.
    pub fn with_name(self, name: &str, value: &str) -> Attrs {
        self.with(name, AttrValue::Name(value.to_string()))
    }

    /// With a list of dims.
    pub fn with_dims(self, name: &str, dims: impl IntoIterator<Item = Dim>) -> Attrs {
        self.with(name, AttrValue::List(dims.into_iter().map(AttrValue::Dim).collect()))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&AttrValue> {
        self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|k| &self.0[k].1)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttrValue)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is given.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The flag `name`, false when absent.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(AttrValue::Bool(true)))
    }

    /// The integer `name`.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(AttrValue::Dim(d)) => d.as_constant(),
            _ => None,
        }
    }

    /// The dim expression `name`.
    pub fn dim(&self, name: &str) -> Option<&Dim> {
        match self.get(name) {
            Some(AttrValue::Dim(d)) => Some(d),
            _ => None,
        }
    }

    /// The real `name`; an integer counts.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(AttrValue::Float(x)) => Some(x.0),
            Some(AttrValue::Dim(d)) => d.as_constant().map(|n| n as f64),
            _ => None,
        }
    }

    /// The word `name`.
    pub fn name(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(AttrValue::Name(s)) => Some(s),
            _ => None,
        }
    }

    /// The list of dims `name`.
    pub fn dims(&self, name: &str) -> Option<Vec<Dim>> {
        match self.get(name) {
            Some(AttrValue::List(items)) => items
                .iter()
                .map(|v| match v {
                    AttrValue::Dim(d) => Some(d.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    /// The list of integers `name`.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.dims(name)?.iter().map(Dim::as_constant).collect()
    }
}

impl fmt::Display for Attrs {
    /// ` {causal, window = 9}`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(" {")?;
        for (i, (name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match value {
                AttrValue::Bool(true) => f.write_str(name)?,
                _ => write!(f, "{name} = {value}")?,
            }
        }
        f.write_str("}")
    }
}
