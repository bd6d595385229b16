//! Values of the symbolic dims: from the shapes of given inputs, or from `--shape`.

use crate::Error;
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::program::Program;

/// A dim as the command line gives it: `T=1000`, or `T=1..8192:2048`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeArg {
    /// The symbol.
    pub name: String,
    /// Least and greatest value.
    pub low: i64,
    /// Greatest value.
    pub high: i64,
    /// The value that costs are reckoned at.
    pub typical: i64,
}

impl std::fmt::Display for ShapeArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ShapeArg { name, low, high, typical } = self;
        if low == high { write!(f, "{name}={low}") } else { write!(f, "{name}={low}..{high}:{typical}") }
    }
}

impl std::str::FromStr for ShapeArg {
    type Err = String;

    fn from_str(s: &str) -> Result<ShapeArg, String> {
        let form = || format!("`{s}`: expected NAME=N or NAME=MIN..MAX:TYPICAL");
        let (name, value) = s.split_once('=').ok_or_else(form)?;
        let number = |t: &str| t.trim().parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(form);
        let (low, high, typical) = match value.split_once("..") {
            None => {
                let n = number(value)?;
                (n, n, n)
            }
            Some((low, rest)) => {
                let low = number(low)?;
                let (high, typical) = match rest.split_once(':') {
                    Some((high, typical)) => (number(high)?, number(typical)?),
                    None => (number(rest)?, number(rest)?),
                };
                (low, high, typical)
            }
        };
        if !(low..=high).contains(&typical) {
            return Err(format!("`{s}`: {typical} is not within {low}..{high}"));
        }
        Ok(ShapeArg { name: name.trim().to_string(), low, high, typical })
    }
}

/// The values that costs are reckoned at: given ones, else one for batches and a length users meet often for the rest,
/// within the bounds. A batch is a symbol that stands alone first in parameters of several axes, and nowhere else.
pub fn typical(program: &Program, args: &[ShapeArg]) -> DimValues {
    const LENGTH: i64 = 512;
    let is_batch = |name: &str| {
        let symbol = |d: &Dim| d.as_symbol().is_some_and(|s| **s == *name);
        let mut first = false;
        let mut elsewhere = false;
        for v in &program.params {
            let dims = program.ty(*v).dims();
            for (k, d) in dims.iter().enumerate() {
                let mut symbols = Vec::new();
                d.symbols(&mut symbols);
                let leads = k == 0 && (dims.len() == 1 || dims.len() > 2 || program.ty(*v).dtype().is_int());
                first |= symbol(d) && leads && dims.len() > 1;
                elsewhere |= symbols.iter().any(|s| **s == *name) && !(symbol(d) && leads);
            }
        }
        first && !elsewhere
    };
    program
        .dims
        .iter()
        .map(|d| {
            let given = args.iter().find(|a| a.name == *d.name).map(|a| a.typical);
            let usual = if is_batch(&d.name) { 1 } else { LENGTH };
            (d.name.clone(), given.unwrap_or(usual.clamp(d.low, d.high)))
        })
        .collect()
}

/// The lengths of a run on made-up inputs: given ones, else typical ones. Every name and bound is checked, and that the
/// inputs are not absurdly large.
pub fn of_random_run(program: &Program, args: &[ShapeArg]) -> Result<DimValues, Error> {
    /// 64 GiB of f32: beyond what is tried by hand, within what machines have.
    const MOST_ELEMENTS: i128 = 1 << 34;
    narrow(&mut program.clone(), args)?;
    let dims = typical(program, args);
    check(program, &dims)?;
    let count = |dims_of: Vec<Dim>| lengths(&dims_of, &dims).iter().fold(1i128, |n, d| n.saturating_mul(*d as i128));
    let elements = program.params.iter().fold(0i128, |n, v| n.saturating_add(count(program.ty(*v).dims().to_vec())));
    if elements > MOST_ELEMENTS {
        return Err(Error::Usage(format!(
            "random inputs would have {elements} elements, at most {MOST_ELEMENTS} are made"
        )));
    }
    Ok(dims)
}

/// Narrows the symbols' bounds to what `--shape` says, once of each.
pub fn narrow(program: &mut Program, args: &[ShapeArg]) -> Result<(), Error> {
    for (k, a) in args.iter().enumerate() {
        if let Some(other) = args[..k].iter().find(|b| b.name == a.name && *b != a) {
            return Err(Error::Usage(format!("--shape {other} and --shape {a}: a dim has one value or range")));
        }
        let known: Vec<String> = program.dims.iter().map(|d| d.name.to_string()).collect();
        let Some(d) = program.dims.iter_mut().find(|d| *d.name == a.name) else {
            let list =
                if known.is_empty() { "it has none".to_string() } else { format!("it has {}", known.join(", ")) };
            return Err(Error::Usage(format!("--shape {}: the model has no such dim; {list}", a.name)));
        };
        if a.low < d.low || a.high > d.high {
            return Err(Error::Usage(format!(
                "--shape {}: {}..{} is not within the model's bounds {}..{}",
                a.name, a.low, a.high, d.low, d.high
            )));
        }
        (d.low, d.high) = (a.low, a.high);
    }
    Ok(())
}

/// The symbols' values for inputs of these shapes, one a parameter; every other dim is then checked.
pub fn from_inputs(program: &Program, shapes: &[Vec<usize>]) -> Result<DimValues, Error> {
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    let values = mixc_ir::verify::bind_dims(program, &shapes).map_err(|wrong| Error::Usage(wrong.join("; ")))?;
    check(program, &values)?;
    Ok(values)
}

/// Every symbol has a value within its bounds, and every dim of the program comes out.
pub fn check(program: &Program, values: &DimValues) -> Result<(), Error> {
    for d in &program.dims {
        match values.get(&d.name) {
            None => {
                return Err(Error::Usage(format!("dim `{}` has no value: give one with --shape {}=N", d.name, d.name)));
            }
            Some(n) if !(d.low..=d.high).contains(n) => {
                return Err(Error::Usage(format!("dim `{}` is {n}, outside its bounds {}..{}", d.name, d.low, d.high)));
            }
            Some(_) => {}
        }
    }
    for d in program.values.iter().flat_map(|v| v.ty.dims()) {
        let n = d.eval(values).map_err(|e| Error::Usage(e.to_string()))?;
        if n < 0 {
            return Err(Error::Usage(format!("dimension {d} is {n}")));
        }
    }
    Ok(())
}

/// The concrete lengths of dims, once checked.
pub fn lengths(dims: &[Dim], values: &DimValues) -> Vec<usize> {
    dims.iter().map(|d| usize::try_from(d.eval(values).unwrap_or(0)).unwrap_or(0)).collect()
}
