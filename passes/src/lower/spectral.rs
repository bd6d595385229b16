//! Lowering of discrete Fourier transforms: by stages where the code knows the length and it has small factors, else
//! as a convolution with a chirp, which takes any length.

use super::lambda::{Lambda, axes, axis};
use super::mix::{Mix, RowStep};
use super::tensors::axis_attr;
use super::{Context, Failure, Lowering, guard_loads};
use crate::forms;
use crate::forms::fourier::exact::{Exact, Places, radices};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Unary};
use mixc_ir::program::Node;
use mixc_ir::support::Structure;
use mixc_ir::ty::{Align, MixType};

/// `fft`, `ifft`, `rfft` or `irfft`.
pub fn lower(cx: &mut Context<'_>, name: &str, node: &Node) -> Result<Vec<Lowering>, Failure> {
    let x = cx.read(cx.operand(node, 0)?)?;
    let imaginary = match node.operands.get(1).copied().flatten() {
        Some(v) => Some(cx.read(v)?),
        None => None,
    };
    let result = cx.tensor_type(node.results[0])?.clone();
    let a = axis_attr(cx, node, x.shape.len(), -1)?;
    let inverse = matches!(name, "ifft" | "irfft");
    let n = match (node.attrs.dim("n"), name) {
        (Some(n), _) => n.clone(),
        (None, "irfft") => result.shape[a].clone(),
        (None, _) => x.shape[a].clone(),
    };
    // Kept as numbers of the wide type throughout; each number is read once, so what is costly need not be stored.
    let whole = name == "irfft";
    let entered = |l: &Lambda, odd: bool| if whole { mirrored(l, a, &n, odd) } else { fitted(l, a, &n) };
    let (re, im) = (entered(&x, false), imaginary.map(|l| entered(&l, true)));
    let complex = node.results.len() > 1 && cx.uses(node.results[1]) > 0;
    let dtype = x.dtype.accumulator();
    let t = Transform { axis: a, n: n.clone(), inverse, dtype, complex };
    let (re, im) = t.write(cx, &re, im.as_ref())?;
    let mut out = Vec::new();
    for (part, r) in [Some(re), im].into_iter().zip(&node.results) {
        let ty = cx.tensor_type(*r)?.clone();
        let body = match part {
            Some(l) if name == "rfft" => {
                // Of a sequence of nothing there is one element, a sum over nothing.
                let inside = axis(a).lt(Expr::from(&n));
                Expr::select(inside.clone(), guard_loads(&l.body, &inside), Expr::float(0.0))
            }
            Some(l) => l.body,
            None => Expr::float(0.0),
        };
        out.push(Lowering::Lambda(Lambda { dtype: ty.dtype, shape: ty.shape, body }));
    }
    Ok(out)
}

/// `l` with its axis cut or padded with zeros to `n`.
fn fitted(l: &Lambda, a: usize, n: &Dim) -> Lambda {
    let mut shape = l.shape.clone();
    let own = std::mem::replace(&mut shape[a], n.clone());
    if own == *n || matches!((own.as_constant(), n.as_constant()), (Some(o), Some(n)) if o >= n) {
        return Lambda { shape, ..l.clone() };
    }
    let inside = axis(a).lt(Expr::from(&own));
    Lambda { shape, dtype: l.dtype, body: present(l, &l.body, &inside) }
}

fn present(l: &Lambda, e: &Expr, inside: &Expr) -> Expr {
    let loads = guard_loads(e, inside);
    if l.is_layout() { loads } else { Expr::select(inside.clone(), loads, Expr::float(0.0)) }
}

