//! Symbolic dimensions: integers, `dim` symbols and expressions of them, kept in a normal form so that equal lengths
//! compare equal: a sum of products of atoms with integer coefficients.
//!
//! Arithmetic never overflows silently: a coefficient or a value that leaves `i64` is a [`DimError`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a `dim` item.
pub type Symbol = Arc<str>;

/// A factor of a product that is not a plain number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A `dim` symbol.
    Symbol(Symbol),
    /// An exact division whose outcome is only known at the call (`T/16`).
    Exact(Box<Dim>, i64),
    /// A division rounded up (`ceil(T/8)`).
    Ceil(Box<Dim>, i64),
}

/// A dimension: `sum_k coefficient_k * product_k`, products sorted, no zero coefficients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dim {
    terms: BTreeMap<Vec<Atom>, i64>,
}

/// Why a dimension has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimError {
    /// The value leaves the 64-bit range.
    Overflow,
    /// A division that must come out does not.
    NotDivisible {
        /// What was divided, as text.
        dividend: String,
        /// Its value.
        value: i64,
        /// By what.
        divisor: i64,
    },
    /// A symbol without a value.
    Unbound(Symbol),
    /// Division by zero or by a negative number.
    BadDivisor(i64),
}

impl fmt::Display for DimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DimError::Overflow => write!(f, "a dimension leaves the 64-bit range"),
            DimError::NotDivisible { dividend, value, divisor } => {
                write!(f, "`{dividend}` is {value}, which {divisor} does not divide")
            }
            DimError::Unbound(s) => write!(f, "dimension `{s}` has no value"),
            DimError::BadDivisor(d) => write!(f, "a dimension cannot be divided by {d}"),
        }
    }
}

/// Values of the symbols at a call.
pub type DimValues = BTreeMap<Symbol, i64>;

