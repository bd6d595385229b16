//! Operators that are products of factors which cost less than their elements: block-diagonal matrices with strides
//! between them, and the Walsh-Hadamard matrix.

use super::mix::Mix;
use super::{Context, Failure, Lambda, axes, axis, guard_loads};
use crate::forms;
use mixc_ir::dim::Dim;
use mixc_ir::expr::Expr;
use mixc_ir::program::Node;
use mixc_ir::tile::Combine;

/// A block-diagonal factor of an operator, `blocks` matrices side by side.
#[derive(Clone, Debug)]
pub struct BlockFactor {
    /// `[batch of its own.., blocks, outputs, inputs]`.
    pub matrix: Lambda,
    /// Block b reads and writes the places that are b modulo the number of blocks, instead of neighbours.
    pub strided: bool,
}

impl BlockFactor {
    /// The place of element `k` of a block among the tokens, of which a block has `of`.
    pub fn place(&self, block: &Expr, k: &Expr, of: &Dim) -> Expr {
        let blocks = &self.matrix.shape[self.matrix.shape.len() - 3];
        match self.strided {
            true => k.clone() * Expr::from(blocks) + block.clone(),
            false => block.clone() * Expr::from(of) + k.clone(),
        }
    }
}

impl BlockFactor {
    /// Every matrix transposed, at its place.
    fn transposed(self) -> BlockFactor {
        let rank = self.matrix.shape.len();
        let mut index = axes(rank);
        index.swap(rank - 2, rank - 1);
        let mut shape = self.matrix.shape.clone();
        shape.swap(rank - 2, rank - 1);
        BlockFactor { matrix: Lambda { body: self.matrix.at(&index), shape, ..self.matrix }, ..self }
    }
}

/// A factoring of an operator that costs less than its elements.
#[derive(Clone, Debug)]
pub enum Factors {
    /// The product of these, the one that meets the tokens first.
    Blocks(Vec<BlockFactor>),
    /// The Walsh-Hadamard matrix in natural order, times a number.
    Hadamard {
        /// The number.
        scale: f64,
    },
}

impl Factors {
    /// The factors of the transposed operator.
    pub fn transposed(self) -> Factors {
        match self {
            Factors::Blocks(factors) => {
                Factors::Blocks(factors.into_iter().rev().map(BlockFactor::transposed).collect())
            }
            symmetric @ Factors::Hadamard { .. } => symmetric,
        }
    }

    /// The factors of the operator times a number.
    pub fn scaled(self, by: f64) -> Factors {
        match self {
            Factors::Blocks(mut factors) => {
                if let Some(last) = factors.last_mut() {
                    last.matrix.body = last.matrix.body.clone() * Expr::float(by);
                }
                Factors::Blocks(factors)
            }
            Factors::Hadamard { scale } => Factors::Hadamard { scale: scale * by },
        }
    }
}

/// The sign (-1)^popcount(i & j) for i, j below `most`.
pub(super) fn walsh_sign(i: &Expr, j: &Expr, most: i64) -> Expr {
    let mut common = Expr::int(0);
    let mut bit = 1i64;
    while bit < most.max(1) && bit < (1 << 40) {
        let digit = |e: &Expr| e.clone().floor_div(bit).modulo(2);
        common = common + digit(i) * digit(j);
        bit *= 2;
    }
    Expr::select(common.modulo(2).equals(0), Expr::float(1.0), Expr::float(-1.0))
}

/// Elements of a Monarch matrix: the one path through the middle that joins i and j.
pub(super) fn monarch(
    cx: &mut Context<'_>,
    node: &Node,
    plain: &dyn Fn(Expr, Expr) -> Mix,
    own: Expr,
    at: &dyn Fn(&Lambda, &[Expr]) -> Expr,
    i: &Expr,
    j: &Expr,
) -> Result<Mix, Failure> {
    // y[e*g + b] = sum_m l[b,e,m] z[m*g + b],  z[c*q + e'] = sum_f r[c,e',f] x[c*p + f].
    let (l, r) = (cx.read_stored(cx.operand(node, 0)?)?, cx.read_stored(cx.operand(node, 1)?)?);
    let (ln, rn) = (l.shape.len(), r.shape.len());
    let [g, m] = [&l.shape[ln - 3], &l.shape[ln - 1]].map(Expr::from);
    let [q, p] = [&r.shape[rn - 2], &r.shape[rn - 1]].map(Expr::from);
    let (b, e) = (i.clone().modulo(g.clone()), i.clone().floor_div(g.clone()));
    let (c, f) = (j.clone().floor_div(p.clone()), j.clone().modulo(p));
    // The middle rows that column block c feeds are c*q + 0..q; of these, those congruent to b modulo g reach row i.
    let term = |middle: Expr| {
        let row = middle.clone() * g.clone() + b.clone();
        let in_block = row.clone().floor_div(q.clone()).equals(c.clone());
        let left = at(&l, &[b.clone(), e.clone(), middle]);
        left * guard_loads(&at(&r, &[c.clone(), row.modulo(q.clone()), f.clone()]), &in_block)
    };
    let known = l.shape[ln - 3..].iter().chain(&r.shape[rn - 3..]).all(|d| d.as_constant().is_some());
    let Some(count) = m.as_int().filter(|_| known) else {
        // Paths whose number only the call knows: the elements are summed up and stored.
        let mix = plain(Expr::float(0.0), own);
        let mut shape = mix.shape();
        let over = shape.len();
        shape.push(l.shape[ln - 1].clone());
        let paths = Lambda { dtype: mix.ty.dtype, shape, body: term(axis(over)) };
        let sum = forms::reduce::reduce(paths, over, Combine::Sum, mix.ty.dtype);
        let stored = cx.close(sum)?;
        return Ok(Mix { value: stored.body, ..mix });
    };
    let value = (0..count).fold(Expr::float(0.0), |sum, middle| sum + term(Expr::int(middle)));
    let blocks = [(r, false), (l, true)].map(|(matrix, strided)| BlockFactor { matrix, strided });
    Ok(Mix { factors: Some(Factors::Blocks(blocks.to_vec())), ..plain(value, own) })
}
