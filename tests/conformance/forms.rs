//! Every conformance case runs in the form that it is there for. Sizes are small, so that the cheapest form is often a
//! matrix of elements: the form for long sequences is then asked for by name, and gives the expected results too.

use super::{Case, compare, every_case};
use mixc::explain::SMALL_WORK;
use mixc::{Request, Target};

/// A case, the forms that are chosen for it by cost in order, and forms that apply as well.
///
/// Without a form of mixing: rotations, the short convolution and the table of HiPPO are elementwise. The products with
/// matrices of elements that stay `dense` have arbitrary elements (`dense_causal`, `token_mlp`). Attention whose keys are
/// thinned out (`attention_dilated`) or compared (`attention_segments`, `attention_any_mask`) leaves out no block of keys
/// that causality does not: it is no window.
#[rustfmt::skip]
const FORMS: [(&str, &[&str], &[&str]); 69] = [
    ("attention_alibi", &["flash"], &[]),
    ("attention_any_mask", &["flash"], &[]),
    ("attention_bf16", &["flash"], &[]),
    ("attention_bias", &["flash"], &[]),
    ("attention_big_logits", &["flash"], &[]),
    ("attention_block", &["window"], &["flash"]),
    ("attention_block_sparse", &["block_sparse"], &[]),
    ("attention_causal", &["flash"], &[]),
    ("attention_decode", &["flash"], &[]),
    ("attention_dilated", &["flash"], &[]),
    ("attention_expanded", &["flash"], &[]),
    ("attention_f16", &["flash"], &[]),
    ("attention_full", &["flash"], &[]),
    ("attention_grouped_query", &["flash"], &[]),
    ("attention_lengths", &["flash"], &[]),
    ("attention_ragged_cache", &["window"], &["flash"]),
    ("attention_segments", &["flash"], &[]),
    ("attention_sink_logit", &["flash"], &[]),
    ("attention_sink_window", &["window"], &["flash"]),
    ("attention_soft_cap", &["flash"], &[]),
    ("attention_top_k", &["gemm", "top_k", "flash"], &[]),
    ("attention_window", &["window"], &["flash"]),
    ("attention_window_two_sided", &["window"], &["flash"]),
    ("block_diagonal", &["block_diagonal"], &[]),
    ("call_twice", &["gemm"], &[]),
    ("circulant", &["fft_conv"], &["direct_conv", "monarch_conv"]),
    ("companion_conv", &["gemm", "direct_conv", "triangular_inverse"], &["fft_conv", "monarch_conv"]),
    ("delta_rule_gated", &["triangular_inverse", "chunked_scan"], &["recurrent_scan"]),
    ("dense_causal", &["dense"], &[]),
    ("fourier_mix", &["fourier"], &[]),
    ("gated_linear_attention", &["recurrent_scan"], &["chunked_scan"]),
    ("hippo_legs", &[], &[]),
    ("inverse_expanded", &["triangular_inverse"], &["triangular_inverse.substitution"]),
    ("krylov", &["gemm"], &[]),
    ("linear_bf16", &["gemm"], &[]),
    ("linear_causal", &["chunked_scan"], &["recurrent_scan", "dense"]),
    ("linear_f16", &["gemm"], &[]),
    ("linear_full", &["linear"], &["gemm", "dense"]),
    ("linear_normalized", &["chunked_scan"], &["recurrent_scan", "dense"]),
    ("long_conv", &["direct_conv"], &["fft_conv", "monarch_conv"]),
    ("lora", &["gemm"], &[]),
    ("mlp_block", &["gemm"], &[]),
    ("monarch", &["monarch"], &["dense"]),
    ("norm_attention", &["chunked_scan"], &["recurrent_scan", "dense"]),
    ("pgn", &["gemm"], &[]),
    ("retention", &["chunked_scan"], &["recurrent_scan", "dense"]),
    ("retention_expanded", &["chunked_scan"], &["recurrent_scan", "dense"]),
    ("rfft_irfft", &["fourier"], &[]),
    ("rope", &[], &[]),
    ("rwkv_wkv", &["recurrent_scan"], &["flash"]),
    ("s4d_conv", &["gemm", "direct_conv"], &["fft_conv", "monarch_conv"]),
    ("selective_scan", &["recurrent_scan"], &[]),
    ("selective_scan_reverse", &["recurrent_scan"], &[]),
    ("short_conv_silu", &[], &[]),
    ("ssd", &["chunked_scan"], &["recurrent_scan"]),
    ("ssd_bf16", &["chunked_scan"], &["recurrent_scan"]),
    ("ssd_f16", &["chunked_scan"], &["recurrent_scan"]),
    ("ssd_state_in_out", &["gemm", "chunked_scan"], &["recurrent_scan"]),
    ("ssd_state_rectangular", &["gemm", "chunked_scan"], &["recurrent_scan"]),
    ("ssm2d", &["scan_2d"], &[]),
    ("symbolic_attention_t1", &["flash"], &[]),
    ("symbolic_attention_t37", &["flash"], &[]),
    ("symbolic_cache", &["flash"], &[]),
    ("symbolic_scan", &["recurrent_scan"], &[]),
    ("tensor_attention", &["tensor_flash"], &["flash"]),
    ("toeplitz_two_sided", &["direct_conv"], &["fft_conv", "monarch_conv"]),
    ("token_mlp", &["dense"], &[]),
    ("two_block_decoder", &["gemm", "flash"], &[]),
    ("walsh_hadamard", &["walsh_hadamard"], &["dense"]),
];