/// Inclusive bounds of the symbols.
pub type DimBounds = BTreeMap<Symbol, (i64, i64)>;

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim::constant(n)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::constant(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl Dim {
    /// The number `n`.
    pub fn constant(n: i64) -> Dim {
        let mut terms = BTreeMap::new();
        if n != 0 {
            terms.insert(Vec::new(), n);
        }
        Dim { terms }
    }

    /// The symbol `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim::atom(Atom::Symbol(name.into()))
    }

    fn atom(atom: Atom) -> Dim {
        Dim { terms: BTreeMap::from([(vec![atom], 1)]) }
    }

    /// The terms of the normal form: products with their coefficients.
    pub fn terms(&self) -> impl Iterator<Item = (&[Atom], i64)> {
        self.terms.iter().map(|(product, &c)| (product.as_slice(), c))
    }

    /// The number this dimension is, if it has no symbols.
    pub fn as_constant(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    /// Whether this is the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.as_constant() == Some(n)
    }

    /// The symbol this dimension is, if it is one alone.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms.iter().next() {
            Some((product, 1)) if self.terms.len() == 1 => match product.as_slice() {
                [Atom::Symbol(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// A product with a coefficient. A quotient multiplied by its divisor is the dividend: it comes out wherever the
    /// dim has a value at all.
    fn term(mut product: Vec<Atom>, c: i64) -> Result<Dim, DimError> {
        if c == 0 {
            return Ok(Dim::default());
        }
        let comes_out = |atom: &Atom| matches!(atom, Atom::Exact(_, n) if c % n == 0);
        if let Some(k) = product.iter().position(comes_out)
            && let Atom::Exact(dividend, n) = product.remove(k)
        {
            return dividend.mul(&Dim::term(product, c / n)?);
        }
        Ok(Dim { terms: BTreeMap::from([(product, c)]) })
    }

    /// Sum.
    pub fn add(&self, other: &Dim) -> Result<Dim, DimError> {
        let mut terms = self.terms.clone();
        let mut whole = Vec::new();
        for (product, &c) in &other.terms {
            let sum = terms.remove(product).unwrap_or(0).checked_add(c).ok_or(DimError::Overflow)?;
            let comes_out = |atom: &Atom| matches!(atom, Atom::Exact(_, n) if sum % n == 0);
            if sum == 0 {
                continue;
            } else if product.iter().any(comes_out) {
                whole.push(Dim::term(product.clone(), sum)?);
            } else {
                terms.insert(product.clone(), sum);
            }
        }
        whole.iter().try_fold(Dim { terms }, |sum, d| sum.add(d))
    }

    /// Difference.
    pub fn sub(&self, other: &Dim) -> Result<Dim, DimError> {
        self.add(&other.scale(-1)?)
    }

    /// Product with a number.
    pub fn scale(&self, n: i64) -> Result<Dim, DimError> {
        self.mul(&Dim::constant(n))
    }

    /// Product.
    pub fn mul(&self, other: &Dim) -> Result<Dim, DimError> {
        let mut sum = Dim::default();
        for (a, &ca) in &self.terms {
            for (b, &cb) in &other.terms {
                let mut product: Vec<Atom> = a.iter().chain(b).cloned().collect();
                product.sort();
                let c = ca.checked_mul(cb).ok_or(DimError::Overflow)?;
                sum = sum.add(&Dim::term(product, c)?)?;
            }
        }
        Ok(sum)
    }

    /// Exact quotient by a positive number; kept as an atom when only a call can tell whether it comes out.
    pub fn div(&self, n: i64) -> Result<Dim, DimError> {
        if n <= 0 {
            return Err(DimError::BadDivisor(n));
        }
        if self.terms.values().all(|c| c % n == 0) {
            return Ok(Dim { terms: self.terms.iter().map(|(p, c)| (p.clone(), c / n)).collect() });
        }
        if let Some(value) = self.as_constant() {
            return Err(DimError::NotDivisible { dividend: self.to_string(), value, divisor: n });
        }
        Ok(Dim::atom(Atom::Exact(Box::new(self.clone()), n)))
    }

    /// Quotient by a positive number, rounded up.
    pub fn ceil_div(&self, n: i64) -> Result<Dim, DimError> {
        if n <= 0 {
            return Err(DimError::BadDivisor(n));
        }
        if self.terms.values().all(|c| c % n == 0) {
            return self.div(n);
        }
        if let Some(value) = self.as_constant() {
            return Ok(Dim::constant(ceil_div(value, n)));
        }
        Ok(Dim::atom(Atom::Ceil(Box::new(self.clone()), n)))
    }

    /// The value under `values`.
    pub fn eval(&self, values: &DimValues) -> Result<i64, DimError> {
        let mut sum = 0i64;
        for (product, &c) in &self.terms {
            let mut value = c;
            for atom in product {
                let factor = match atom {
                    Atom::Symbol(s) => *values.get(s).ok_or_else(|| DimError::Unbound(s.clone()))?,
                    Atom::Exact(d, n) => {
                        let value = d.eval(values)?;
                        if value % n != 0 {
                            return Err(DimError::NotDivisible { dividend: d.to_string(), value, divisor: *n });
                        }
                        value / n
                    }
                    Atom::Ceil(d, n) => ceil_div(d.eval(values)?, *n),
                };
                value = value.checked_mul(factor).ok_or(DimError::Overflow)?;
            }
            sum = sum.checked_add(value).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }

    /// Inclusive bounds of the value given bounds of the symbols (symbols are not negative).
    pub fn bounds(&self, bounds: &DimBounds) -> Result<(i64, i64), DimError> {
        let (mut low, mut high) = (0i64, 0i64);
        for (product, &c) in &self.terms {
            let (mut l, mut h) = (1i64, 1i64);
            for atom in product {
                let (al, ah) = match atom {
                    Atom::Symbol(s) => *bounds.get(s).ok_or_else(|| DimError::Unbound(s.clone()))?,
                    Atom::Exact(d, n) => {
                        let (l, h) = d.bounds(bounds)?;
                        (ceil_div(l, *n), h.div_euclid(*n))
                    }
                    Atom::Ceil(d, n) => {
                        let (l, h) = d.bounds(bounds)?;
                        (ceil_div(l, *n), ceil_div(h, *n))
                    }
                };
                let corners = [l.checked_mul(al), l.checked_mul(ah), h.checked_mul(al), h.checked_mul(ah)];
                (l, h) = (i64::MAX, i64::MIN);
                for corner in corners {
                    let corner = corner.ok_or(DimError::Overflow)?;
                    (l, h) = (l.min(corner), h.max(corner));
                }
            }
            let ends = [l.checked_mul(c).ok_or(DimError::Overflow)?, h.checked_mul(c).ok_or(DimError::Overflow)?];
            low = low.checked_add(ends[0].min(ends[1])).ok_or(DimError::Overflow)?;
            high = high.checked_add(ends[0].max(ends[1])).ok_or(DimError::Overflow)?;
        }
        Ok((low, high))
    }

    /// Every symbol that occurs, in order.
    pub fn symbols(&self, into: &mut Vec<Symbol>) {
        for product in self.terms.keys() {
            for atom in product {
                match atom {
                    Atom::Symbol(s) => {
                        if !into.contains(s) {
                            into.push(s.clone());
                        }
                    }
                    Atom::Exact(d, _) | Atom::Ceil(d, _) => d.symbols(into),
                }
            }
        }
    }

    /// This dimension with the symbols of `map` replaced.
    pub fn substitute(&self, map: &BTreeMap<Symbol, Dim>) -> Result<Dim, DimError> {
        let mut sum = Dim::default();
        for (product, &c) in &self.terms {
            let mut value = Dim::constant(c);
            for atom in product {
                let factor = match atom {
                    Atom::Symbol(s) => map.get(s).cloned().unwrap_or_else(|| Dim::atom(atom.clone())),
                    Atom::Exact(d, n) => d.substitute(map)?.div(*n)?,
                    Atom::Ceil(d, n) => d.substitute(map)?.ceil_div(*n)?,
                };
                value = value.mul(&factor)?;
            }
            sum = sum.add(&value)?;
        }
        Ok(sum)
    }
}

/// `a / n` rounded towards plus infinity, `n` positive.
pub fn ceil_div(a: i64, n: i64) -> i64 {
    a.div_euclid(n) + i64::from(a.rem_euclid(n) != 0)
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(s) => write!(f, "{s}"),
            Atom::Exact(d, n) if d.as_symbol().is_some() => write!(f, "{d}/{n}"),
            Atom::Exact(d, n) => write!(f, "({d})/{n}"),
            Atom::Ceil(d, n) if d.as_symbol().is_some() => write!(f, "ceil({d}/{n})"),
            Atom::Ceil(d, n) => write!(f, "ceil(({d})/{n})"),
        }
    }
}

impl fmt::Display for Dim {
    /// The text format: symbols before the constant, `2*T`, `P+T`, `T-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant sorts first in the map (the empty product) and reads best last.
        let constant = self.terms.get(&Vec::new()).map(|c| (&[][..], *c));
        let products = self.terms.iter().filter(|(p, _)| !p.is_empty()).map(|(p, &c)| (p.as_slice(), c));
        for (i, (product, c)) in products.chain(constant).enumerate() {
            match (i, c < 0) {
                (_, true) => f.write_str("-")?,
                (0, false) => {}
                (_, false) => f.write_str("+")?,
            }
            let magnitude = c.unsigned_abs();
            if magnitude != 1 || product.is_empty() {
                write!(f, "{magnitude}")?;
                if !product.is_empty() {
                    f.write_str("*")?;
                }
            }
            for (k, atom) in product.iter().enumerate() {
                if k > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t() -> Dim {
        Dim::symbol("T")
    }

    #[test]
    fn the_normal_form_makes_equal_lengths_equal() {
        let p = Dim::symbol("P");
        let a = t().add(&p).and_then(|d| d.scale(2)).unwrap();
        let b = p.scale(2).unwrap().add(&t().scale(2).unwrap()).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "2*P+2*T");
        assert_eq!(a.sub(&b).unwrap(), Dim::constant(0));
        assert_eq!(t().scale(16).unwrap().div(16).unwrap(), t());
        assert_eq!(t().sub(&Dim::constant(3)).unwrap().to_string(), "T-3");
    }

    #[test]
    fn divisions_are_exact_or_rounded_up() {
        let values = DimValues::from([("T".into(), 37)]);
        assert_eq!(t().ceil_div(8).unwrap().eval(&values), Ok(5));
        assert!(matches!(t().div(16).unwrap().eval(&values), Err(DimError::NotDivisible { value: 37, .. })));
        assert_eq!(Dim::constant(33).ceil_div(16).unwrap(), Dim::constant(3));
        assert!(Dim::constant(33).div(16).is_err());
    }

    #[test]
    fn a_quotient_times_its_divisor_is_the_dividend() {
        let part = t().div(16).unwrap();
        assert_eq!(part.scale(16).unwrap(), t());
        assert_eq!(part.scale(48).unwrap().to_string(), "3*T");
        assert_eq!(part.scale(8).unwrap().add(&part.scale(8).unwrap()).unwrap(), t());
        assert_eq!(part.mul(&part).unwrap().scale(256).unwrap(), t().mul(&t()).unwrap());
        assert_eq!(part.sub(&part).unwrap(), Dim::constant(0));
        assert_eq!(part.scale(3).unwrap().to_string(), "3*T/16");
    }

    #[test]
    fn bounds_and_overflow_are_seen() {
        let bounds = DimBounds::from([("T".into(), (1, 8192))]);
        assert_eq!(t().scale(2).unwrap().add(&Dim::constant(-1)).unwrap().bounds(&bounds), Ok((1, 16383)));
        let big = Dim::constant(i64::MAX / 2);
        assert_eq!(big.scale(3), Err(DimError::Overflow));
        assert_eq!(t().mul(&big).unwrap().bounds(&bounds), Err(DimError::Overflow));
    }
}
