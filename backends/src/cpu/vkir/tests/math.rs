//! The mathematical functions against f64 over wide ranges.

use super::*;

/// Evaluates a kernel of one or two inputs over slices.
fn evaluate(target: &Target, function: &dyn Fn(&mut Builder, VReg, VReg) -> VReg, x: &[f32], y: &[f32]) -> Vec<f32> {
    let mut b = Builder::new("map", target.isa(), 4);
    let lanes = b.lanes();
    let (first, second, out, count) = (b.arg(0), b.arg(1), b.arg(2), b.arg(3));
    b.loop_(count, |b, _| {
        let (x, y) = (b.load(Addr::new(first)), b.load(Addr::new(second)));
        let value = function(b, x, y);
        b.store(value, Addr::new(out));
        for pointer in [first, second, out] {
            b.advance(pointer, 4 * lanes as i32);
        }
    });
    let compiled = compile(target, &b.finish()).unwrap();
    let padded = |values: &[f32]| {
        let mut values = values.to_vec();
        values.resize(values.len().next_multiple_of(lanes), 1.0);
        values
    };
    let (x, y) = (padded(x), padded(y));
    let mut out = vec![0.0f32; x.len()];
    let args = [x.as_ptr() as i64, y.as_ptr() as i64, out.as_mut_ptr() as i64, (x.len() / lanes) as i64];
    // SAFETY: the three slices are equally long, a multiple of the lanes.
    unsafe { compiled.call(&args) };
    out
}

/// Points over low..high, evenly in value and evenly in exponent.
fn points(low: f32, high: f32) -> Vec<f32> {
    let mut rng = Rng::new(1);
    let mut all = vec![low, high];
    for _ in 0..20_000 {
        all.push(low + (high - low) * rng.unit());
        let size = 2.0f32.powf(rng.unit() * 60.0 - 40.0);
        all.extend([size, -size].into_iter().filter(|x| (low..=high).contains(x)));
    }
    all
}

/// Checks the relative error, or half the smallest subnormal where the result is tiny; `slack` widens the bound by
/// the function's own condition.
fn check(
    name: &str,
    function: &dyn Fn(&mut Builder, VReg) -> VReg,
    exact: &dyn Fn(f64) -> f64,
    range: (f32, f32),
    bound: f64,
    slack: &dyn Fn(&Target, f64) -> f64,
) {
    let x = points(range.0, range.1);
    for target in targets() {
        let got = evaluate(&target, &|b, x, _| function(b, x), &x, &x);
        let bound = if target.fused() { bound } else { 3.0 * bound };
        let mut worst = (0.0f64, 0.0f32);
        for (x, got) in x.iter().zip(&got) {
            let want = exact(f64::from(*x));
            if (want as f32).is_infinite() {
                assert!(*got == want as f32 || want.abs() < 3.41e38, "{name}({x}) = {got}, not {want}");
                continue;
            }
            let unit = want.abs().max(f64::from(f32::MIN_POSITIVE)) * (1.0 + slack(&target, f64::from(*x)));
            let error = (f64::from(*got) - want).abs() / unit;
            assert!(!error.is_nan(), "{name}({x}) = {got}, not {want}");
            if error > worst.0 {
                worst = (error, *x);
            }
        }
        println!("{name:10} {:?}: {:.2e} at {}", target.isa(), worst.0, worst.1);
        assert!(worst.0 <= bound, "{name} {} {:?}: {:.2e} at {}", target.name(), target.isa(), worst.0, worst.1);
    }
}

fn none(_: &Target, _: f64) -> f64 {
    0.0
}

#[test]
fn exponentials() {
    check("exp", &Builder::exp, &f64::exp, (-110.0, 95.0), 1.8e-7, &none);
    check("expm1", &Builder::expm1, &f64::exp_m1, (-110.0, 95.0), 2.2e-7, &none);
    check("tanh", &Builder::tanh, &f64::tanh, (-30.0, 30.0), 3.0e-7, &none);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    check("sigmoid", &Builder::sigmoid, &sigmoid, (-110.0, 110.0), 2.5e-7, &none);
    check("silu", &Builder::silu, &|x| x * sigmoid(x), (-85.0, 110.0), 3.0e-7, &none);
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    check("softplus", &Builder::softplus, &softplus, (-110.0, 110.0), 3.0e-7, &none);
}

