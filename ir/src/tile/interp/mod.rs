//! The meaning of tile programs: running them over host tensors, one grid point after another, every access checked.
//!
//! This is the definition that back ends are compared with, so it prefers being obvious to being fast, and it is strict
//! where a machine may be lenient: both branches of a select, and value and index of a guarded store are evaluated
//! whatever the condition (a back end may do so), only a load whose guard is false reads nothing. Elements past a
//! tile's counts do not exist here; reading one is an error, as is storing an element twice or never, or an access
//! outside a tensor. Arithmetic is f64; [`Rounding`] says where values are rounded on the way.
//!
//! It deliberately knows no machine: no order of summation but the obvious one, no levels, no threads.

mod eval;
mod fault;
mod ops;

pub use fault::{TileError, TileFault};

use super::{Extent, Role, Stmt, TileOp, TileProgram, TileType};
use crate::dim::DimValues;
use crate::dtype::DType;
use crate::expr::{COL, Kind, ROW, Scalar, TileId, Var};
use crate::tensor::{Data, Tensor, strides};
use std::rc::Rc;

/// Where values are rounded. Integers wrap to 32 bits in tensors of [`DType::I32`] in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Nowhere: f64 throughout, in tensors of shorter types as well.
    Nowhere,
    /// Where a tensor element is stored, to the tensor's type.
    Stores,
    /// Also every element of an f32 tile when its tile is made: predicts a back end's f32 arithmetic.
    Tiles,
}

/// The elements of a tile that are present.
#[derive(Clone, Debug)]
struct Value {
    rows: usize,
    cols: usize,
    data: Vec<Scalar>,
}

impl Value {
    fn from_fn(
        (rows, cols): (usize, usize),
        mut f: impl FnMut(usize, usize) -> Result<Scalar, TileFault>,
    ) -> Result<Value, TileFault> {
        let mut data = Vec::new();
        for r in 0..rows {
            for c in 0..cols {
                data.push(f(r, c)?);
            }
        }
        Ok(Value { rows, cols, data })
    }

    fn counts(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn get(&self, r: usize, c: usize) -> Option<Scalar> {
        if r < self.rows && c < self.cols { self.data.get(r * self.cols + c).copied() } else { None }
    }
}

/// A tensor in slow memory while the program runs.
struct Memory<'a> {
    /// Lengths.
    shape: Vec<usize>,
    /// Row-major strides.
    strides: Vec<usize>,
    /// What is read; `None` for an output.
    input: Option<&'a Tensor>,
    /// What is written, `None` where nothing was yet; empty for an input.
    written: Vec<Option<Scalar>>,
    /// The grid point, by number, that wrote each element.
    writer: Vec<usize>,
}

struct Machine<'a> {
    program: &'a TileProgram,
    rounding: Rounding,
    memory: Vec<Memory<'a>>,
    vars: Vec<Option<i64>>,
    tiles: Vec<Option<Rc<Value>>>,
    /// The step being run, for errors.
    at: String,
    /// The grid point being run, counted from 1.
    point: usize,
}

/// Runs `program` at `dims`. `inputs` are the tensors with the role of an input, in the program's order, of the declared
/// shapes and the kind of the declared types; the results are the outputs in the program's order.
pub fn interpret(
    program: &TileProgram,
    dims: &DimValues,
    inputs: &[&Tensor],
    rounding: Rounding,
) -> Result<Vec<Tensor>, TileError> {
    let outside = |fault| TileError {
        program: program.name.clone(),
        at: String::new(),
        vars: Vec::new(),
        fault: Box::new(fault),
    };
    let concrete = program.at_dims(dims).map_err(|e| outside(TileFault::Dim(e.to_string())))?;
    let memory = memory(&concrete, dims, inputs).map_err(outside)?;
    let mut machine = Machine {
        program: &concrete,
        rounding,
        memory,
        vars: vec![None; concrete.vars as usize],
        tiles: vec![None; concrete.tiles.len()],
        at: String::new(),
        point: 0,
    };
    let done = machine.grid(0);
    done.and_then(|()| machine.outputs()).map_err(|fault| TileError {
        program: program.name.clone(),
        at: machine.at.clone(),
        vars: machine.named_vars(),
        fault: Box::new(fault),
    })
}

/// The kind of a tensor's elements.
fn kind_of(dtype: DType) -> Kind {
    TileType::of(dtype).kind()
}

