//! Rules as data, and what applying one means.
//!
//! A rule is a row of a table: a name, a left side, a right side, what must be given or is computed, and whether it is
//! exact. Rules for writing rules:
//! - both sides are equal on values *and* support for all inputs that the types allow, or the rule names its error;
//! - a canonical rule leads towards the one spelling of what it equates, and never back; everything else is an equality
//!   that the e-graph weighs;
//! - no free commutativity or associativity; linearity in the factoring direction only;
//! - a condition says what it needs of types, support and constants, never of how a term is spelled.

use super::built::{Built, BuiltOver};
use super::conditions::{self, Argument, Outcome};
use super::facts::{Fact, Surroundings, TermGraph, infer};
use super::pattern::{Binding, MASKS, MaskKind, Pattern, Side, Variables, parse};
use super::term::{Head, Term, Written};
use egg::Id;
use mixc_ir::attr::{Attrs, Real};
use std::borrow::Cow;

/// Whether both sides are equal in real arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exactness {
    /// They are.
    Exact,
    /// The right side approximates the left; the name of the error, which a user must allow.
    Approximate(Cow<'static, str>),
}

/// How a rule is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Leads to the canonical spelling; the left side is given up.
    Canonical,
    /// Adds an equal term to choose from.
    Equality,
}

/// A row of a rule table.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, kebab-case.
    pub name: Cow<'static, str>,
    /// What is matched (`super::pattern` has the notation).
    pub left: Cow<'static, str>,
    /// What it equals.
    pub right: Cow<'static, str>,
    /// Conditions and computed attributes, separated by semicolons: `full(?m); ?t = product(?s, ?c)`. The names are
    /// those of `super::conditions`. In a rule for all masks, `mask_lengths: full(?m)` is asked of that mask alone.
    pub given: Cow<'static, str>,
    /// The law that builds the right side; its text then only says what that is.
    pub built: Option<Built>,
    /// Exact or not.
    pub exactness: Exactness,
    /// Canonical or not.
    pub purpose: Purpose,
}

impl Rule {
    /// A canonical rule.
    pub const fn canonical(name: &'static str, left: &'static str, right: &'static str, given: &'static str) -> Rule {
        Rule::row(name, left, right, given, Exactness::Exact, Purpose::Canonical)
    }

    const fn row(
        name: &'static str,
        left: &'static str,
        right: &'static str,
        given: &'static str,
        exactness: Exactness,
        purpose: Purpose,
    ) -> Rule {
        Rule {
            name: Cow::Borrowed(name),
            left: Cow::Borrowed(left),
            right: Cow::Borrowed(right),
            given: Cow::Borrowed(given),
            built: None,
            exactness,
            purpose,
        }
    }

    /// An equality.
    pub const fn equal(name: &'static str, left: &'static str, right: &'static str, given: &'static str) -> Rule {
        Rule::row(name, left, right, given, Exactness::Exact, Purpose::Equality)
    }

    /// An approximation with the error of that name.
    pub const fn approximate(
        error: &'static str,
        name: &'static str,
        left: &'static str,
        right: &'static str,
        given: &'static str,
    ) -> Rule {
        Rule::row(name, left, right, given, Exactness::Approximate(Cow::Borrowed(error)), Purpose::Equality)
    }
}

/// A condition or computation of a compiled rule.
#[derive(Clone, Debug)]
struct Given {
    function: conditions::Function,
    arguments: Vec<Source>,
    /// The variable or spread that takes the outcome.
    target: Option<Target>,
}

#[derive(Clone, Debug)]
enum Source {
    Variable(usize),
    Spread(Vec<(String, usize)>),
    Number(f64),
    Word(String),
}

#[derive(Clone, Debug)]
enum Target {
    Variable(usize),
    Spread(Vec<(String, usize)>),
}

/// The right side of a rule ready to be matched.
#[derive(Clone, Debug)]
pub enum Right {
    /// A form that what is bound is put into.
    Pattern(Pattern),
    /// What a law builds of what is bound.
    Built(BuiltOver),
}

/// A rule ready to be matched.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// The rule's name; of a rule for all masks, followed by the mask.
    pub name: String,
    /// Exact or not.
    pub exactness: Exactness,
    /// Canonical or not.
    pub purpose: Purpose,
    /// Left side.
    pub left: Pattern,
    /// Right side.
    pub right: Right,
    /// Variables of both.
    pub variables: Variables,
    given: Vec<Given>,
}

/// The rules of a table, those over `MASK` once for every kind of mask. The error names the rule and what is wrong.
pub fn compile(rules: &[Rule]) -> Result<Vec<CompiledRule>, String> {
    let mut compiled = Vec::new();
    for rule in rules {
        if rule.left.contains("(MASK ") {
            for mask in MASKS {
                compiled.push(compile_one(rule, Some(mask))?);
            }
        } else {
            compiled.push(compile_one(rule, None)?);
        }
    }
    Ok(compiled)
}

