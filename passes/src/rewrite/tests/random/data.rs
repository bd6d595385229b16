//! Operands of random terms: tensors and numbers of every kind, some of them unusual.

use super::super::super::facts::InputFact;
use super::super::super::positions::Positions;
use super::super::super::term::{Head, Term};
use super::{Data, Instance};
use egg::Id;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::op::{OperandKind, OperandSpec};
use mixc_ir::tensor::Tensor;
use mixc_ir::ty::{TensorType, Type};
use std::sync::Arc;

impl Instance {
    /// An operand, often of the shape of the one before it. The parts of complex numbers have one shape and one scale.
    pub(super) fn beside(&mut self, before: &[Id], spec: &OperandSpec) -> Option<Id> {
        let last = before.last().and_then(|id| self.graph.fact(*id).tensor());
        let shape = last.filter(|t| t.dtype == self.dtype).map(|t| t.shape.clone());
        let part = spec.name.ends_with("_im");
        match shape {
            Some(shape)
                if matches!(spec.kind, OperandKind::Data | OperandKind::Beside) && (part || self.rng.chance(30)) =>
            {
                let shape: Vec<usize> = shape.iter().filter_map(|d| usize::try_from(d.as_constant()?).ok()).collect();
                let scale = if part { self.scale } else { self.any_scale() };
                self.scaled_input(&shape, false, scale)
            }
            _ => self.operand(spec.kind),
        }
    }

    pub(super) fn operand(&mut self, kind: OperandKind) -> Option<Id> {
        match kind {
            OperandKind::Mix => self.operator(),
            OperandKind::Any if self.rng.chance(50) => self.operator(),
            OperandKind::Int => {
                // Lengths of sequences, numbers of tokens, the same for each of a batch.
                let shape = match self.rng.below(3) {
                    0 => vec![self.batch().first().copied().unwrap_or(1)],
                    1 => vec![self.tokens],
                    _ => [self.batch(), vec![self.tokens]].concat(),
                };
                let n = shape.iter().product();
                let up_to = if self.kind == Data::Zeros { *self.rng.pick(&[1, 2]) } else { self.keys + 2 };
                let data = (0..n).map(|_| self.rng.below(up_to) as i64).collect();
                self.input(DType::I64, Tensor::ints(&shape, data), false)
            }
            OperandKind::Bool => {
                let mut shape = if self.rng.chance(50) { self.batch() } else { Vec::new() };
                let (t, s) = (self.length(), self.length());
                let block = *self.rng.pick(&[1, 1, 2, 3]);
                shape.extend([t.div_ceil(block), s.div_ceil(block)]);
                let n = shape.iter().product();
                let seen = if self.kind == Data::Zeros { *self.rng.pick(&[0, 10, 100]) } else { 60 };
                let data = (0..n).map(|_| self.rng.chance(seen)).collect();
                self.input(DType::Bool, Tensor::bools(&shape, data), false)
            }
            _ => self.tensor(),
        }
    }

    /// A real tensor, or a constant.
    pub(super) fn tensor(&mut self) -> Option<Id> {
        let (t, s) = (self.length(), self.length());
        let [r, d] = self.features;
        let body = match self.rng.below(12) {
            _ if self.paired && self.rng.chance(50) => vec![t, r],
            0..=3 => vec![t, r],
            4 | 5 => vec![t, d],
            6 => vec![t],
            7 => vec![t, s],
            8 => vec![d, r],
            9 => vec![],
            10 => vec![r, d],
            _ => vec![t, 1],
        };
        if self.rng.chance(if self.paired { 30 } else { 20 }) {
            let shape = match self.rng.below(3) {
                0 => vec![],
                1 => vec![1],
                _ => body,
            };
            let number = *self.rng.pick(&[0.5, 2.0, 1.0, -1.5, 0.25]);
            let ty = Type::tensor(self.dtype, shape.into_iter().map(Dim::from).collect());
            return super::super::super::region::splat(&mut self.graph, number, &ty).ok();
        }
        let mut shape = if self.paired || self.rng.chance(70) { self.batch() } else { Vec::new() };
        shape.extend(body);
        let positive = self.rng.chance(30);
        self.real_input(&shape, positive)
    }

    /// A tensor some of whose elements are minus infinity.
    pub(super) fn partly_infinite(&mut self) -> Option<Id> {
        let id = self.tensor()?;
        if let Head::Input(k) = self.graph.term(id).head {
            let tensor = &mut self.data[k as usize];
            // By the value, so that what is alike along an axis stays so.
            let least = -self.rng.real().abs();
            let chosen = (0..tensor.len()).map(|n| tensor.at(n)).map(|x| if x < least { f64::NEG_INFINITY } else { x });
            *tensor = Tensor::floats(&tensor.shape.clone(), chosen.collect());
        }
        Some(id)
    }

    /// A scale of its own for a tensor of unusual data.
    pub(super) fn any_scale(&mut self) -> f64 {
        match self.kind {
            Data::Large => 64.0,
            // Powers of two, which round nothing; four of the largest multiplied stay below the largest f64.
            Data::Scaled if self.dtype == DType::F64 => f64::powi(2.0, *self.rng.pick(&[-200, -40, 0, 40, 200])),
            Data::Scaled => f64::powi(2.0, *self.rng.pick(&[-24, 0, 24])),
            _ => 1.0,
        }
    }