fn memory<'a>(program: &TileProgram, dims: &DimValues, inputs: &[&'a Tensor]) -> Result<Vec<Memory<'a>>, TileFault> {
    let expected = program.tensors.iter().filter(|t| t.role == Role::Input).count();
    if expected != inputs.len() {
        return Err(TileFault::InputCount { expected, given: inputs.len() });
    }
    let mut inputs = inputs.iter();
    let mut memory = Vec::with_capacity(program.tensors.len());
    for slow in &program.tensors {
        let mut shape = Vec::with_capacity(slow.shape.len());
        for d in &slow.shape {
            let n = d.eval(dims).map_err(|e| TileFault::Dim(e.to_string()))?;
            shape.push(usize::try_from(n).map_err(|_| TileFault::Dim(format!("dimension {d} is {n}")))?);
        }
        let (input, written) = match slow.role {
            Role::Output => {
                let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
                let too_many = || TileFault::Dim(format!("`{}` has too many elements", slow.name));
                (None, vec![None; elements.ok_or_else(too_many)?])
            }
            Role::Input => {
                let given = *inputs.next().expect("as many inputs as input tensors");
                if given.shape != shape || given.kind() != kind_of(slow.dtype) {
                    let given = given.shape.clone();
                    return Err(TileFault::Input { name: slow.name.clone(), expected: shape, given });
                }
                (Some(given), Vec::new())
            }
        };
        let writer = vec![0; written.len()];
        memory.push(Memory { strides: strides(&shape), shape, input, written, writer });
    }
    Ok(memory)
}

fn flat(shape: &[usize], strides: &[usize], index: &[i64]) -> Option<usize> {
    if index.len() != shape.len() {
        return None;
    }
    let mut sum = 0;
    for ((&i, &n), &s) in index.iter().zip(shape).zip(strides) {
        let i = usize::try_from(i).ok().filter(|&i| i < n)?;
        sum += i * s;
    }
    Some(sum)
}