/// The name of a form that may be one of several under it.
fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(family, _)| family)
}

/// The forms of the kernels in order, each once, without the small work.
fn forms_of(case: &Case, force_form: Option<&str>) -> Result<Vec<String>, String> {
    let request = Request { force_form: force_form.map(str::to_string), ..Request::default() };
    let machine = Target::parse("znver4").map_err(|e| e.to_string())?;
    let stages = case.model.stages(&machine, &request).map_err(|e| e.to_string())?;
    let mut forms: Vec<String> = Vec::new();
    for kernel in mixc::explain::explain(&stages, &request, "cpu").kernels {
        if !SMALL_WORK.contains(&kernel.form.as_str()) && !forms.contains(&kernel.form) {
            forms.push(kernel.form);
        }
    }
    Ok(forms)
}

#[test]
fn every_case_reaches_its_form() {
    every_case(&|_| true, &|case| {
        let row = FORMS.iter().find(|(name, ..)| *name == case.name);
        let (_, chosen, others) = row.ok_or("the table of forms does not name it")?;
        let found = forms_of(case, None)?;
        if found != *chosen {
            return Err(format!("runs as {found:?}, not as {chosen:?}"));
        }
        for other in *others {
            let forced = forms_of(case, Some(other))?;
            if !forced.iter().any(|f| f == family(other)) {
                return Err(format!("cannot run as {other}; asked for it, it runs as {forced:?}"));
            }
            let request = Request { force_form: Some(other.to_string()), ..Request::default() };
            let target = Target::parse("cpu").map_err(|e| e.to_string())?;
            let runner = case.model.compile(&target, &request).map_err(|e| e.to_string())?;
            let results = runner.run(&case.inputs, 1).map_err(|e| e.to_string())?;
            compare(case, &results).map_err(|e| format!("as {other}: {e}"))?;
        }
        Ok(())
    });
}

#[test]
fn the_table_names_every_form_once_that_it_names() {
    let catalogue: Vec<&str> = mixc::forms().iter().map(|(name, _)| *name).collect();
    for (case, chosen, others) in FORMS {
        for form in chosen.iter().chain(others) {
            assert!(catalogue.contains(&family(form)), "{case}: there is no form `{form}`");
        }
        assert!(others.iter().all(|f| !chosen.contains(f)), "{case}");
    }
}