#[test]
fn logarithms() {
    check("log", &Builder::log, &f64::ln, (1.0e-45, 3.0e38), 2.0e-7, &none);
    check("log", &Builder::log, &f64::ln, (0.3, 3.0), 2.0e-7, &none);
    check("log1p", &Builder::log1p, &f64::ln_1p, (-0.999_999, 1.0e9), 2.5e-7, &none);
    check("log1p", &Builder::log1p, &f64::ln_1p, (-0.9, 2.0), 2.5e-7, &none);
}

/// erfc by its series or its continued fraction, to about 1e-14.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum;
    }
    let tail = (1..200).rev().fold(0.0, |tail, n| f64::from(n) / 2.0 / (x + tail));
    (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + tail)
}

#[test]
fn error_functions() {
    let erf = |x: f64| {
        if x.abs() < 0.5 {
            let (mut term, mut sum) = (x, x);
            for n in 1..40 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 2.0 / std::f64::consts::PI.sqrt() * sum;
        }
        1.0 - erfc(x)
    };
    check("erf", &Builder::erf, &erf, (-12.0, 12.0), 2.0e-7, &none);
    let gelu = |x: f64| x * 0.5 * erfc(-x / std::f64::consts::SQRT_2);
    // without fused multiply-adds x^2 / 2 is rounded before the exponential
    check("gelu_erf", &Builder::gelu_erf, &gelu, (-12.8, 20.0), 3.5e-7, &square_unless_fused);
    let argument = |x: f64| 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    let gelu_tanh = |x: f64| x / (1.0 + (-argument(x)).exp());
    check("gelu_tanh", &Builder::gelu_tanh, &gelu_tanh, (-8.0, 20.0), 3.0e-7, &|_, x| (-argument(x)).max(0.0));
}

fn square_unless_fused(target: &Target, x: f64) -> f64 {
    if target.fused() { 0.0 } else { 0.5 * x * x }
}

#[test]
fn circular_functions() {
    // the unit is the value's own size, but for a floor where it crosses zero
    let floor = |exact: fn(f64) -> f64| move |_: &Target, x: f64| 0.05 / exact(x).abs().max(1.0e-12);
    for range in [(-7.0, 7.0), (-3000.0, 3000.0), (-1.0e5, 1.0e5)] {
        check("sin", &Builder::sin, &f64::sin, range, 1.5e-7, &floor(f64::sin));
        check("cos", &Builder::cos, &f64::cos, range, 1.5e-7, &floor(f64::cos));
    }
}

#[test]
fn powers() {
    let mut rng = Rng::new(5);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..40_000 {
        let base = 2.0f32.powf(rng.unit() * 40.0 - 20.0);
        let exponent = (rng.unit() - 0.5) * rng.pick(&[2.0, 8.0, 12.0]);
        x.push(base);
        y.push(exponent);
        let near = 0.7 + 0.8 * rng.unit();
        x.push(near);
        y.push((rng.unit() - 0.5) * 300.0);
        x.push(-base);
        y.push((exponent).round());
    }
    for target in targets() {
        let got = evaluate(&target, &|b, x, y| b.pow(x, y), &x, &y);
        let mut worst = (0.0, 0.0, 0.0);
        for ((x, y), got) in x.iter().zip(&y).zip(&got) {
            let want = f64::from(*x).powf(f64::from(*y));
            if (want as f32).is_infinite() {
                continue;
            }
            // without fusion the product y log x is rounded
            let slack = if target.fused() { 1.0 } else { 2.0 + (want.abs().ln()).abs() };
            let unit = want.abs().max(f64::from(f32::MIN_POSITIVE)) * slack;
            let error = (f64::from(*got) - want).abs() / unit;
            if error > worst.0 {
                worst = (error, *x, *y);
            }
        }
        println!("pow {:?}: {worst:?}", target.isa());
        assert!(worst.0 <= 2.5e-7, "{:?}: {worst:?}", target.isa());
    }
}