/// The spectrum of reals from its first half: element n - k is the conjugate of element k. The imaginary parts (`odd`)
/// of elements 0 and n / 2 are 0.
fn mirrored(l: &Lambda, a: usize, n: &Dim, odd: bool) -> Lambda {
    let (k, total) = (axis(a), Expr::from(n));
    let rank = l.shape.len();
    let at = |k: Expr| {
        let mut index = axes(rank);
        let inside = k.clone().lt(Expr::from(&l.shape[a]));
        index[a] = k;
        let e = l.at(&index);
        (e, inside)
    };
    let twice = k.clone() * Expr::int(2);
    let first = twice.clone().le(total.clone());
    let part = |(e, inside): (Expr, Expr), here: Expr| {
        let inside = here.and(inside);
        Expr::select(inside.clone(), guard_loads(&e, &inside), Expr::float(0.0))
    };
    let near = part(at(k.clone()), first.clone());
    let far = part(at(total.clone() - k.clone()), !first.clone());
    let far = if odd { -far } else { far };
    let mut body = Expr::select(first, near, far);
    if odd {
        let real = k.equals(0).or(twice.equals(total));
        body = Expr::select(real, Expr::float(0.0), body);
    }
    let mut shape = l.shape.clone();
    shape[a] = n.clone();
    Lambda { dtype: l.dtype, shape, body }
}

/// A transform along an axis.
struct Transform {
    axis: usize,
    n: Dim,
    inverse: bool,
    dtype: DType,
    complex: bool,
}

impl Transform {
    /// The order `[lead.., axis, channels]` of the axes of a tensor of a rank, as places of the tensor's own; channels are
    /// its last axis, or for a transform along that the one before.
    fn order(&self, rank: usize) -> Vec<usize> {
        let channel = if self.axis + 1 == rank { rank.checked_sub(2) } else { Some(rank - 1) };
        let mut order: Vec<usize> = (0..rank).filter(|k| *k != self.axis && Some(*k) != channel).collect();
        order.push(self.axis);
        order.extend(channel);
        order
    }

    fn write(
        &self,
        cx: &mut Context<'_>,
        re: &Lambda,
        im: Option<&Lambda>,
    ) -> Result<(Lambda, Option<Lambda>), Failure> {
        let rank = re.shape.len();
        let order = self.order(rank);
        // A single sequence has one channel.
        let wide = rank.max(2);
        let mut shape: Vec<Dim> = order.iter().map(|k| re.shape[*k].clone()).collect();
        shape.resize(wide, Dim::constant(1));
        let mut there = vec![Expr::int(0); rank];
        for (k, own) in order.iter().enumerate() {
            there[*own] = axis(k);
        }
        let moved = |l: &Lambda| Lambda { dtype: l.dtype, shape: shape.clone(), body: l.at(&there) };
        let (re_in, im_in) = (moved(re), im.map(moved));
        // Where an element of the result lies in that order.
        let mut back: Vec<Expr> = order.iter().map(|own| axis(*own)).collect();
        back.resize(wide, Expr::int(0));
        let small = self.n.as_constant().and_then(|n| usize::try_from(n).ok()).filter(|n| radices(*n).is_some());
        if let Some(length) = small {
            let places = Places { shape: re.shape.clone(), index: there, complex: self.complex };
            let exact = Exact {
                lead: shape[..wide - 2].to_vec(),
                length,
                channels: shape[wide - 1].clone(),
                dtype: self.dtype,
                inverse: self.inverse,
                factor: if self.inverse { 1.0 / length.max(1) as f64 } else { 1.0 },
            };
            let (re, im) = exact.write(cx, (&re_in, im_in.as_ref()), &places)?;
            return Ok((cx.stored(re), im.map(|b| cx.stored(b))));
        }
        let (re, im) = self.chirp(cx, &re_in, im_in.as_ref(), &shape)?;
        let moved = |l: Lambda| Lambda { dtype: l.dtype, shape: result_shape(&l, &order), body: l.at(&back) };
        Ok((moved(re), im.map(moved)))
    }

