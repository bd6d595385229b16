//! Random programs: what is chosen, whatever is preferred, computes what was written, and nothing stops the rewriter.

use super::super::facts::Surroundings;
use super::super::{Exactness, RewriteSettings, rewrite};
use super::random::{Instance, Rng};
use super::{program, text};
use mixc_ir::dim::DimValues;
use mixc_ir::program::Program;
use mixc_ir::reference::{Weights, interpret};

/// A cost that follows nothing but the seed.
fn whim(seed: u64) -> impl Fn(&Program) -> Option<f64> {
    move |p| {
        let hash = text(p).bytes().fold(seed, |h, b| Rng::new(h ^ u64::from(b)).next());
        (hash % 16 != 0).then_some((hash % 1000) as f64)
    }
}

#[test]
fn random_programs_keep_their_meaning() {
    let settings = RewriteSettings { node_limit: 600, costed: 12, ..RewriteSettings::default() };
    let (mut changed, mut steps) = (0, 0);
    for seed in 0..400 {
        let mut instance = Instance::new(seed, &Surroundings::default());
        let roots = instance.grow(18);
        let Ok(p) = instance.program(&roots) else { panic!("seed {seed} does not build") };
        let Ok(expected) = interpret(&p, &DimValues::new(), &instance.data, &Weights::new()) else { continue };
        let r = rewrite(&p, &settings, &whim(seed));
        for c in &r.candidates {
            let found = interpret(&c.program, &DimValues::new(), &instance.data, &Weights::new())
                .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}\n{}", text(&p), text(&c.program)));
            for (k, (x, y)) in expected.iter().zip(&found).enumerate() {
                assert_eq!(x.shape, y.shape);
                let scale = (0..x.len()).map(|k| x.at(k).abs()).filter(|x| x.is_finite()).fold(1.0, f64::max);
                // Rules are equalities of real numbers; what overflowed or divided by zero is none.
                let same = (0..x.len()).all(|k| {
                    let (a, b) = (x.at(k), y.at(k));
                    (a - b).abs() <= 1e-4 * scale || !a.is_finite()
                });
                assert!(
                    same,
                    "seed {seed}, result {k}: {x:?}\n{y:?}\n{}\n{}\n{:?}",
                    text(&p),
                    text(&c.program),
                    c.rules
                );
            }
            changed += usize::from(text(&c.program) != text(&p));
            steps += c.rules.len();
            assert!(c.rules.iter().all(|r| r.exactness == Exactness::Exact && !r.site.is_empty()));
        }
    }
    assert!(changed > 200 && steps > 300, "{changed} programs changed by {steps} steps");
}

#[test]
fn sums_that_share_everything_take_no_exponential_time() {
    let mut body = String::from("  %m = gram %x, %x\n  %x0 = apply %m, %x\n");
    for k in 0..200 {
        body.push_str(&format!("  %x{} = add %x{k}, %x{k}\n", k + 1));
    }
    let source = format!("func @main(%x: f32[5, 4]) -> f32[5, 4] {{\n{body}  return %x200\n}}\n");
    let p = program(&source);
    let settings = RewriteSettings { region_limit: 400, ..RewriteSettings::default() };
    let r = rewrite(&p, &settings, &|p| Some(1000.0 - p.nodes.len() as f64));
    assert!(!r.candidates.is_empty());
    // Past the limit, a region is left as written.
    let small = RewriteSettings { region_limit: 100, ..RewriteSettings::default() };
    assert_eq!(text(&rewrite(&p, &small, &|_| Some(1.0)).program), text(&p));
}