#[test]
fn edges() {
    let inf = f32::INFINITY;
    let nan = f32::NAN;
    type Function = fn(&mut Builder, VReg) -> VReg;
    let cases: &[(&str, Function, &[(f32, f32)])] = &[
        ("exp", Builder::exp, &[(-inf, 0.0), (inf, inf), (nan, nan), (0.0, 1.0), (-104.5, 0.0), (1.0e30, inf)]),
        ("expm1", Builder::expm1, &[(-inf, -1.0), (inf, inf), (nan, nan), (0.0, 0.0), (-0.0, 0.0)]),
        ("tanh", Builder::tanh, &[(-inf, -1.0), (inf, 1.0), (nan, nan), (0.0, 0.0), (-0.0, -0.0)]),
        ("sigmoid", Builder::sigmoid, &[(-inf, 0.0), (inf, 1.0), (nan, nan), (0.0, 0.5)]),
        ("silu", Builder::silu, &[(inf, inf), (nan, nan), (0.0, 0.0)]),
        ("softplus", Builder::softplus, &[(inf, inf), (-inf, 0.0), (nan, nan)]),
        ("log", Builder::log, &[(0.0, -inf), (-0.0, -inf), (-1.0, nan), (inf, inf), (nan, nan), (1.0, 0.0)]),
        ("log1p", Builder::log1p, &[(-1.0, -inf), (-2.0, nan), (inf, inf), (nan, nan), (0.0, 0.0)]),
        ("erf", Builder::erf, &[(inf, 1.0), (-inf, -1.0), (nan, nan), (0.0, 0.0)]),
        ("gelu_erf", Builder::gelu_erf, &[(inf, inf), (nan, nan), (0.0, 0.0), (-20.0, -0.0)]),
        ("gelu_tanh", Builder::gelu_tanh, &[(inf, inf), (nan, nan), (0.0, 0.0)]),
        ("sin", Builder::sin, &[(inf, nan), (-inf, nan), (nan, nan), (0.0, 0.0)]),
        ("cos", Builder::cos, &[(inf, nan), (nan, nan), (0.0, 1.0)]),
        ("recip", Builder::recip, &[(0.0, inf), (inf, 0.0), (-4.0, -0.25)]),
        ("rsqrt", Builder::rsqrt, &[(0.0, inf), (inf, 0.0), (4.0, 0.5), (-1.0, nan)]),
    ];
    for target in targets() {
        for (name, function, values) in cases {
            let x: Vec<f32> = values.iter().map(|(x, _)| *x).collect();
            let got = evaluate(&target, &|b, x, _| function(b, x), &x, &x);
            for ((x, want), got) in values.iter().zip(&got) {
                let same = got == want || (got.is_nan() && want.is_nan());
                assert!(same, "{:?} {name}({x}) = {got}, not {want}", target.isa());
            }
        }
        let powers = [
            (nan, 0.0),
            (1.0, nan),
            (1.0, inf),
            (0.0, 2.0),
            (0.0, -2.0),
            (-0.0, 3.0),
            (-0.0, -3.0),
            (-2.0, 0.5),
            (-2.0, 3.0),
            (-2.0, 2.0),
            (inf, 2.0),
            (inf, -1.0),
            (-inf, 3.0),
            (0.5, inf),
            (0.5, -inf),
            (2.0, inf),
            (2.0, -inf),
            (nan, 1.0),
            (2.0, nan),
            (1.0e-40, 0.5),
            (3.0, 1.0e9),
        ];
        let (x, y): (Vec<f32>, Vec<f32>) = powers.iter().copied().unzip();
        let got = evaluate(&target, &|b, x, y| b.pow(x, y), &x, &y);
        for ((x, y), got) in powers.iter().zip(&got) {
            let want = x.powf(*y);
            let same = want == *got || (want.is_nan() && got.is_nan()) || ((got - want) / want).abs() < 3.0e-7;
            assert!(same, "{:?} pow({x}, {y}) = {got}, not {want}", target.isa());
        }
    }
}

#[test]
fn large_arguments_of_the_circular_functions_stay_bounded() {
    for target in targets() {
        let x = [1.0e7f32, -3.0e9, 1.0e20, f32::MAX];
        for value in evaluate(&target, &|b, x, _| b.sin(x), &x, &x) {
            assert!(value.abs() <= 1.000_001, "{:?}: {value}", target.isa());
        }
    }
}
