//! Right sides that the law of an operation builds: a program over the operands that were matched, as terms.
//!
//! A right side of many operations, with shapes of its own, is written once, beside the operation, as expansions are.

use super::facts::{Fact, InputFact, Surroundings, TermGraph};
use super::pattern::{Binding, Variables};
use super::region::{Region, import};
use super::rule::Terms;
use super::term::{Head, Term};
use egg::Id;
use mixc_ir::attr::Attrs;
use mixc_ir::op::{Build, Call, Op};
use mixc_ir::program::{Builder, DimItem};
use mixc_ir::ty::Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is built: `build` is asked about the call of `op` over the variables `?o0`, `?o1`, .. with the attributes `..?a`.
#[derive(Clone, Copy, Debug)]
pub struct Built {
    /// The operation.
    pub op: &'static Op,
    /// What its law builds.
    pub build: Build,
}

/// A [`Built`] with the places of its variables.
#[derive(Clone, Debug)]
pub struct BuiltOver {
    built: Built,
    operands: Vec<usize>,
    attrs: Vec<(String, usize)>,
}

impl Built {
    /// With the places of its variables; the error names one that nothing binds.
    pub fn over(self, variables: &Variables) -> Result<BuiltOver, String> {
        let place = |name: &str| variables.find(name).ok_or_else(|| format!("`?{name}` is bound by nothing"));
        let operands = self.op.operands.iter().map(|o| place(o.name)).collect::<Result<_, _>>()?;
        let attrs = variables.of_spread("attrs").map(|(name, v)| (name.to_string(), v)).collect();
        Ok(BuiltOver { built: self, operands, attrs })
    }
}

impl BuiltOver {
    /// What is built of what is bound; the error says why nothing is.
    pub fn build(&self, terms: &dyn Terms, binding: &Binding) -> Result<Made, String> {
        let fact = |v: usize| binding[v].map(|id| terms.fact(id)).ok_or_else(|| format!("variable {v} is not bound"));
        let bounds = &terms.around().bounds;
        let dims = bounds.iter().map(|(name, (low, high))| DimItem { name: name.clone(), low: *low, high: *high });
        let mut b = Builder::new("built", dims.collect());
        let mut types: Vec<Type> = Vec::with_capacity(self.operands.len());
        for v in &self.operands {
            types.push(fact(*v)?.ty().cloned().ok_or("an operand is no value")?);
        }
        let mut attrs = Attrs::new();
        for (name, v) in &self.attrs {
            if let Fact::Attr(value) = fact(*v)? {
                attrs = attrs.with(name, value.clone());
            }
        }
        let inputs: Vec<_> = types.iter().enumerate().map(|(k, ty)| b.param(&format!("o{k}"), ty.clone())).collect();
        let call = Call {
            op: self.built.op,
            types: types.iter().map(Some).collect(),
            structures: vec![None; types.len()],
            values: inputs.iter().copied().map(Some).collect(),
            attrs: &attrs,
            written: &[],
            bounds,
        };
        let root =
            (self.built.build.build)(&mut b, &call).map_err(|f| super::facts::describe(self.built.op.name, &f))?;
        let program = b.finish(vec![root]);
        let region = Region { nodes: (0..program.nodes.len()).collect(), inputs, roots: vec![root] };
        let input =
            |(k, ty): (usize, Type)| InputFact { ty, positive: false, positions: None, order: k as u32, alike: 0 };
        let inputs = Arc::new(types.into_iter().enumerate().map(input).collect());
        let around = Surroundings { bounds: bounds.clone(), inputs, ..Surroundings::default() };
        let imported = import(&program, &region, around)?;
        let root = *imported.roots.first().ok_or("nothing is built")?;
        Ok(Made { graph: imported.graph, root, operands: self.operands.clone() })
    }
}

/// Terms that were built, over variables.
#[derive(Clone, Debug)]
pub struct Made {
    graph: TermGraph,
    root: Id,
    operands: Vec<usize>,
}

impl Made {
    /// What is known of the whole.
    pub fn fact(&self) -> &Fact {
        self.graph.fact(self.root)
    }

    /// All terms in turn, arguments first: `term` puts one, `variable` gives what one stands for. The last one's.
    pub fn fold<E>(
        &self,
        mut term: impl FnMut(Term) -> Result<Id, E>,
        mut variable: impl FnMut(usize) -> Result<Id, E>,
    ) -> Result<Id, E> {
        let mut places: BTreeMap<Id, Id> = BTreeMap::new();
        let mut last = self.root;
        for id in self.graph.reachable(&[self.root]) {
            let found = self.graph.term(id);
            last = match &found.head {
                Head::Input(k) => variable(self.operands[*k as usize])?,
                head => term(Term { head: head.clone(), args: found.args.iter().map(|a| places[a]).collect() })?,
            };
            places.insert(id, last);
        }
        Ok(last)
    }
}
