//! The prelude's functions of numbers against the meaning that the IR gives them.

use mixc_ir::expr::{Binary, Scalar, Unary, eval_binary, eval_unary};

use super::harness::{Argument, Program, Random, bytes_of, device, program, run, values_of};

const REAL: [(&str, Unary); 18] = [
    ("mx_exp", Unary::Exp),
    ("mx_expm1", Unary::Expm1),
    ("mx_log", Unary::Log),
    ("mx_log1p", Unary::Log1p),
    ("mx_sqrt", Unary::Sqrt),
    ("mx_rsqrt", Unary::Rsqrt),
    ("mx_recip", Unary::Recip),
    ("mx_tanh", Unary::Tanh),
    ("mx_sigmoid", Unary::Sigmoid),
    ("mx_erf", Unary::Erf),
    ("mx_sin", Unary::Sin),
    ("mx_cos", Unary::Cos),
    ("mx_sign", Unary::Sign),
    ("mx_floor", Unary::Floor),
    ("mx_ceil", Unary::Ceil),
    ("mx_trunc", Unary::Trunc),
    ("mx_round_even", Unary::RoundEven),
    ("mx_abs", Unary::Abs),
];
const REAL_PAIR: [(&str, Binary); 4] =
    [("mx_pow", Binary::Pow), ("mx_mod", Binary::Mod), ("mx_max", Binary::Max), ("mx_min", Binary::Min)];
const INTEGER: [(&str, Unary); 3] = [("mx_neg", Unary::Neg), ("mx_abs", Unary::Abs), ("mx_sign", Unary::Sign)];
const INTEGER_PAIR: [(&str, Binary); 8] = [
    ("mx_add", Binary::Add),
    ("mx_sub", Binary::Sub),
    ("mx_mul", Binary::Mul),
    ("mx_floor_div", Binary::Div),
    ("mx_floor_mod", Binary::Mod),
    ("mx_max", Binary::Max),
    ("mx_min", Binary::Min),
    ("mx_pow", Binary::Pow),
];

const THREADS: u32 = 64;

/// Every function on all of x, or on all pairs of x and y: function k fills the k-th part of the output.
fn functions(name: &str, element: &str, unary: &[&str], binary: &[&str], blocks: u32) -> Program {
    let mut body = String::new();
    for (k, f) in unary.iter().enumerate() {
        body.push_str(&format!("    go[{k} * n + i] = {f}(gx[i]);\n"));
    }
    for (k, f) in binary.iter().enumerate() {
        body.push_str(&format!("    go[{} * n + i] = {f}(gx[i], gy[i]);\n", unary.len() + k));
    }
    let text = format!(
        "MX_KERNEL({name}, {THREADS})(const {element} *x, const {element} *y, {element} *out, mx_i64 n) {{
  MX_GLOBAL(const {element}, gx, x);
  MX_GLOBAL(const {element}, gy, y);
  MX_GLOBAL({element}, go, out);
  const mx_i64 i = mx_block() * {THREADS} + mx_thread();
  if (i < n) {{
{body}  }}
}}
"
    );
    program(name, THREADS, 0, 4, blocks, &text)
}

fn real_program(element: &str, blocks: u32) -> Program {
    let unary: Vec<&str> = REAL.iter().map(|(f, _)| *f).collect();
    let binary: Vec<&str> = REAL_PAIR.iter().map(|(f, _)| *f).collect();
    functions(&format!("reals_{element}"), element, &unary, &binary, blocks)
}

fn integer_program(blocks: u32) -> Program {
    let mut unary: Vec<&str> = INTEGER.iter().map(|(f, _)| *f).collect();
    unary.push("mx_wrap_i32");
    let binary: Vec<&str> = INTEGER_PAIR.iter().map(|(f, _)| *f).collect();
    functions("integers", "mx_i64", &unary, &binary, blocks)
}

