//! The meaning of a lowered model: its steps in order on the interpreter of tile programs. The `interp` back end.
//!
//! Besides every check of [`tile::interpret`](crate::tile::interpret), it holds a lowered model to its own rules: the bind phase sees weights
//! and constants alone, the run phase reads weights only through what the bind phase made, a buffer is written by one
//! step and before it is read, and where a memory plan is given, writing a buffer destroys the others of its slot.

use crate::dim::DimValues;
use crate::dtype::DType;
use crate::expr::Scalar;
use crate::lowered::{Action, BufferId, Lowered, Phase, Place, Step};
use crate::reference::Weights;
use crate::tensor::Tensor;
use crate::tile::{Role, Rounding, TileError, TileType, interpret};
use std::fmt;

/// Why a lowered model does not run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunError {
    /// A tile program fails.
    Tile {
        /// Number of the step.
        step: usize,
        /// Why.
        error: TileError,
    },
    /// A dim has no value, leaves its bounds, or a division does not come out.
    Dim(String),
    /// The number, shape or kind of the arguments is wrong.
    Argument(String),
    /// A weight is not given or has another shape.
    Weight(String),
    /// An element of ids is out of range: not the model's fault but the caller's.
    Ids {
        /// Name of the ids.
        buffer: String,
        /// The element.
        id: i64,
        /// Exclusive bound.
        below: i64,
    },
    /// The model breaks a rule of lowered models.
    Rule {
        /// Number of the step.
        step: usize,
        /// Which.
        what: String,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Tile { step, error } => write!(f, "step {step}: {error}"),
            RunError::Dim(what) | RunError::Argument(what) | RunError::Weight(what) => f.write_str(what),
            RunError::Ids { buffer, id, below } => write!(f, "`{buffer}` holds {id}, which is not in 0..{below}"),
            RunError::Rule { step, what } => write!(f, "step {step}: {what}"),
        }
    }
}

impl std::error::Error for RunError {}

/// What the bind phase leaves: one value for each buffer of [`Place::Bound`], at the buffer's place.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    values: Vec<Option<Tensor>>,
}

struct Runner<'a> {
    lowered: &'a Lowered,
    dims: &'a DimValues,
    rounding: Rounding,
    phase: Phase,
    values: Vec<Option<Tensor>>,
}

/// Runs the bind phase on `weights`, by name, of the declared shapes.
pub fn bind(lowered: &Lowered, weights: &Weights, rounding: Rounding) -> Result<Bound, RunError> {
    let none = DimValues::new();
    let mut runner = Runner::new(lowered, &none, rounding, Phase::Bind)?;
    for (k, buffer) in lowered.buffers.iter().enumerate() {
        if let Place::Weight(name) = &buffer.place {
            let given = weights.get(name).ok_or_else(|| RunError::Weight(format!("weight {name:?} is not given")))?;
            let shape = runner.shape(BufferId(k as u32))?;
            if given.shape != shape || given.kind() != TileType::of(buffer.dtype).kind() {
                let text = format!("weight {name:?} has shape {:?} or the wrong kind, expected {shape:?}", given.shape);
                return Err(RunError::Weight(text));
            }
            runner.values[k] = Some(given.clone().rounded(buffer.dtype));
        }
    }
    runner.steps()?;
    for (value, buffer) in runner.values.iter_mut().zip(&lowered.buffers) {
        if buffer.place != Place::Bound {
            *value = None;
        }
    }
    Ok(Bound { values: runner.values })
}

/// Runs the run phase on the arguments, of the declared shapes at `dims`; the results in order.
pub fn run(
    lowered: &Lowered,
    dims: &DimValues,
    bound: &Bound,
    inputs: &[Tensor],
    rounding: Rounding,
) -> Result<Vec<Tensor>, RunError> {
    check_dims(lowered, dims)?;
    let mut runner = Runner::new(lowered, dims, rounding, Phase::Run)?;
    for (value, bound) in runner.values.iter_mut().zip(&bound.values) {
        if bound.is_some() {
            value.clone_from(bound);
        }
    }
    if inputs.len() != lowered.params.len() {
        let text = format!("{} arguments are given, {} expected", inputs.len(), lowered.params.len());
        return Err(RunError::Argument(text));
    }
    for (b, given) in lowered.params.iter().zip(inputs) {
        let (buffer, shape) = (lowered.buffer(*b), runner.shape(*b)?);
        if given.shape != shape || given.kind() != TileType::of(buffer.dtype).kind() {
            let text = format!("`{}` has shape {:?} or the wrong kind, expected {shape:?}", buffer.name, given.shape);
            return Err(RunError::Argument(text));
        }
        runner.values[b.index()] = Some(given.clone().rounded(buffer.dtype));
    }
    runner.steps()?;
    let result = |b: &BufferId| {
        let name = &lowered.buffer(*b).name;
        let what = || RunError::Rule { step: lowered.steps.len(), what: format!("result `{name}` is never written") };
        runner.values[b.index()].clone().ok_or_else(what)
    };
    lowered.results.iter().map(result).collect()
}