impl Machine<'_> {
    fn named_vars(&self) -> Vec<(String, i64)> {
        let name = |k: usize| {
            let axis = self.program.grid.iter().find(|a| a.var.0 as usize == k);
            axis.map_or_else(|| format!("x{k}"), |a| a.name.clone())
        };
        self.vars.iter().enumerate().filter_map(|(k, v)| v.map(|n| (name(k), n))).collect()
    }

    fn set_var(&mut self, v: Var, n: Option<i64>) -> Result<(), TileFault> {
        match self.vars.get_mut(v.0 as usize) {
            Some(slot) if v != ROW && v != COL => {
                *slot = n;
                Ok(())
            }
            _ => Err(TileFault::UnboundVar(v)),
        }
    }

    fn grid(&mut self, axis: usize) -> Result<(), TileFault> {
        let program = self.program;
        let Some(a) = program.grid.get(axis) else {
            self.point += 1;
            let done = self.block(&program.body);
            return done.map(|()| self.forget(&program.body));
        };
        for point in 0..self.integer(&a.extent, None)? {
            self.set_var(a.var, Some(point))?;
            self.grid(axis + 1)?;
        }
        self.set_var(a.var, None)
    }

    fn block(&mut self, body: &[Stmt]) -> Result<(), TileFault> {
        body.iter().try_for_each(|s| self.step(s))
    }

    /// Takes their values from the tiles that `body` defines: they are gone at its end.
    fn forget(&mut self, body: &[Stmt]) {
        for stmt in body {
            let defined: Vec<TileId> = match stmt {
                Stmt::Let { results, .. } => results.clone(),
                Stmt::For { carry, .. } => carry.iter().map(|c| c.result).collect(),
                Stmt::Store { .. } => Vec::new(),
            };
            for t in defined {
                if let Some(slot) = self.tiles.get_mut(t.0 as usize) {
                    *slot = None;
                }
            }
        }
    }

    fn step(&mut self, stmt: &Stmt) -> Result<(), TileFault> {
        match stmt {
            Stmt::Let { results, op } => {
                self.at = format!("tile `{}`", results.first().map_or("", |t| self.tile_name(*t)));
                let values = self.run(results, op)?;
                if values.len() != results.len() {
                    return Err(TileFault::Shapes(format!("{} results, {} named", values.len(), results.len())));
                }
                for (t, value) in results.iter().zip(values) {
                    self.define(*t, Rc::new(value))?;
                }
                Ok(())
            }
            Stmt::For { var, from, to, step, when, carry, body } => {
                let here = format!("loop x{}", var.0);
                self.at.clone_from(&here);
                if *step <= 0 {
                    return Err(TileFault::Step(*step));
                }
                let (mut turn, end) = (self.integer(from, None)?, self.integer(to, None)?);
                let mut state: Vec<Rc<Value>> = Vec::with_capacity(carry.len());
                for c in carry {
                    state.push(self.value(c.init)?);
                }
                while turn < end {
                    self.set_var(*var, Some(turn))?;
                    let runs = match when {
                        None => true,
                        Some(e) => self.boolean(e, None)?,
                    };
                    if runs {
                        for (c, value) in carry.iter().zip(&state) {
                            self.define(c.inside, value.clone())?;
                        }
                        self.block(body)?;
                        self.at.clone_from(&here);
                        for (c, value) in carry.iter().zip(&mut state) {
                            *value = self.value(c.next)?;
                        }
                        for c in carry {
                            self.tiles[c.inside.0 as usize] = None;
                        }
                        self.forget(body);
                    }
                    turn = turn.checked_add(*step).ok_or(TileFault::Step(*step))?;
                }
                self.set_var(*var, None)?;
                for (c, value) in carry.iter().zip(state) {
                    self.define(c.result, value)?;
                }
                Ok(())
            }
            Stmt::Store { tensor, index, value, rows, cols, guard } => {
                let slow = self
                    .program
                    .tensors
                    .get(tensor.0 as usize)
                    .ok_or_else(|| TileFault::WrongRole(format!("m{}", tensor.0)))?;
                self.at = format!("store to `{}`", slow.name);
                if slow.role != Role::Output {
                    return Err(TileFault::WrongRole(slow.name.clone()));
                }
                let (name, dtype) = (slow.name.clone(), slow.dtype);
                for r in 0..self.count(rows)? {
                    for c in 0..self.count(cols)? {
                        let at = Some((r, c));
                        let stores = match guard {
                            None => true,
                            Some(g) => self.boolean(g, at)?,
                        };
                        let x = self.stored(self.eval(value, at)?, dtype)?;
                        let index = self.index(index, at)?;
                        if !stores {
                            continue;
                        }
                        let memory = &mut self.memory[tensor.0 as usize];
                        let Some(place) = flat(&memory.shape, &memory.strides, &index) else {
                            return Err(TileFault::StoreOutside { name, index, shape: memory.shape.clone() });
                        };
                        if memory.written[place].replace(x).is_some() {
                            return Err(TileFault::StoredTwice { name, index });
                        }
                        memory.writer[place] = self.point;
                    }
                }
                Ok(())
            }
        }
    }

    fn stored(&self, x: Scalar, dtype: DType) -> Result<Scalar, TileFault> {
        match (x, kind_of(dtype)) {
            (Scalar::Float(x), Kind::Float) if self.rounding == Rounding::Nowhere => Ok(Scalar::Float(x)),
            (Scalar::Float(x), Kind::Float) => Ok(Scalar::Float(dtype.round(x))),
            (Scalar::Int(n), Kind::Int) if dtype == DType::I32 => Ok(Scalar::Int(n as i32 as i64)),
            (Scalar::Int(n), Kind::Int) => Ok(Scalar::Int(n)),
            (Scalar::Bool(b), Kind::Bool) => Ok(Scalar::Bool(b)),
            (x, _) => Err(TileFault::Kinds(format!("a value of kind {:?} is stored as {dtype}", x.kind()))),
        }
    }

    fn outputs(&mut self) -> Result<Vec<Tensor>, TileFault> {
        let mut outputs = Vec::new();
        for (slow, memory) in self.program.tensors.iter().zip(&mut self.memory) {
            if slow.role == Role::Input {
                continue;
            }
            let count = memory.written.iter().filter(|x| x.is_none()).count();
            if let Some(first) = memory.written.iter().position(Option::is_none) {
                return Err(TileFault::NeverStored { name: slow.name.clone(), first, count });
            }
            let all = memory.written.drain(..).map(|x| x.expect("every element was seen to be written above"));
            let data = match kind_of(slow.dtype) {
                Kind::Float => Data::Float(all.map(Scalar::as_float).collect()),
                Kind::Int => Data::Int(all.map(Scalar::as_int).collect()),
                Kind::Bool => Data::Bool(all.map(Scalar::as_bool).collect()),
            };
            outputs.push(Tensor { shape: memory.shape.clone(), data });
        }
        Ok(outputs)
    }

    fn tile_name(&self, t: TileId) -> &str {
        self.program.tiles.get(t.0 as usize).map_or("?", |t| &t.name)
    }

    fn value(&self, t: TileId) -> Result<Rc<Value>, TileFault> {
        let value = self.tiles.get(t.0 as usize).cloned().flatten();
        value.ok_or_else(|| TileFault::Undefined(self.tile_name(t).to_string()))
    }

    /// Gives a tile its value, checked against the tile's type and extents as they are here and now.
    fn define(&mut self, t: TileId, value: Rc<Value>) -> Result<(), TileFault> {
        let undefined = || TileFault::Undefined(self.tile_name(t).to_string());
        let tile = self.program.tiles.get(t.0 as usize).ok_or_else(undefined)?;
        let counts = self.counts(t)?;
        if counts != value.counts() {
            let text = format!("tile `{}` is {counts:?} by its extents, its value {:?}", tile.name, value.counts());
            return Err(TileFault::Shapes(text));
        }
        if let Some(x) = value.data.iter().find(|x| x.kind() != tile.ty.kind()) {
            return Err(TileFault::Kinds(format!("tile `{}` is {:?}, its value {:?}", tile.name, tile.ty, x.kind())));
        }
        if self.tiles[t.0 as usize].is_some() {
            return Err(undefined());
        }
        self.tiles[t.0 as usize] = Some(value);
        Ok(())
    }

    fn count(&self, e: &Extent) -> Result<usize, TileFault> {
        let count = self.integer(&e.count, None)?;
        usize::try_from(count).ok().filter(|&n| n <= e.cap).ok_or(TileFault::Count { count, cap: e.cap })
    }

    fn counts(&self, t: TileId) -> Result<(usize, usize), TileFault> {
        match self.program.tiles.get(t.0 as usize) {
            Some(tile) => Ok((self.count(&tile.rows)?, self.count(&tile.cols)?)),
            None => Err(TileFault::Undefined(format!("t{}", t.0))),
        }
    }

    /// The values of a tile operation's results.
    fn run(&self, results: &[TileId], op: &TileOp) -> Result<Vec<Value>, TileFault> {
        let first = *results.first().ok_or_else(|| TileFault::Shapes("a step without a result".into()))?;
        let tile = self.program.tiles.get(first.0 as usize).ok_or_else(|| TileFault::Undefined(String::new()))?;
        let round = |x: f64| self.rounded(tile.ty, Scalar::Float(x)).as_float();
        Ok(match op {
            TileOp::Map(e) => {
                let counts = self.counts(first)?;
                vec![Value::from_fn(counts, |r, c| Ok(self.rounded(tile.ty, self.eval(e, Some((r, c)))?)))?]
            }
            TileOp::Dot { a, b, acc } => {
                let acc = acc.map(|t| self.value(t)).transpose()?;
                let (left, right) = (self.value(a.tile)?, self.value(b.tile)?);
                vec![ops::dot((&left, a.transposed), (&right, b.transposed), acc.as_deref(), round)?]
            }
            TileOp::Reduce { combine, axis, of } => {
                vec![ops::reduce(*combine, *axis, &*self.value(*of)?, tile.ty)?.map(|x| self.rounded(tile.ty, x))]
            }
            TileOp::Scan { combine, axis, reverse, of } => {
                vec![ops::scan(*combine, *axis, *reverse, &*self.value(*of)?, tile.ty, |x| self.rounded(tile.ty, x))?]
            }
            TileOp::Recurrence { decay, input, start } => {
                let start = start.map(|t| self.value(t)).transpose()?;
                vec![ops::recurrence(&*self.value(*decay)?, &*self.value(*input)?, start.as_deref(), round)?]
            }
            TileOp::Solve { lower, rhs } => vec![ops::solve(&*self.value(*lower)?, &*self.value(*rhs)?, round)?],
            TileOp::TopK { of } => {
                let k = results.first().map_or(Ok(0), |t| self.counts(*t).map(|(_, k)| k))?;
                ops::top_k(&*self.value(*of)?, k)?.into()
            }
        })
    }
}

#[cfg(test)]
mod tests;
