//! Function bodies: every statement checked and every call inlined, into one program.
//!
//! Frames stand on a stack of their own, so that long chains of calls need no deep recursion. A statement with an error
//! leaves poisoned results behind; whatever reads one is passed over in silence.

use super::budget::Budget;
use super::dims::{Symbols, Wrong};
use super::findings::Findings;
use super::recursion::Groups;
use super::{attributes, budget, constants};
use crate::diag::{Diagnostic, Fault, Place, Span};
use crate::op::Op;
use crate::ops;
use crate::program::{Builder, Program, ValueId};
use crate::text::ast::{Attr, Func, Name, Operand, Stmt, StmtKind, TypeExpr};
use crate::text::limits;
use crate::ty::Type;
use std::collections::{BTreeMap, BTreeSet};

/// A function's parameter and result types; `None` where they are wrong.
pub struct Signature {
    /// Of the parameters.
    pub params: Vec<Option<Type>>,
    /// Of the results; `None` when they did not parse.
    pub results: Option<Vec<Option<Type>>>,
}

/// The functions of a file and what they may refer to.
pub struct Module<'f> {
    /// All functions with distinct names.
    pub funcs: Vec<&'f Func>,
    /// Their signatures.
    pub signatures: Vec<Signature>,
    /// By name.
    pub by_name: BTreeMap<&'f str, usize>,
    /// Which calls are recursive.
    pub groups: Groups,
    /// The `dim` items.
    pub symbols: Symbols,
}

/// A value as its function sees it: `None` is poisoned.
type Slot = Option<ValueId>;

/// A function under way.
struct Frame<'f> {
    func: usize,
    /// The next statement.
    next: usize,
    values: BTreeMap<&'f str, (Slot, Span)>,
    /// Names of values made here start with it.
    prefix: String,
    /// The names that the caller gives the results.
    results: &'f [Name],
    /// Values of the program when the call began.
    first: usize,
    /// Whether a `return` was met that did not parse.
    returned: bool,
}

/// Reads one function as the root of a program.
pub struct Inliner<'m, 'f> {
    module: &'m Module<'f>,
    findings: &'m mut Findings,
    builder: Builder,
    /// Names that values of the program have.
    names: BTreeSet<String>,
    /// Where to go on counting for a name that is taken.
    suffixes: BTreeMap<String, usize>,
    /// Functions that were read with all arguments known.
    pub checked: &'m mut BTreeSet<usize>,
    /// What may still be read.
    pub budget: &'m mut Budget,
}

impl<'m, 'f> Inliner<'m, 'f> {
    /// An empty program named `name`.
    pub fn new(
        module: &'m Module<'f>,
        name: &str,
        findings: &'m mut Findings,
        checked: &'m mut BTreeSet<usize>,
        budget: &'m mut Budget,
    ) -> Inliner<'m, 'f> {
        let builder = Builder::new(name, module.symbols.items.clone());
        Inliner { module, findings, builder, names: BTreeSet::new(), suffixes: BTreeMap::new(), checked, budget }
    }