/// Both phases.
pub fn interpret_lowered(
    lowered: &Lowered,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
    rounding: Rounding,
) -> Result<Vec<Tensor>, RunError> {
    run(lowered, dims, &bind(lowered, weights, rounding)?, inputs, rounding)
}

/// Whether every symbol has a value inside its bounds, and what must come out does.
fn check_dims(lowered: &Lowered, dims: &DimValues) -> Result<(), RunError> {
    for d in &lowered.dims {
        match dims.get(&d.name) {
            None => return Err(RunError::Dim(format!("dimension `{}` has no value", d.name))),
            Some(n) if !(d.low..=d.high).contains(n) => {
                return Err(RunError::Dim(format!("dimension `{}` is {n}, outside {}..={}", d.name, d.low, d.high)));
            }
            Some(_) => {}
        }
    }
    for d in &lowered.must_hold {
        match d.eval(dims) {
            Err(e) => return Err(RunError::Dim(e.to_string())),
            Ok(n) if n < 0 => return Err(RunError::Dim(format!("dimension `{d}` is {n}"))),
            Ok(_) => {}
        }
    }
    Ok(())
}

impl<'a> Runner<'a> {
    fn new(
        lowered: &'a Lowered,
        dims: &'a DimValues,
        rounding: Rounding,
        phase: Phase,
    ) -> Result<Runner<'a>, RunError> {
        let mut runner = Runner { lowered, dims, rounding, phase, values: vec![None; lowered.buffers.len()] };
        for (k, buffer) in lowered.buffers.iter().enumerate() {
            if let Place::Constant(numbers) = &buffer.place {
                // A constant whose lengths are dims of the call cannot be written down.
                let fixed = buffer.shape.iter().all(|d| d.as_constant().is_some());
                let shape = runner.shape(BufferId(k as u32))?;
                if !fixed || shape.iter().product::<usize>() != numbers.len() {
                    let text = format!("constant `{}` of shape {shape:?} has {} numbers", buffer.name, numbers.len());
                    return Err(RunError::Rule { step: 0, what: text });
                }
                let kind = TileType::of(buffer.dtype).kind();
                let value = Tensor::from_fn(kind, &shape, |k| Scalar::Float(numbers[k]));
                runner.values[k] = Some(value.rounded(buffer.dtype));
            }
        }
        Ok(runner)
    }

    fn shape(&self, b: BufferId) -> Result<Vec<usize>, RunError> {
        let length = |d: &crate::dim::Dim| {
            let n = d.eval(self.dims).map_err(|e| RunError::Dim(e.to_string()))?;
            usize::try_from(n).map_err(|_| RunError::Dim(format!("dimension {d} is {n}")))
        };
        self.lowered.buffer(b).shape.iter().map(length).collect()
    }

    fn slots(&self) -> &'a [Vec<BufferId>] {
        match self.phase {
            Phase::Bind => &self.lowered.plan.bind,
            Phase::Run => &self.lowered.plan.run,
        }
    }

    fn steps(&mut self) -> Result<(), RunError> {
        let (lowered, phase) = (self.lowered, self.phase);
        for (number, step) in lowered.steps.iter().enumerate().filter(|(_, s)| s.phase == phase) {
            self.step(number, step)?;
        }
        Ok(())
    }

    fn read(&self, number: usize, b: BufferId) -> Result<&Tensor, RunError> {
        let rule = |what| RunError::Rule { step: number, what };
        let buffer = self.lowered.buffers.get(b.index()).ok_or_else(|| rule(format!("there is no buffer {}", b.0)))?;
        self.values[b.index()].as_ref().ok_or_else(|| {
            let why = match (&buffer.place, self.phase) {
                (Place::Weight(_), Phase::Run) => "is a weight, which the bind phase alone may read",
                (Place::Param(_), Phase::Bind) => "is a parameter, which the bind phase cannot read",
                _ => "is read before it is written, or after its slot was written again",
            };
            rule(format!("`{}` {why}", buffer.name))
        })
    }

    fn step(&mut self, number: usize, step: &Step) -> Result<(), RunError> {
        let rule = |what| RunError::Rule { step: number, what };
        match &step.action {
            Action::CheckIds { ids, below } => {
                let below = below.eval(self.dims).map_err(|e| RunError::Dim(e.to_string()))?;
                let tensor = self.read(number, *ids)?;
                match (0..tensor.len()).map(|k| tensor.get(k).as_int()).find(|n| !(0..below).contains(n)) {
                    None => Ok(()),
                    Some(id) => Err(RunError::Ids { buffer: self.lowered.buffer(*ids).name.clone(), id, below }),
                }
            }
            Action::Run { program, buffers, .. } => {
                if buffers.len() != program.tensors.len() {
                    let text = format!("{} buffers for {} tensors", buffers.len(), program.tensors.len());
                    return Err(rule(text));
                }
                let mut inputs = Vec::new();
                let mut outputs = Vec::new();
                for (slow, b) in program.tensors.iter().zip(buffers) {
                    match slow.role {
                        Role::Input => inputs.push(self.read(number, *b)?),
                        Role::Output => outputs.push(*b),
                    }
                    let dtype: Option<DType> = self.lowered.buffers.get(b.index()).map(|b| b.dtype);
                    if dtype != Some(slow.dtype) {
                        return Err(rule(format!("tensor `{}` is {}, its buffer {dtype:?}", slow.name, slow.dtype)));
                    }
                }
                for slot in self.slots() {
                    let (reads, writes): (Vec<_>, Vec<_>) = program
                        .tensors
                        .iter()
                        .zip(buffers)
                        .filter(|(_, b)| slot.contains(b))
                        .partition(|(slow, _)| slow.role == Role::Input);
                    if let (Some((slow, _)), Some((other, _))) = (reads.first(), writes.first()) {
                        return Err(rule(format!("`{}` and `{}` share a slot", slow.name, other.name)));
                    }
                }
                let results = interpret(program, self.dims, &inputs, self.rounding)
                    .map_err(|error| RunError::Tile { step: number, error })?;
                for (b, value) in outputs.into_iter().zip(results) {
                    self.write(b, value).map_err(rule)?;
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, b: BufferId, value: Tensor) -> Result<(), String> {
        let buffer = self.lowered.buffer(b);
        let allowed = match (&buffer.place, self.phase) {
            (Place::Temporary, _) | (Place::Bound, Phase::Bind) | (Place::Result(_), Phase::Run) => true,
            (Place::Bound | Place::Result(_) | Place::Param(_) | Place::Weight(_) | Place::Constant(_), _) => false,
        };
        if !allowed {
            return Err(format!(
                "`{}` is {:?}, which the {:?} phase may not write",
                buffer.name, buffer.place, self.phase
            ));
        }
        if self.shape(b).map_err(|e| e.to_string())? != value.shape {
            return Err(format!("`{}` gets a value of shape {:?}", buffer.name, value.shape));
        }
        if self.values[b.index()].is_some() {
            return Err(format!("`{}` is written twice", buffer.name));
        }
        for other in self.slots().iter().filter(|slot| slot.contains(&b)).flatten() {
            if let Some(value) = self.values.get_mut(other.index()) {
                *value = None;
            }
        }
        self.values[b.index()] = Some(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::expr::{COL, Expr};
    use crate::lowered::{Buffer, MemoryPlan};
    use crate::program::DimItem;
    use crate::tile::{Extent, TileBuilder, TileProgram};

    /// y = x + by, of length `n`.
    fn add(n: &Dim, by: f64) -> TileProgram {
        let mut b = TileBuilder::new("add");
        let x = b.input("x", DType::F32, std::slice::from_ref(n));
        let y = b.output("y", DType::F32, std::slice::from_ref(n));
        let i = b.grid("i", Expr::from(&n.ceil_div(4).unwrap()));
        let cols = Extent::block(4, i.clone() * Expr::int(4), Expr::from(n));
        let place = vec![i * Expr::int(4) + Expr::from(COL)];
        let value = Expr::load(x, place.clone()) + Expr::float(by);
        b.store(y, place, value, &Extent::fixed(1), &cols);
        b.finish()
    }

    fn buffer(name: &str, shape: &Dim, place: Place) -> Buffer {
        Buffer { name: name.into(), dtype: DType::F32, shape: vec![shape.clone()], place }
    }

    fn step(phase: Phase, program: TileProgram, buffers: [u32; 2]) -> Step {
        let buffers = buffers.into_iter().map(BufferId).collect();
        Step { phase, action: Action::Run { program, buffers, form: String::new(), site: String::new() } }
    }

    /// x -> a -> b -> y, each step adding; the bind phase adds to a weight, which nothing reads but the tests.
    fn chain() -> Lowered {
        let (t, three) = (Dim::symbol("T"), Dim::constant(3));
        Lowered {
            name: "chain".into(),
            dims: vec![DimItem { name: "T".into(), low: 0, high: 9 }],
            buffers: vec![
                buffer("x", &t, Place::Param(0)),
                buffer("a", &t, Place::Temporary),
                buffer("b", &t, Place::Temporary),
                buffer("y", &t, Place::Result(0)),
                buffer("w", &three, Place::Weight("w".into())),
                buffer("v", &three, Place::Bound),
            ],
            params: vec![BufferId(0)],
            results: vec![BufferId(3)],
            steps: vec![
                step(Phase::Bind, add(&three, 1.0), [4, 5]),
                step(Phase::Run, add(&t, 1.0), [0, 1]),
                step(Phase::Run, add(&t, 2.0), [1, 2]),
                step(Phase::Run, add(&t, 4.0), [2, 3]),
            ],
            ..Lowered::default()
        }
    }

    fn call(lowered: &Lowered, n: usize) -> Result<Vec<Tensor>, RunError> {
        let dims = DimValues::from([("T".into(), n as i64)]);
        let x = Tensor::floats(&[n], (0..n).map(|k| k as f64).collect());
        let weights = Weights::from([("w".into(), Tensor::floats(&[3], vec![0.0; 3]))]);
        interpret_lowered(lowered, &dims, &[x], &weights, Rounding::Tiles)
    }

    #[test]
    fn both_phases_run_in_order() {
        for n in [0, 1, 5, 9] {
            assert_eq!(
                call(&chain(), n).unwrap()[0].data,
                crate::tensor::Data::Float((0..n).map(|k| k as f64 + 7.0).collect())
            );
        }
        assert!(matches!(call(&chain(), 10), Err(RunError::Dim(_))));
    }

    #[test]
    fn a_lowered_model_prints_every_part() {
        let mut lowered = chain();
        lowered.plan.run = vec![vec![BufferId(1)], vec![BufferId(2)]];
        let text = lowered.to_string();
        for part in [
            "lowered chain(%0:x) -> (%3:y)",
            "  dim T in 0..=9",
            "  buffer %4:w: f32[3] weight \"w\"",
            "  run slot 1: %2:b",
            "on %2:b, %3:y\n    tile add(",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn rules_of_buffers_are_enforced() {
        let broken = |change: fn(&mut Lowered)| {
            let mut lowered = chain();
            change(&mut lowered);
            match call(&lowered, 5) {
                Err(RunError::Rule { step, .. }) => step,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(broken(|l| l.steps.swap(1, 2)), 1);
        assert_eq!(broken(|l| l.steps[2] = step(Phase::Run, add(&Dim::symbol("T"), 2.0), [0, 1])), 2);
        assert_eq!(broken(|l| l.steps[0].phase = Phase::Run), 0);
        assert_eq!(broken(|l| l.steps[1].phase = Phase::Bind), 1);
        assert_eq!(broken(|l| l.steps.truncate(3)), 3);
    }

    #[test]
    fn a_plan_that_overlaps_is_noticed() {
        let mut lowered = chain();
        lowered.plan = MemoryPlan { run: vec![vec![BufferId(1)], vec![BufferId(2)]], bind: vec![] };
        assert!(call(&lowered, 5).is_ok());
        lowered.plan.run = vec![vec![BufferId(1), BufferId(2)]];
        assert!(matches!(call(&lowered, 5), Err(RunError::Rule { step: 2, .. })));
        // `a` is read again after `z` was written over it.
        let t = Dim::symbol("T");
        lowered.buffers.extend([buffer("z", &t, Place::Temporary), buffer("u", &t, Place::Temporary)]);
        lowered.steps.push(step(Phase::Run, add(&t, 0.0), [2, 6]));
        lowered.plan.run = vec![vec![BufferId(1), BufferId(6)], vec![BufferId(2)], vec![BufferId(7)]];
        assert!(call(&lowered, 5).is_ok());
        lowered.steps.push(step(Phase::Run, add(&t, 0.0), [1, 7]));
        assert!(matches!(call(&lowered, 5), Err(RunError::Rule { step: 5, .. })));
    }

    #[test]
    fn ids_out_of_range_fail_the_call() {
        let mut lowered = chain();
        lowered
            .steps
            .insert(1, Step { phase: Phase::Run, action: Action::CheckIds { ids: BufferId(0), below: 4i64.into() } });
        lowered.buffers[0].dtype = DType::F32;
        assert!(call(&lowered, 4).is_ok());
        assert!(matches!(call(&lowered, 5), Err(RunError::Ids { id: 4, below: 4, .. })));
    }
}