fn compile_one(rule: &Rule, mask: Option<MaskKind>) -> Result<CompiledRule, String> {
    let name = mask.map_or(rule.name.to_string(), |m| format!("{}:{}", rule.name, m.op));
    let fail = |e: String| format!("rule `{name}`: {e}");
    let mut variables = Variables::default();
    let left = parse(&rule.left, &mut variables, Side::Left, mask).map_err(fail)?;
    let bound = variables.names.len();
    let clauses: Vec<Clause<'_>> = rule
        .given
        .split(';')
        .filter_map(|text| of_mask(text.trim(), mask))
        .filter(|c| !c.is_empty())
        .map(clause)
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    let spreads: Vec<String> =
        clauses.iter().filter_map(|c| c.target?.strip_prefix("..?").map(str::to_string)).collect();
    for name in clauses.iter().filter_map(|c| c.target?.strip_prefix('?')) {
        variables.place(name);
    }
    let right = match &rule.built {
        Some(built) => Right::Built(built.over(&variables).map_err(fail)?),
        None => Right::Pattern(parse(&rule.right, &mut variables, Side::Right(&spreads), mask).map_err(fail)?),
    };
    let mut given = Vec::new();
    for clause in &clauses {
        given.push(compile_given(clause, &variables).map_err(fail)?);
    }
    let computed = |k: usize| {
        given.iter().any(|g| match &g.target {
            Some(Target::Variable(v)) => *v == k,
            Some(Target::Spread(all)) => all.iter().any(|(_, v)| *v == k),
            None => false,
        })
    };
    if let Some(k) = (bound..variables.names.len()).find(|k| !computed(*k)) {
        return Err(fail(format!("`?{}` is bound by nothing", variables.names[k])));
    }
    let (exactness, purpose) = (rule.exactness.clone(), rule.purpose);
    Ok(CompiledRule { name, exactness, purpose, left, right, variables, given })
}

struct Clause<'a> {
    target: Option<&'a str>,
    function: &'a str,
    arguments: Vec<&'a str>,
}

/// A clause without the name of the mask that it is asked of; `None` when that is another one.
fn of_mask(text: &str, mask: Option<MaskKind>) -> Option<&str> {
    match text.split_once(':') {
        None => Some(text),
        Some((name, clause)) => mask.is_some_and(|m| m.op == name).then_some(clause.trim()),
    }
}

