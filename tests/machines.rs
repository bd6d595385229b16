//! One model, several machines: the form that costs choose is that of the target, and nothing but the target decides.

use mixc::explain::{SMALL_WORK, explain};
use mixc::{Model, Request, ShapeArg, Target};
use std::path::Path;

/// The forms of the kernels in order, each once, without small work.
fn forms(file: &str, tokens: i64, target: &str) -> Vec<String> {
    forms_in("f32", file, tokens, target)
}

/// The same with tensors of another element type; operators hold f32 whatever the tokens are.
fn forms_in(dtype: &str, file: &str, tokens: i64, target: &str) -> Vec<String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let text = std::fs::read_to_string(examples.join(file)).expect("an example").replace("f32[", &format!("{dtype}["));
    let text = text.replace(&format!("mix {dtype}["), "mix f32[");
    let model = Model::from_text(&text, file, &examples, &[]).expect("a model");
    let shapes = vec![ShapeArg { name: "T".into(), low: 1, high: 8192, typical: tokens }];
    let request = Request { shapes, ..Request::default() };
    let stages = model.stages(&Target::parse(target).expect("a target"), &request).expect("it is lowered");
    let mut forms: Vec<String> = Vec::new();
    for kernel in explain(&stages, &request, target).kernels {
        if !SMALL_WORK.contains(&kernel.form.as_str()) && !forms.contains(&kernel.form) {
            forms.push(kernel.form);
        }
    }
    forms
}

#[test]
fn the_machine_decides() {
    // A few heads leave most of a GPU idle unless parts of the tokens go at once; a core has nothing to gain from that.
    let mamba2 = |target| forms("papers/mamba2.ir", 2048, target).iter().any(|f| f == "parallel_scan");
    assert!(!mamba2("znver4") && !mamba2("x86-64-v3"));
    assert!(mamba2("cuda:sm_80") && mamba2("cuda:sm_90"));
    // All pairs of 512 tokens are little work for so many blocks; four times as many go through Fourier transforms, by dense
    // factors where multiply-adds cost less than passes over memory.
    let s4d = |tokens, target, form: &str| forms("papers/s4d.ir", tokens, target).iter().any(|f| f == form);
    assert!(s4d(512, "znver4", "fft_conv") && s4d(2048, "znver4", "fft_conv"));
    assert!(s4d(512, "cuda:sm_90", "dense") && s4d(2048, "cuda:sm_90", "monarch_conv"));
}

#[test]
fn the_element_type_decides() {
    // Products of halves are so cheap on a GPU that all pairs of 96 tokens cost less than going through sums in f32; on a
    // core, which multiplies them in f32, they do not.
    let product = |dtype, target| forms_in(dtype, "crossovers/product.ir", 96, target);
    assert_eq!(product("f32", "cuda:sm_90"), ["linear"]);
    assert_eq!(product("bf16", "cuda:sm_90"), ["dense"]);
    assert_eq!(product("bf16", "znver4"), product("f32", "znver4"));
}
