//! The native form of the search down a tree of keys against the reference.

mod agree;

use agree::{lowered, shape_of};
use mixc_ir::dim::DimValues;
use mixc_ir::expr::{Kind, Scalar};
use mixc_ir::lowered::Action;
use mixc_ir::program::Program;
use mixc_ir::tensor::Tensor;
use mixc_ir::tile::Rounding;
use mixc_ir::{lowered_interp, reference};

/// Small integers: exact in every precision, and with many ties.
fn tensor(shape: &[usize], spread: u64, state: &mut u64) -> Tensor {
    Tensor::from_fn(Kind::Float, shape, |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Scalar::Float(((*state >> 33) % (2 * spread + 1)) as f64 - spread as f64)
    })
}

fn program(queries: usize, keys: usize, batch: &str, mask: &str, attrs: &str) -> String {
    let dims = format!("dim T = 0..{}\ndim S = 0..{}\n", queries + 3, keys + 5);
    let params = format!("%q: f32[{batch}T, 4], %k: f32[{batch}S, 4], %v: f32[{batch}S, 3]");
    let masked = if mask.is_empty() { String::new() } else { format!("  %c = mask %m {{{mask}}}\n") };
    let operand = if mask.is_empty() { "m" } else { "c" };
    format!(
        "{dims}\nfunc @main({params}) -> (f32[{batch}T, 3], f32[{batch}T, 3]) {{\n  %m = gram %q, %k\n{masked}  \
         %t = top_k_tree %{operand} {{{attrs}}}\n  %p = softmax %t\n  %y = apply %p, %v\n  %z = apply %t, %v\n  \
         return %y, %z\n}}\n"
    )
}

/// The names of the programs in each form of the application, against the reference.
fn run(text: &str, sizes: [usize; 2], spread: u64, state: &mut u64) -> Vec<String> {
    let program: Program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
    let mut values = DimValues::new();
    for v in &program.params {
        for (d, n) in program.ty(*v).dims().iter().filter_map(|d| d.as_symbol()).map(|s| (s, s.to_string())) {
            values.insert(d.clone(), sizes[usize::from(n == "S")] as i64);
        }
    }
    let inputs: Vec<Tensor> =
        program.params.iter().map(|v| tensor(&shape_of(&program, *v, &values), spread, state)).collect();
    let want = reference::interpret(&program, &values, &inputs, &reference::Weights::new()).unwrap();
    let mut names = Vec::new();
    for form in ["block_sparse", "flash"] {
        let lowered = lowered(&program, &values, form);
        names.extend(lowered.steps.iter().filter_map(|step| match &step.action {
            Action::Run { program, .. } => Some(program.name.clone()),
            Action::CheckIds { .. } => None,
        }));
        let got = lowered_interp::interpret_lowered(&lowered, &values, &inputs, &Default::default(), Rounding::Tiles)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.shape, want.shape);
            for k in 0..want.len() {
                let (g, w) = (got.at(k), want.at(k));
                assert!((g - w).abs() <= 1e-4 * w.abs().max(1.0), "{k}: {g} for {w}, sizes {sizes:?}, {form}\n{text}");
            }
        }
    }
    names
}

#[test]
fn the_search_agrees_with_the_reference() {
    let mut state = 7;
    let attrs = [
        "k = 4, block_q = 3, block_k = 2",
        "k = 3, block_q = 2, block_k = 1, sink = 1, window = 2",
        "k = 1, block_q = 1, block_k = 4",
        "k = 5, block_q = 4, block_k = 2, window = 3",
        "k = 8, block_q = 64, block_k = 3, sink = 2",
    ];
    for (queries, keys) in [(1, 1), (7, 7), (13, 29), (31, 31), (5, 37), (17, 9)] {
        for (n, attrs) in attrs.iter().enumerate() {
            let mask = ["causal", "", "window = 11"][(queries + n) % 3];
            let batch = ["", "2, ", "2, 3, "][n % 3];
            let text = program(queries, keys, batch, mask, attrs);
            run(&text, [queries, keys], 1 + (n as u64 % 2) * 6, &mut state);
        }
    }
}

#[test]
fn rounds_that_ask_for_few_scores_form_no_others() {
    let mut state = 5;
    let attrs = [
        "k = 12, block_q = 8, block_k = 2",
        "k = 9, block_q = 5, block_k = 4, sink = 3, window = 6",
        "k = 70, block_q = 64, block_k = 70",
        "k = 5, block_q = 1, block_k = 1, window = 2",
    ];
    let mut asked = 0;
    for (n, attrs) in attrs.into_iter().enumerate() {
        let text = program(331, 331, ["", "2, "][n % 2], ["causal", ""][n / 2], attrs);
        let names = run(&text, [331, 331], 6, &mut state);
        asked += usize::from(names.iter().any(|name| name == "tree_scores"));
        assert!(names.iter().any(|name| name == "block_sparse"), "{names:?}");
    }
    assert!(asked >= 1, "{asked}");
}

#[test]
fn lengths_below_the_bound_and_nothing_at_all() {
    let text = program(61, 61, "", "causal", "k = 6, block_q = 5, block_k = 3, sink = 1, window = 4");
    let mut state = 11;
    for sizes in [[0, 0], [0, 3], [1, 2], [23, 23], [47, 61], [61, 61]] {
        run(&text, sizes, 3, &mut state);
    }
}

#[test]
fn the_choice_of_keys_matters_to_the_test() {
    // The same program with one key more kept must differ, or the comparison above would prove nothing.
    let mut state = 3;
    let inputs: Vec<Tensor> = [[29, 4], [29, 4], [29, 3]].iter().map(|s| tensor(s, 7, &mut state)).collect();
    let of = |attrs: &str| {
        let program = mixc_ir::verify::check(&program(29, 29, "", "causal", attrs)).unwrap();
        let mut values = DimValues::new();
        for v in &program.params {
            values.extend(program.ty(*v).dims().iter().filter_map(|d| d.as_symbol()).map(|s| (s.clone(), 29)));
        }
        let results = reference::interpret(&program, &values, &inputs, &reference::Weights::new()).unwrap();
        (0..results[1].len()).map(|k| results[1].at(k)).collect::<Vec<f64>>()
    };
    assert_ne!(of("k = 4, block_q = 3, block_k = 2"), of("k = 6, block_q = 3, block_k = 2"));
}