    /// With `j k = (j^2 + k^2 - (k - j)^2) / 2`: numbers turned by a chirp, convolved with it, turned again (Bluestein 1970).
    fn chirp(
        &self,
        cx: &mut Context<'_>,
        re: &Lambda,
        im: Option<&Lambda>,
        shape: &[Dim],
    ) -> Result<(Lambda, Option<Lambda>), Failure> {
        let rank = shape.len();
        let n = Expr::from(&self.n);
        // cos and sin of pi k^2 / n, the square reduced to a turn as an integer.
        let whole = n.clone() * Expr::int(2);
        let part = (axis(0) * axis(0)).modulo(whole).to_float() / n.clone().to_float();
        let angle = part * Expr::float(std::f64::consts::PI);
        let mut tables = Vec::new();
        for function in [Unary::Cos, Unary::Sin] {
            let wide = Lambda { dtype: DType::F64, shape: vec![self.n.clone()], body: angle.clone().apply(function) };
            let wide = cx.store_lambda(&wide)?;
            let narrow = Lambda { dtype: self.dtype, ..cx.stored(wide) };
            let table = if self.dtype == DType::F64 { wide } else { cx.store_lambda(&narrow)? };
            tables.push(cx.stored(table));
        }
        let (cos, sin) = (tables[0].clone(), tables[1].clone());
        let place = axis(rank - 2);
        let (c, s) = (cos.at(std::slice::from_ref(&place)), sin.at(std::slice::from_ref(&place)));
        // Forward turns are backwards: by c - i s.
        let s = if self.inverse { s } else { -s };
        let of = |body: Expr| Lambda { dtype: self.dtype, shape: shape.to_vec(), body };
        let (x, y) = (re.body.clone(), im.map(|l| l.body.clone()));
        let (turned_re, turned_im) = match y {
            Some(y) => (x.clone() * c.clone() - y.clone() * s.clone(), x * s.clone() + y * c.clone()),
            None => (x.clone() * c.clone(), x * s.clone()),
        };
        let mut sides = Vec::new();
        for body in [turned_re, turned_im] {
            let b = cx.store_lambda(&of(body))?;
            sides.push(cx.stored(b));
        }
        let mut products = Vec::new();
        for table in [&cos, &sin] {
            let m = self.lag_operator(table);
            for side in &sides {
                let p = forms::apply(cx, &m, side, false, shape, self.dtype)?;
                products.push(cx.close(p)?.body);
            }
        }
        // The convolution is with the conjugate: c + i s forwards.
        let [cc, cs, sc, ss] = <[Expr; 4]>::try_from(products).map_err(|_| cx.fail("four products are made"))?;
        let (real, imaginary) = if self.inverse { (cc + ss, cs - sc) } else { (cc - ss, cs + sc) };
        let mut re = real.clone() * c.clone() - imaginary.clone() * s.clone();
        let mut im = real * s + imaginary * c;
        if self.inverse {
            (re, im) = (re / n.clone().to_float(), im / n.to_float());
        }
        let mut stored = vec![cx.store_lambda(&of(re))?];
        if self.complex {
            stored.push(cx.store_lambda(&of(im))?);
        }
        let mut stored = stored.into_iter().map(|b| cx.stored(b));
        match (stored.next(), stored.next()) {
            (Some(re), im) => Ok((re, im)),
            _ => Err(cx.fail("a transform has a real part")),
        }
    }

    /// The operator whose element is the table's at the distance of row and column.
    fn lag_operator(&self, table: &Lambda) -> Mix {
        let (i, j) = (axis(0), axis(1));
        let distance = (i.clone() - j).apply(Unary::Abs);
        Mix {
            ty: MixType {
                dtype: self.dtype,
                batch: Vec::new(),
                rows: self.n.clone(),
                cols: self.n.clone(),
                align: Align::End,
            },
            value: table.at(&[distance]),
            products: Vec::new(),
            support: Expr::bool(true),
            structure: Structure { toeplitz: true, ..Structure::default() },
            data: Vec::new(),
            position: i,
            row_step: RowStep::None,
            listed: None,
            factors: None,
            special: None,
        }
    }
}

/// The shape of a tensor whose axes were brought to an order.
fn result_shape(l: &Lambda, order: &[usize]) -> Vec<Dim> {
    let mut shape = vec![Dim::default(); order.len()];
    for (k, own) in order.iter().enumerate() {
        shape[*own] = l.shape[k].clone();
    }
    shape
}