fn clause(text: &str) -> Result<Clause<'_>, String> {
    let (call, target) = match text.split_once('=') {
        Some((target, call)) => (call.trim(), Some(target.trim())),
        None => (text, None),
    };
    let (function, rest) = call.split_once('(').ok_or_else(|| format!("`{text}` is not a call"))?;
    let inside = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` has no end"))?;
    let arguments = inside.split(',').map(str::trim).filter(|a| !a.is_empty()).collect();
    Ok(Clause { target, function, arguments })
}

fn compile_given(clause: &Clause<'_>, variables: &Variables) -> Result<Given, String> {
    let function = conditions::find(clause.function).ok_or_else(|| format!("no condition `{}`", clause.function))?;
    let spread = |name: &str| variables.of_spread(name).map(|(n, k)| (n.to_string(), k)).collect::<Vec<_>>();
    let variable = |name: &str| variables.find(name).ok_or_else(|| format!("`?{name}` is bound by nothing"));
    let mut arguments = Vec::new();
    for argument in &clause.arguments {
        arguments.push(if let Some(name) = argument.strip_prefix("..?") {
            Source::Spread(spread(name))
        } else if let Some(name) = argument.strip_prefix('?') {
            Source::Variable(variable(name)?)
        } else if let Ok(number) = argument.parse() {
            Source::Number(number)
        } else {
            Source::Word(argument.to_string())
        });
    }
    let target = match clause.target {
        None => None,
        Some(target) => Some(match (target.strip_prefix("..?"), target.strip_prefix('?')) {
            (Some(name), _) => Target::Spread(spread(name)),
            (None, Some(name)) => Target::Variable(variable(name)?),
            (None, None) => return Err(format!("`{target}` is not a variable")),
        }),
    };
    Ok(Given { function, arguments, target })
}

/// Where rules are applied: terms with facts, to which leaves can be added.
pub trait Terms {
    /// What types depend on.
    fn around(&self) -> &Surroundings;
    /// What is known of a term.
    fn fact(&self, id: Id) -> &Fact;
    /// The id of a term.
    fn put(&mut self, term: Term) -> Result<Id, String>;
}

impl Terms for TermGraph {
    fn around(&self) -> &Surroundings {
        &self.around
    }

    fn fact(&self, id: Id) -> &Fact {
        TermGraph::fact(self, id)
    }

    fn put(&mut self, term: Term) -> Result<Id, String> {
        self.add(term)
    }
}

impl CompiledRule {
    /// A binding of nothing.
    pub fn unbound(&self) -> Binding {
        vec![None; self.variables.names.len()]
    }

    /// Whether all that must be given holds; computes what is computed into `binding`.
    pub fn holds(&self, terms: &mut dyn Terms, binding: &mut Binding) -> bool {
        self.given.iter().all(|given| given.run(terms, binding).is_some())
    }

    /// The type of the right side where the left side `id` is bound: `Err` says why it has none. Where it has another
    /// type than the left, the rule is wrong: `Ok` holds both.
    pub fn right_type(&self, terms: &dyn Terms, binding: &Binding) -> Result<Fact, String> {
        let mut scratch = Vec::new();
        match &self.right {
            Right::Pattern(right) => {
                let id = evaluate(right, terms, binding, &mut scratch)?;
                Ok(look(terms, &scratch, id).clone())
            }
            Right::Built(right) => Ok(right.build(terms, binding)?.fact().clone()),
        }
    }

    /// The right side as terms.
    pub fn build(&self, terms: &mut dyn Terms, binding: &Binding) -> Result<Id, String> {
        match &self.right {
            Right::Pattern(right) => build(right, terms, binding),
            Right::Built(right) => {
                let made = right.build(terms, binding)?;
                made.fold(|term| terms.put(term), |v| binding[v].ok_or_else(|| format!("variable {v} is not bound")))
            }
        }
    }
}

/// The terms of a pattern.
pub fn build(pattern: &Pattern, terms: &mut dyn Terms, binding: &Binding) -> Result<Id, String> {
    match pattern {
        Pattern::Variable(v) => binding[*v].ok_or_else(|| format!("variable {v} is not bound")),
        Pattern::Node(head, args) => {
            let args = args.iter().map(|a| build(a, terms, binding)).collect::<Result<_, _>>()?;
            terms.put(Term { head: head.clone(), args })
        }
    }
}

/// Ids from here on are of terms that are only thought of; no graph grows to that size.
const SCRATCH: usize = 1 << 30;

fn look<'a>(terms: &'a dyn Terms, scratch: &'a [Fact], id: Id) -> &'a Fact {
    match usize::from(id).checked_sub(SCRATCH) {
        Some(k) => &scratch[k],
        None => terms.fact(id),
    }
}

/// The facts of a pattern's terms without adding them.
fn evaluate(pattern: &Pattern, terms: &dyn Terms, binding: &Binding, scratch: &mut Vec<Fact>) -> Result<Id, String> {
    match pattern {
        Pattern::Variable(v) => binding[*v].ok_or_else(|| format!("variable {v} is not bound")),
        Pattern::Node(head, args) => {
            let args = args.iter().map(|a| evaluate(a, terms, binding, scratch)).collect::<Result<Vec<_>, _>>()?;
            let term = Term { head: head.clone(), args };
            let fact = infer(terms.around(), &term, &|id| look(terms, scratch, id))?;
            scratch.push(fact);
            Ok(Id::from(SCRATCH + scratch.len() - 1))
        }
    }
}

impl Given {
    fn run(&self, terms: &mut dyn Terms, binding: &mut Binding) -> Option<()> {
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for source in &self.arguments {
            arguments.push(match source {
                Source::Number(x) => Argument::Number(*x),
                Source::Word(w) => Argument::Word(w.clone()),
                Source::Variable(v) => {
                    let id = binding[*v]?;
                    match terms.fact(id) {
                        Fact::Attr(value) => Argument::Attr(Some(value.clone())),
                        Fact::Absent => Argument::Attr(None),
                        Fact::Value(value) => Argument::Value(value.clone(), id),
                        Fact::Written(_) | Fact::Fault(_) => return None,
                    }
                }
                Source::Spread(all) => {
                    let mut attrs = Attrs::new();
                    for (name, v) in all {
                        if let Fact::Attr(value) = terms.fact(binding[*v]?) {
                            attrs = attrs.with(name, value.clone());
                        }
                    }
                    Argument::Attrs(attrs)
                }
            });
        }
        let outcome = (self.function)(terms.around(), &arguments)?;
        let attr = |terms: &mut dyn Terms, value: Option<&mixc_ir::attr::AttrValue>| {
            terms.put(Term::leaf(value.map_or(Head::Absent, |v| Head::Attr(v.clone())))).ok()
        };
        match (&self.target, outcome) {
            (None, Outcome::Holds) => {}
            (Some(Target::Variable(v)), Outcome::Attr(value)) => binding[*v] = Some(attr(terms, value.as_ref())?),
            (Some(Target::Variable(v)), Outcome::Written(ty)) => {
                binding[*v] = Some(terms.put(Term::leaf(Head::Written(Written::of(&ty)))).ok()?);
            }
            (Some(Target::Variable(v)), Outcome::Constant(number, ty)) => {
                let written = terms.put(Term::leaf(Head::Written(Written::of(&ty)))).ok()?;
                binding[*v] = Some(terms.put(Term { head: Head::Splat(Real(number)), args: vec![written] }).ok()?);
            }
            (Some(Target::Spread(all)), Outcome::Attrs(attrs)) => {
                for (name, v) in all {
                    binding[*v] = Some(attr(terms, attrs.get(name))?);
                }
                // What the right side has no place for must not be lost.
                if attrs.iter().any(|(name, _)| !all.iter().any(|(n, _)| n == name)) {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }
}