fn conversion_program(blocks: u32) -> Program {
    let text = "MX_KERNEL(conversions, 64)(const float *x, const double *y, mx_i64 *out, mx_bool *nan, mx_i64 n) {
  MX_GLOBAL(const float, gx, x);
  MX_GLOBAL(const double, gy, y);
  MX_GLOBAL(mx_i64, go, out);
  MX_GLOBAL(mx_bool, gn, nan);
  const mx_i64 i = mx_block() * 64 + mx_thread();
  if (i < n) {
    go[i] = mx_to_i64(gx[i]);
    go[n + i] = mx_to_i64(gy[i]);
    gn[i] = mx_isnan(gx[i]);
    gn[n + i] = mx_isnan(gy[i]);
  }
}
";
    program("conversions", 64, 0, 5, blocks, text)
}

pub(super) fn programs() -> Vec<Program> {
    vec![real_program("float", 1), real_program("double", 1), integer_program(1), conversion_program(1)]
}

/// All pairs of the interesting numbers, then random ones.
fn pairs<T: Copy>(special: &[T], mut random: impl FnMut() -> T) -> (Vec<T>, Vec<T>) {
    let mut pairs: Vec<(T, T)> = special.iter().flat_map(|a| special.iter().map(|b| (*a, *b))).collect();
    for _ in 0..997 {
        pairs.push((random(), random()));
    }
    pairs.into_iter().unzip()
}

const SPECIAL: [f64; 27] = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.5,
    -2.5,
    3.0,
    -3.0,
    7.25,
    -7.25,
    1e-3,
    -1e-7,
    1e-30,
    20.0,
    -20.0,
    88.0,
    -100.0,
    1e10,
    -1e19,
    1e30,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    4.0,
];

/// `value` is within `most` units of 2^-bits of `expected`, or the same infinity, or both are NaN.
fn close(value: f64, expected: f64, relative: f64, least: f64) -> bool {
    if expected.is_nan() || value.is_nan() {
        return expected.is_nan() && value.is_nan();
    }
    value == expected || (value - expected).abs() <= relative * expected.abs() + least
}

#[test]
fn reals_mean_what_the_ir_says() {
    let Some(device) = device(0) else { return };
    let mut random = Random(1);
    let (x, y) = pairs(&SPECIAL, || f64::from(random.real()) * 10.0);
    let blocks = (x.len() as u32).div_ceil(THREADS);
    let count = REAL.len() + REAL_PAIR.len();
    let check = |got: &[f64], x: &[f64], y: &[f64], relative: f64, least: f64, most: f64| {
        let n = x.len();
        let unary = REAL.iter().enumerate().map(|(k, (f, op))| (k, *f, eval_all(x, |a| eval_unary(*op, a))));
        let binary = REAL_PAIR.iter().enumerate().map(|(k, (f, op))| {
            let values =
                x.iter().zip(y).map(|(a, b)| eval_binary(*op, Scalar::Float(*a), Scalar::Float(*b)).as_float());
            (REAL.len() + k, *f, values.collect::<Vec<f64>>())
        });
        for (k, name, expected) in unary.chain(binary) {
            for i in 0..n {
                // What is beyond the type's range is infinite, and what is below it may be 0.
                let wanted = if expected[i].abs() > most { expected[i].signum() * f64::INFINITY } else { expected[i] };
                let value = got[k * n + i];
                assert!(close(value, wanted, relative, least), "{name}({}, {}) = {value}, not {wanted}", x[i], y[i]);
            }
        }
    };

    let narrow = |v: &[f64]| v.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let (x32, y32) = (narrow(&x), narrow(&y));
    let bytes = |v: &[f32]| bytes_of(v, f32::to_le_bytes);
    let arguments = [
        Argument::In(&bytes(&x32)),
        Argument::In(&bytes(&y32)),
        Argument::Out(4 * count * x.len()),
        Argument::Number(x.len() as i64),
    ];
    let got = run(&device, &real_program("float", blocks), &arguments).unwrap();
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let got: Vec<f64> = wide(&values_of(&got[0], f32::from_le_bytes));
    // CUDA's programming guide allows powf 4 units in the last place, and the others fewer.
    let relative = if device.is_emulated() { 4e-7 } else { 1e-6 };
    check(&got, &wide(&x32), &wide(&y32), relative, 1e-37, f64::from(f32::MAX));

    let bytes = |v: &[f64]| bytes_of(v, f64::to_le_bytes);
    let arguments = [
        Argument::In(&bytes(&x)),
        Argument::In(&bytes(&y)),
        Argument::Out(8 * count * x.len()),
        Argument::Number(x.len() as i64),
    ];
    let got = run(&device, &real_program("double", blocks), &arguments).unwrap();
    check(&values_of(&got[0], f64::from_le_bytes), &x, &y, 4e-15, 1e-300, f64::MAX);
}