    /// The program of function `root`. `None` when a result is poisoned; the reasons are recorded.
    ///
    /// An operator among the parameters is poisoned: what is known of it depends on the call.
    pub fn run(mut self, root: usize) -> Option<Program> {
        let func = self.module.funcs[root];
        // The root's own names are kept as they are.
        self.names.extend(func.params.iter().map(|p| p.name.text.clone()));
        self.names.extend(func.body.iter().flat_map(|s| defined(&s.kind)).map(|n| n.text.clone()));
        let mut values = Vec::new();
        for (param, ty) in func.params.iter().zip(&self.module.signatures[root].params) {
            let tensor = ty.clone().filter(|t| t.as_tensor().is_some());
            values.push(tensor.map(|ty| {
                self.builder.span = param.name.at.0;
                self.builder.param(&param.name.text, ty)
            }));
        }
        let mut stack = vec![self.frame(root, &values, String::new(), &[])];
        loop {
            let frame = stack.last_mut()?;
            let func = self.module.funcs[frame.func];
            let Some(stmt) = func.body.get(frame.next) else {
                let frame = stack.pop()?;
                let results = self.finish(&frame, None);
                match stack.last_mut() {
                    Some(caller) => self.define_results(caller, &frame, results),
                    None => return self.program(results),
                }
                continue;
            };
            frame.next += 1;
            if !self.budget.spend(1, budget::weight(&stmt.kind)) {
                let span = stack.first().and_then(|f| func_stmt(self.module, f)).unwrap_or(stmt.at.0);
                self.findings.at("E0509", span, "the program is too large after inlining");
                return None;
            }
            match &stmt.kind {
                StmtKind::Return(results) => {
                    if let Some(after) = func.body.get(frame.next) {
                        self.findings.at("E0111", after.at.0, "this statement comes after `return`");
                    }
                    let frame = stack.pop()?;
                    let results = self.finish(&frame, Some((stmt, results)));
                    match stack.last_mut() {
                        Some(caller) => self.define_results(caller, &frame, results),
                        None => return self.program(results),
                    }
                }
                StmtKind::Call { results, func: callee, args, types } => {
                    let arguments = self.arguments(frame, results, callee, args, types);
                    match arguments {
                        Ok((callee, values)) => {
                            let prefix = format!("{}.", shortened(&self.module.funcs[callee].name.text));
                            let frame = self.frame(callee, &values, prefix, results);
                            stack.push(frame);
                        }
                        Err(Wrong) => {
                            for name in results {
                                self.define(stack.last_mut()?, name, None);
                            }
                        }
                    }
                }
                _ => self.simple(frame, stmt),
            }
        }
    }

    fn program(self, results: Vec<Slot>) -> Option<Program> {
        Some(self.builder.finish(results.into_iter().collect::<Option<_>>()?))
    }

