//! Operators during lowering: an element as an expression, and what is left to do by rows.

use super::factors::Factors;
use super::lambda::{Lambda, axes, axis};
use super::semiseparable::Semiseparable;
use crate::forms;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::Expr;
use mixc_ir::program::ValueId;
use mixc_ir::support::Structure;
use mixc_ir::ty::MixType;

/// An inner product that elements of an operator contain: `sum_n q[.., i, n] k[.., j, n]`.
#[derive(Clone, Debug)]
pub struct Product {
    /// `[batch of its own.., T, r]`.
    pub q: Lambda,
    /// `[batch of its own.., S, r]`.
    pub k: Lambda,
    /// Whether the tokens of k are all pairs of those of two sequences, stored or made as they are read.
    pub of_pairs: bool,
}

/// What happens to a whole row once its elements stand.
#[derive(Clone, Debug)]
pub enum RowStep {
    /// Nothing.
    None,
    /// Softmax over the support; the sink's logit `[H]` joins the denominator.
    Softmax {
        /// Over the operator's last batch dim.
        sink: Option<Lambda>,
    },
    /// Division by the row's sum plus this.
    SumTo {
        /// Added to the sum.
        eps: f64,
    },
}

impl RowStep {
    /// What is added to the sums that rows are divided by, if they are.
    pub fn eps(&self) -> Option<f64> {
        match self {
            RowStep::SumTo { eps } => Some(*eps),
            _ => None,
        }
    }
}

/// An operator that is not a matrix of elements.
#[derive(Clone, Debug)]
pub enum Special {
    /// A recurrence over tokens.
    Semiseparable(Semiseparable),
    /// The inverse of a lower triangular operator.
    Inverse(Box<Mix>),
    /// The product of two.
    Compose(Box<Mix>, Box<Mix>),
}

/// An operator. Expressions are over the axes `[batch.., i, j]` of [`axis`].
#[derive(Clone, Debug)]
pub struct Mix {
    /// Its type.
    pub ty: MixType,
    /// The element; `Arg(n)` is the n-th inner product.
    pub value: Expr,
    /// Inner products.
    pub products: Vec<Product>,
    /// Whether (i, j) is present.
    pub support: Expr,
    /// What is known of the support without data: for skipping blocks.
    pub structure: Structure,
    /// The operands that the structure's conditions name, as functions of their index: `[batch.., tail..]` with the
    /// batch dims aligned to the operator's last ones (lengths are `[B, 1, ..]`).
    pub data: Vec<(ValueId, Lambda)>,
    /// Row position that masks read.
    pub position: Expr,
    /// What is left to do by rows.
    pub row_step: RowStep,
    /// Which key blocks its rows meet, when a search has named them; a bound of the support.
    pub listed: Option<Box<forms::block_sparse::Listed>>,
    /// What it is the product of, when that is known; the elements stand all the same.
    pub factors: Option<Factors>,
    /// Set when the operator is not a matrix of elements; `value` and `support` then mean nothing.
    pub special: Option<Special>,
}

impl Mix {
    /// Number of batch axes.
    pub fn rank(&self) -> usize {
        self.ty.batch.len()
    }

    /// Row number.
    pub fn i(&self) -> Expr {
        axis(self.rank())
    }

    /// Column number.
    pub fn j(&self) -> Expr {
        axis(self.rank() + 1)
    }

    /// All dims: batch, rows, columns.
    pub fn shape(&self) -> Vec<Dim> {
        self.ty.batch.iter().chain([&self.ty.rows, &self.ty.cols]).cloned().collect()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.special.is_none() && matches!(self.row_step, RowStep::None)
    }

    /// The same operator over more or wider batch dims.
    pub(super) fn widened(mut self, batch: &[Dim]) -> Mix {
        if self.ty.batch == batch {
            return self;
        }
        let mut index = batch_index(&self.ty.batch, batch, &axes(batch.len()));
        index.extend([axis(batch.len()), axis(batch.len() + 1)]);
        let at = |e: &Expr| Lambda { dtype: DType::F32, shape: Vec::new(), body: e.clone() }.at(&index);
        (self.value, self.support, self.position) = (at(&self.value), at(&self.support), at(&self.position));
        self.listed = self.listed.map(|listed| Box::new(listed.mapped(&at)));
        self.ty.batch = batch.to_vec();
        self
    }
}

/// The index along the batch dims `own` at the index `at` of the joined batch dims `out`: leading dims may be missing, a
/// dim of 1 is read at 0, a divisor by groups.
pub fn batch_index(own: &[Dim], out: &[Dim], at: &[Expr]) -> Vec<Expr> {
    let lead = out.len() - own.len();
    own.iter()
        .enumerate()
        .map(|(k, d)| {
            let (wide, i) = (&out[lead + k], &at[lead + k]);
            match (d.as_constant(), wide.as_constant()) {
                _ if d == wide => i.clone(),
                (Some(1), _) => Expr::int(0),
                (Some(n), Some(m)) if n > 0 => i.clone().floor_div(m / n),
                _ => i.clone(),
            }
        })
        .collect()
}

/// The element of `l` `[own batch.., tail..]` at batch index `at` of the dims `out` and index `tail`.
pub fn batched(l: &Lambda, out: &[Dim], at: &[Expr], tail: &[Expr]) -> Expr {
    let own = l.shape.len() - tail.len();
    let mut index = batch_index(&l.shape[..own], out, at);
    index.extend(tail.iter().cloned());
    l.at(&index)
}