fn eval_all(x: &[f64], f: impl Fn(Scalar) -> Scalar) -> Vec<f64> {
    x.iter().map(|a| f(Scalar::Float(*a)).as_float()).collect()
}

#[test]
fn integers_mean_what_the_ir_says() {
    let Some(device) = device(0) else { return };
    let special = [0, 1, -1, 2, -2, 3, -3, 7, -7, 10, 63, 64, 1 << 31, -(1 << 31), (1 << 32) + 5, i64::MAX, i64::MIN];
    let mut random = Random(2);
    let (x, y) = pairs(&special, || {
        let bits = random.bits();
        (bits as i64) >> (bits % 61)
    });
    let n = x.len();
    let count = INTEGER.len() + 1 + INTEGER_PAIR.len();
    let bytes = |v: &[i64]| bytes_of(v, i64::to_le_bytes);
    let arguments =
        [Argument::In(&bytes(&x)), Argument::In(&bytes(&y)), Argument::Out(8 * count * n), Argument::Number(n as i64)];
    let got = run(&device, &integer_program((n as u32).div_ceil(THREADS)), &arguments).unwrap();
    let got: Vec<i64> = values_of(&got[0], i64::from_le_bytes);
    for i in 0..n {
        for (k, (name, op)) in INTEGER.iter().enumerate() {
            assert_eq!(got[k * n + i], eval_unary(*op, Scalar::Int(x[i])).as_int(), "{name}({})", x[i]);
        }
        assert_eq!(got[INTEGER.len() * n + i], i64::from(x[i] as i32), "mx_wrap_i32({})", x[i]);
        for (k, (name, op)) in INTEGER_PAIR.iter().enumerate() {
            let expected = eval_binary(*op, Scalar::Int(x[i]), Scalar::Int(y[i])).as_int();
            assert_eq!(got[(INTEGER.len() + 1 + k) * n + i], expected, "{name}({}, {})", x[i], y[i]);
        }
    }
}

#[test]
fn reals_become_integers_by_saturation() {
    let Some(device) = device(0) else { return };
    let mut x = SPECIAL.to_vec();
    x.extend([9.3e18, -9.3e18, 9_223_372_036_854_775_808.0, -9_223_372_036_854_775_808.0, 123456.75, -123456.75]);
    let n = x.len();
    let narrow: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let arguments = [
        Argument::In(&bytes_of(&narrow, f32::to_le_bytes)),
        Argument::In(&bytes_of(&x, f64::to_le_bytes)),
        Argument::Out(16 * n),
        Argument::Out(2 * n),
        Argument::Number(n as i64),
    ];
    let got = run(&device, &conversion_program((n as u32).div_ceil(THREADS)), &arguments).unwrap();
    let integers: Vec<i64> = values_of(&got[0], i64::from_le_bytes);
    for i in 0..n {
        assert_eq!(integers[i], narrow[i] as i64, "{}", narrow[i]);
        assert_eq!(integers[n + i], x[i] as i64, "{}", x[i]);
        assert_eq!([got[1][i], got[1][n + i]], [u8::from(x[i].is_nan()); 2], "{}", x[i]);
    }
}