    fn frame(&mut self, func: usize, args: &[Slot], prefix: String, results: &'f [Name]) -> Frame<'f> {
        // With an argument unknown, part of the body is passed over.
        if args.iter().all(Option::is_some) || prefix.is_empty() {
            self.checked.insert(func);
        }
        let first = self.builder.program.values.len();
        let mut frame = Frame { func, next: 0, values: BTreeMap::new(), prefix, results, first, returned: false };
        for (param, slot) in self.module.funcs[func].params.iter().zip(args) {
            self.define(&mut frame, &param.name, *slot);
        }
        frame
    }

    /// Binds a name in its function.
    fn define(&mut self, frame: &mut Frame<'f>, name: &'f Name, slot: Slot) {
        match frame.values.get_mut(name.text.as_str()) {
            None => {
                frame.values.insert(&name.text, (slot, name.at.0));
            }
            Some((old, _)) => {
                *old = None;
                let found = Diagnostic::at("E0102", name.at.0, format!("`%{}` is already defined", name.text));
                self.findings.push(found.help("a value is defined once; give this one another name"));
            }
        }
    }

    /// A name that no other value of the program has.
    fn unique(&mut self, frame: &Frame<'f>, name: &str) -> String {
        if frame.prefix.is_empty() {
            return name.to_string();
        }
        let base = format!("{}{}", frame.prefix, shortened(name));
        let mut candidate = base.clone();
        let suffix = self.suffixes.entry(base.clone()).or_insert(1);
        while !self.names.insert(candidate.clone()) {
            *suffix += 1;
            candidate = format!("{base}.{suffix}");
        }
        candidate
    }

    /// The value that a name means here; the error, if there is one, is recorded.
    fn read(&mut self, frame: &Frame<'f>, name: &str, span: Span) -> Slot {
        if let Some((slot, _)) = frame.values.get(name) {
            return *slot;
        }
        if !self.findings.is_new("E0101", span) {
            return None;
        }
        let func = self.module.funcs[frame.func];
        let later = func.body.iter().flat_map(|s| defined(&s.kind)).find(|n| n.text == name);
        let (message, help) = match later {
            Some(_) => (format!("`%{name}` is used before it is defined"), None),
            None => {
                let known = frame.values.keys().copied();
                (format!("`%{name}` is not defined"), self.findings.suggest("%", name, known))
            }
        };
        self.findings.push(Diagnostic { help, ..Diagnostic::at("E0101", span, message) });
        None
    }

    /// A statement other than a call or `return`.
    fn simple(&mut self, frame: &mut Frame<'f>, stmt: &'f Stmt) {
        self.builder.span = stmt.at.0;
        match &stmt.kind {
            StmtKind::Const { name, value, ty } => {
                let ty = self.module.symbols.ty(ty, self.findings);
                let constant = ty.and_then(|ty| Ok((constants::resolve(value, &ty, stmt.at.0, self.findings)?, ty)));
                let slot = constant.ok().map(|(constant, ty)| {
                    let unique = self.unique(frame, &name.text);
                    self.builder.constant(Some(&unique), constant, ty)
                });
                self.define(frame, name, slot);
            }
            StmtKind::Op { results, op, operands, attrs, types } => {
                let values = self.operation(frame, results, op, operands, attrs, types);
                let values = values.unwrap_or_default();
                for (k, name) in results.iter().enumerate() {
                    self.define(frame, name, values.get(k).copied());
                }
            }
            StmtKind::Broken { results, returns } => {
                frame.returned |= returns;
                for name in results {
                    self.define(frame, name, None);
                }
            }
            StmtKind::Call { .. } | StmtKind::Return(_) => {}
        }
    }

    fn operation(
        &mut self,
        frame: &Frame<'f>,
        results: &[Name],
        name: &Name,
        operands: &[Operand],
        attrs: &[Attr],
        types: &[TypeExpr],
    ) -> Result<Vec<ValueId>, Wrong> {
        let head = name.at.0;
        // Everything that can be said without the others is said, so that one run shows all of it.
        let values: Vec<Option<Slot>> =
            operands.iter().map(|o| o.name.as_ref().map(|n| self.read(frame, n, o.at.0))).collect();
        let written = self.written(results, types);
        let Some(op) = ops::find(&name.text) else {
            if !self.findings.is_new("E0103", head) {
                return Err(Wrong);
            }
            let help = match self.module.by_name.contains_key(name.text.as_str()) {
                true => Some(format!("a function is called: `call @{}(...)`", name.text)),
                false => self.findings.suggest("", &name.text, ops::all().map(|op| op.name)),
            };
            let message = format!("there is no operation `{}`", name.text);
            self.findings.push(Diagnostic { help, ..Diagnostic::at("E0103", head, message) });
            return Err(Wrong);
        };
        let resolved = attributes::resolve(op, head, attrs, &self.module.symbols, self.findings);
        let mut values: Vec<Slot> = values
            .into_iter()
            .map(|v| v.map_or(Ok(None), |slot| slot.map(Some).ok_or(Wrong)))
            .collect::<Result<_, _>>()?;
        let (resolved, written) = (resolved?, written?);
        let regions = |v: &ValueId| {
            let structure = self.builder.program.values[v.index()].structure.as_ref();
            structure.map_or(1, |s| s.support.regions.len().max(1))
        };
        let combined = values.iter().flatten().map(regions).fold(1usize, |n, r| n.saturating_mul(r));
        // The regions of their combination are compared pairwise.
        if combined > 1 && !self.budget.spend(0, combined.saturating_mul(combined)) {
            self.findings.at("E0508", head, "the supports of the operators here are put together from too many masks");
            return Err(Wrong);
        }
        // An operand left out at the end is the same written or not.
        while values.last().is_some_and(Option::is_none) {
            values.pop();
        }
        let unique: Vec<String> = results.iter().map(|n| self.unique(frame, &n.text)).collect();
        let names: Vec<Option<&str>> = unique.iter().map(|n| Some(n.as_str())).collect();
        let made = self.builder.call(op, &values, resolved, &written, &names).map_err(|faults| {
            for fault in faults {
                self.fault(fault, head, operands, attrs, types);
            }
            Wrong
        })?;
        self.check_results(op, results, head, &made)?;
        Ok(made)
    }

    /// Records what an operation said, at the part of the statement that it means.
    fn fault(&mut self, fault: Fault, head: Span, operands: &[Operand], attrs: &[Attr], types: &[TypeExpr]) {
        let span = match fault.place {
            Place::Call => head,
            Place::Operand(k) => operands.get(k).map_or(head, |o| o.at.0),
            Place::Attr(name) => attrs.iter().find(|a| a.name.text == name).map_or(head, |a| match &a.value {
                Some(value) => a.name.at.0.to(value.at.0),
                None => a.name.at.0,
            }),
            Place::Result => match (types.first(), types.last()) {
                (Some(first), Some(last)) => first.at.0.to(last.at.0),
                _ => head,
            },
        };
        self.findings.fault(span, fault);
    }

    fn check_results(&mut self, op: &Op, results: &[Name], head: Span, made: &[ValueId]) -> Result<(), Wrong> {
        if made.len() != results.len() {
            let message = format!("`{}` has {}, {} named", op.name, count(made.len(), "result"), are(results.len()));
            self.findings.at("E0107", names_span(results, head), message);
            return Err(Wrong);
        }
        for (value, name) in made.iter().zip(results) {
            let ty = self.builder.ty(*value).clone();
            self.module.symbols.sized(ty, name.at.0, self.findings)?;
        }
        Ok(())
    }

    /// Written result types, one a result.
    fn written(&mut self, results: &[Name], types: &[TypeExpr]) -> Result<Vec<Option<Type>>, Wrong> {
        if let (Some(first), Some(last)) = (types.first(), types.last())
            && types.len() != results.len()
        {
            let message = format!("{} for {}", count(types.len(), "type"), count(results.len(), "result"));
            self.findings.at("E0107", first.at.0.to(last.at.0), message);
            return Err(Wrong);
        }
        let types: Vec<_> = types.iter().map(|t| self.module.symbols.ty(t, self.findings)).collect();
        types.into_iter().map(|t| t.map(Some)).collect()
    }

    /// The callee and its arguments, when it can be inlined.
    fn arguments(
        &mut self,
        frame: &Frame<'f>,
        results: &[Name],
        name: &Name,
        args: &[Name],
        types: &[TypeExpr],
    ) -> Result<(usize, Vec<Slot>), Wrong> {
        let head = name.at.0;
        let mut values: Vec<Slot> = args.iter().map(|a| self.read(frame, &a.text, a.at.0)).collect();
        let written = self.written(results, types);
        let Some(&callee) = self.module.by_name.get(name.text.as_str()) else {
            if !self.findings.is_new("E0104", head) {
                return Err(Wrong);
            }
            let help = self.findings.suggest("@", &name.text, self.module.by_name.keys().copied());
            let message = format!("there is no function `@{}`", name.text);
            self.findings.push(Diagnostic { help, ..Diagnostic::at("E0104", head, message) });
            return Err(Wrong);
        };
        if self.module.groups.is_recursive(frame.func, callee) {
            return Err(Wrong);
        }
        let func = self.module.funcs[callee];
        let signature = &self.module.signatures[callee];
        let Some(declared) = &signature.results else { return Err(Wrong) };
        let mut wrong = false;
        if args.len() != signature.params.len() {
            let message =
                format!("`@{}` takes {}, found {}", name.text, count(signature.params.len(), "argument"), args.len());
            self.findings.at("E0110", names_span(args, head), message);
            wrong = true;
        }
        if results.len() != declared.len() {
            let message =
                format!("`@{}` has {}, {} named", name.text, count(declared.len(), "result"), are(results.len()));
            self.findings.at("E0107", names_span(results, head), message);
            wrong = true;
        }
        for (k, (slot, ty)) in values.iter_mut().zip(&signature.params).enumerate() {
            let (Some(value), Some(ty)) = (*slot, ty) else {
                *slot = None;
                continue;
            };
            let found = self.builder.ty(value);
            if !same(found, ty) {
                let param = &func.params[k].name.text;
                let message = format!("`%{param}` of `@{}` is {ty}, the argument is {found}", name.text);
                self.findings.at("E0204", args[k].at.0, message);
                *slot = None;
                wrong = true;
            }
        }
        for ((written, declared), at) in written?.iter().zip(declared).zip(types) {
            if let (Some(written), Some(declared)) = (written, declared)
                && !same(written, declared)
            {
                let message = format!("`@{}` returns {declared}, but {written} is written", name.text);
                self.findings.at("E0203", at.at.0, message);
                wrong = true;
            }
        }
        if wrong { Err(Wrong) } else { Ok((callee, values)) }
    }

    /// The results of a function whose body ends with `returned`, or without `return`.
    fn finish(&mut self, frame: &Frame<'f>, returned: Option<(&Stmt, &[Name])>) -> Vec<Slot> {
        let func = self.module.funcs[frame.func];
        let declared = self.module.signatures[frame.func].results.as_deref();
        let poisoned = vec![None; declared.map_or(frame.results.len(), <[_]>::len)];
        let Some((stmt, names)) = returned else {
            if !frame.returned && declared.is_some() {
                let message = format!("`@{}` does not return", func.name.text);
                self.findings.push(Diagnostic::at("E0111", func.end.0, message).help("end it with `return %y`"));
            }
            return poisoned;
        };
        let slots: Vec<Slot> = names.iter().map(|n| self.read(frame, &n.text, n.at.0)).collect();
        let Some(declared) = declared else { return slots };
        if slots.len() != declared.len() {
            let message =
                format!("`@{}` has {}, {} returned", func.name.text, count(declared.len(), "result"), are(slots.len()));
            self.findings.at("E0112", names_span(names, stmt.at.0), message);
            return poisoned;
        }
        let mut results = Vec::new();
        for ((slot, declared), name) in slots.into_iter().zip(declared).zip(names) {
            let (Some(value), Some(declared)) = (slot, declared) else {
                results.push(None);
                continue;
            };
            let found = self.builder.ty(value);
            if same(found, declared) {
                results.push(slot);
            } else {
                let message = format!("`@{}` returns {declared}, `%{}` is {found}", func.name.text, name.text);
                self.findings.at("E0205", name.at.0, message);
                results.push(None);
            }
        }
        results
    }

    /// Hands a call's results to the caller. What the function made takes the name the caller gives it.
    fn define_results(&mut self, caller: &mut Frame<'f>, callee: &Frame<'f>, results: Vec<Slot>) {
        let mut renamed = BTreeSet::new();
        for (k, name) in callee.results.iter().enumerate() {
            let slot = results.get(k).copied().flatten();
            if let Some(value) = slot.filter(|v| v.index() >= callee.first)
                && renamed.insert(value)
                && !caller.values.contains_key(name.text.as_str())
            {
                let unique = self.unique(caller, &name.text);
                let old = std::mem::replace(&mut self.builder.program.values[value.index()].name, unique);
                self.names.remove(&old);
            }
            self.define(caller, name, slot);
        }
    }
}

/// Whether a value of type `found` can stand where `expected` is written. The alignment of an operator is not written.
fn same(found: &Type, expected: &Type) -> bool {
    found.as_mix().is_some() == expected.as_mix().is_some()
        && found.dtype() == expected.dtype()
        && found.dims() == expected.dims()
}

/// The names that a statement defines.
fn defined(kind: &StmtKind) -> &[Name] {
    match kind {
        StmtKind::Const { name, .. } => std::slice::from_ref(name),
        StmtKind::Op { results, .. } | StmtKind::Call { results, .. } | StmtKind::Broken { results, .. } => results,
        StmtKind::Return(_) => &[],
    }
}

/// The statement that a frame is at.
fn func_stmt(module: &Module<'_>, frame: &Frame<'_>) -> Option<Span> {
    module.funcs[frame.func].body.get(frame.next.checked_sub(1)?).map(|s| s.at.0)
}

/// A name short enough to be part of a made-up one.
fn shortened(name: &str) -> &str {
    // Names are ASCII, so every byte is a place to cut.
    &name[..name.len().min(limits::MAX_NAME / 2 - 16)]
}

fn names_span(names: &[Name], otherwise: Span) -> Span {
    match (names.first(), names.last()) {
        (Some(first), Some(last)) => first.at.0.to(last.at.0),
        _ => otherwise,
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn are(n: usize) -> String {
    if n == 1 { "1 is".into() } else { format!("{n} are") }
}