    /// An input of real numbers, in (0.2, 1) when positive; some are 0 otherwise. Unusual data differ in scale.
    pub fn real_input(&mut self, shape: &[usize], positive: bool) -> Option<Id> {
        let scale = self.any_scale();
        self.scaled_input(shape, positive, scale)
    }

    fn scaled_input(&mut self, shape: &[usize], positive: bool, scale: f64) -> Option<Id> {
        self.scale = scale;
        let n = shape.iter().product();
        let zeros = match self.kind {
            Data::Zeros => *self.rng.pick(&[50, 100]),
            _ => 3,
        };
        let mut data: Vec<f64> = (0..n)
            .map(|_| {
                let x = self.rng.real();
                let zero = !positive && self.rng.chance(zeros);
                self.dtype.round(if zero {
                    0.0
                } else if positive {
                    scale * (0.6 + 0.4 * x)
                } else {
                    scale * x
                })
            })
            .collect();
        // As at the first place of the last axis but one, or of the last.
        let axis = if self.rng.chance(70) { 2 } else { 1 };
        if let (true, Some(k)) = (self.steady, shape.len().checked_sub(axis)) {
            let inner: usize = shape[k + 1..].iter().product();
            let whole = inner * shape[k];
            data = (0..n).map(|m| data[m / whole * whole + m % inner]).collect();
        }
        self.input(self.dtype, Tensor::floats(shape, data), positive)
    }

    /// An input with data.
    pub fn input(&mut self, dtype: DType, tensor: Tensor, positive: bool) -> Option<Id> {
        self.input_at(dtype, tensor, positive, None)
    }

    fn input_at(&mut self, dtype: DType, tensor: Tensor, positive: bool, positions: Option<Positions>) -> Option<Id> {
        let ty = Type::Tensor(TensorType::new(dtype, tensor.shape.iter().map(|n| Dim::from(*n)).collect()));
        let inputs = Arc::make_mut(&mut self.graph.around.inputs);
        let alike = alike_axes(&tensor);
        let fact = InputFact { ty, positive, positions, order: 0, alike };
        let place = match self.early.pop().filter(|_| self.rng.chance(50)) {
            Some(place) => {
                (inputs[place], self.data[place]) = (InputFact { order: place as u32, ..fact }, tensor);
                place
            }
            None => {
                inputs.push(InputFact { order: inputs.len() as u32, ..fact });
                self.data.push(tensor);
                self.data.len() - 1
            }
        };
        self.graph.add(Term::leaf(Head::Input(place as u32))).ok()
    }

    /// A mask written as a comparison of positions: booleans or, for an operation on reals, biases, factors or distances.
    pub(super) fn positional(&mut self, real: Option<&str>) -> Option<Id> {
        let (t, s) = (self.tokens, self.length());
        let int = |n: i64| Attrs::new().with_name("align", "start").with_int("right", n);
        let attrs = match self.rng.below(6) {
            0 => int(-1),
            1 => int(1).with_int("left", 1),
            2 => Attrs::new().with_name("align", "start").with_int("left", 1),
            3 => int(0).with_int("dilation", 2),
            4 => int(0).with_int("block", 2),
            _ => int(0),
        };
        let present = |i: usize, j: usize| {
            let (i, j) = (i as i64, j as i64);
            attrs.int("left").is_none_or(|l| j >= i - l)
                && attrs.int("right").is_none_or(|r| j <= i + r)
                && attrs.int("dilation").is_none_or(|d| (i - j).rem_euclid(d) == 0)
                && attrs.int("block").is_none_or(|b| i / b == j / b)
        };
        let all: Vec<(usize, usize)> = (0..t * s).map(|n| (n / s, n % s)).collect();
        let Some(op) = real else {
            let marks = all.iter().map(|(i, j)| present(*i, *j)).collect();
            return self.input_at(DType::Bool, Tensor::bools(&[t, s], marks), false, Some(Positions::True(attrs)));
        };
        let chosen = |yes: f64, no: f64| all.iter().map(|(i, j)| if present(*i, *j) { yes } else { no }).collect();
        let (data, positions) = match self.rng.below(2) {
            _ if op == "add_bias" => (chosen(0.0, f64::NEG_INFINITY), Positions::Zero(attrs.clone())),
            0 => (chosen(1.0, 0.0), Positions::One(attrs.clone())),
            _ => (all.iter().map(|(i, j)| *i as f64 - *j as f64).collect(), Positions::Behind),
        };
        self.input_at(self.dtype, Tensor::floats(&[t, s], data), false, Some(positions))
    }
}

/// The axes, counted from the last, along which all elements are alike.
fn alike_axes(t: &Tensor) -> u32 {
    let alike = |k: &usize| {
        let inner: usize = t.shape[t.shape.len() - k..].iter().product();
        let whole = inner * t.shape[t.shape.len() - 1 - k];
        (0..t.len()).all(|n| t.at(n) == t.at(n / whole * whole + n % inner))
    };
    (0..t.shape.len()).filter(alike).fold(0, |axes, k| axes | 1 << k)
}
