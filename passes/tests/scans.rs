//! The forms of recurrences against the reference: every layout of decays, decays at the ends of their range.

mod agree;

use agree::{Random, agrees, has, lowered};

const LENGTHS: [usize; 7] = [0, 1, 2, 17, 33, 64, 127];

#[test]
fn scans_with_a_decay_for_all_states() {
    let mut random = Random(5);
    for (n, tokens) in LENGTHS.into_iter().enumerate() {
        let dtype = ["f32", "f32", "bf16", "f16", "f64"][n % 5];
        let [batch, groups] = [["", ""], ["4, ", "2, "], ["2, 3, ", "2, 1, "]][n % 3];
        let (r, p) = (1 + n % 6, random.one_of(&[1, 3, 65]));
        let a = if dtype == "f64" { "f64" } else { "f32" };
        let text = format!(
            "dim T = 0..600\nfunc @main(%x: {dtype}[{batch}T, {p}], %a: {a}[{batch}T], %b: {dtype}[{groups}T, {r}], \
             %c: {dtype}[{groups}T, {r}], %s: {a}[{batch}{r}, {p}]) -> ({dtype}[{batch}T, {p}], {a}[{batch}{r}, {p}]) \
             {{\n  %y, %t = ssd %x, %a, %b, %c, %s {{state}}\n  return %y, %t\n}}\n"
        );
        for form in ["chunked_scan", "recurrent_scan"] {
            agrees(&text, tokens, form, &mut random);
        }
    }
}

#[test]
fn scans_with_a_decay_for_every_state() {
    let mut random = Random(6);
    for (n, tokens) in LENGTHS.into_iter().enumerate() {
        let dtype = ["f32", "bf16", "f32", "f64"][n % 4];
        let [batch, groups] = [["", ""], ["4, ", "2, "], ["2, 3, ", "2, 1, "]][n % 3];
        let (r, p) = (1 + n % 6, random.one_of(&[1, 3, 65]));
        let (a, last) = (if dtype == "f64" { "f64" } else { "f32" }, if n % 4 == 2 { 1 } else { r });
        let text = format!(
            "dim T = 0..600\nfunc @main(%q: {dtype}[{batch}T, {r}], %k: {dtype}[{groups}T, {r}], \
             %v: {dtype}[{batch}T, {p}], %a: {a}[{groups}T, {last}]) -> {dtype}[{batch}T, {p}] {{\n  \
             %y = gated_linear_attention %q, %k, %v, %a\n  return %y\n}}\n"
        );
        for form in ["chunked_scan", "recurrent_scan"] {
            agrees(&text, tokens, form, &mut random);
        }
    }
}

#[test]
fn long_scans_keep_their_precision() {
    let mut random = Random(7);
    for decays in ["T", "T, 8"] {
        let text = format!(
            "dim T = 0..9000\nfunc @main(%q: f32[T, 8], %k: f32[T, 8], %v: f32[T, 4], %a: f32[{decays}]) -> f32[T, 4] \
             {{\n  %y = gated_linear_attention %q, %k, %v, %a\n  return %y\n}}\n"
        );
        for form in ["chunked_scan", "parallel_scan"] {
            agrees(&text, 2051, form, &mut random);
        }
    }
}

#[test]
fn parts_of_the_tokens_at_once() {
    let mut random = Random(13);
    for (n, tokens) in [0, 1, 255, 256, 257, 513, 700].into_iter().enumerate() {
        let dtype = ["f32", "bf16", "f32", "f64"][n % 4];
        let [batch, groups] = [["", ""], ["4, ", "2, "], ["2, 3, ", "2, 1, "]][n % 3];
        let beside = if dtype == "f64" { "f64" } else { "f32" };
        let decays = ["", ", 6", ", 1"][n % 3];
        let text = format!(
            "dim T = 0..900\nfunc @main(%q: {dtype}[{batch}T, 6], %k: {dtype}[{groups}T, 6], %v: {dtype}[{batch}T, 67], \
             %a: {beside}[{groups}T{decays}]) -> ({dtype}[{batch}T, 67], {dtype}[{batch}T, 67]) {{\n  \
             %y = gated_linear_attention %q, %k, %v, %a\n  %s = semiseparable %q, %k, %a\n  %t = transpose %s\n  \
             %z = apply %t, %v\n  return %y, %z\n}}\n"
        );
        agrees(&text, tokens, "parallel_scan", &mut random);
    }
}

#[test]
fn the_delta_rule_in_chunks() {
    let mut random = Random(8);
    for (n, tokens) in LENGTHS.into_iter().enumerate() {
        let dtype = ["f32", "bf16", "f32", "f64", "f16"][n % 5];
        let [batch, groups] = [["", ""], ["4, ", "2, "], ["2, 3, ", "2, 1, "]][n % 3];
        let (r, p) = (2 + n % 6, random.one_of(&[1, 3, 65]));
        let beside = if dtype == "f64" { "f64" } else { "f32" };
        let (decays, operand) = match n % 3 {
            0 => (String::new(), "_"),
            1 => (format!(", %a: {beside}[{batch}T]"), "%a"),
            _ => (format!(", %a: {beside}[{groups}T, {r}]"), "%a"),
        };
        let text = format!(
            "dim T = 0..600\nfunc @main(%q: {dtype}[{groups}T, {r}], %k: {dtype}[{groups}T, {r}], \
             %v: {dtype}[{batch}T, {p}], %beta: {beside}[{batch}T], %s: {beside}[{batch}{r}, {p}]{decays}) -> \
             ({dtype}[{batch}T, {p}], {beside}[{batch}{r}, {p}]) {{\n  \
             %y, %t = delta_rule %q, %k, %v, %beta, {operand}, %s {{state}}\n  return %y, %t\n}}\n"
        );
        for form in ["triangular_inverse.chunks", "triangular_inverse.substitution"] {
            agrees(&text, tokens, form, &mut random);
        }
    }
}

#[test]
fn diagonals_and_the_other_direction() {
    let mut random = Random(9);
    let operators = [
        "  %m = mask %s {right = -1}\n",
        "  %o = diagonal %d\n  %m = sum %o, %s\n",
        "  %o = mask %s {right = -1}\n  %m = add_diagonal %o, %d\n",
        "  %o = mask %s {causal}\n  %p = identity : mix f32[T, T]\n  %m = sum %o, %p\n",
        "  %m = transpose %s\n",
        "  %o = mask %s {right = -1}\n  %p = add_diagonal %o, %d\n  %m = transpose %p\n",
        "  %o = transpose %s\n  %m = add_diagonal %o, %d\n",
        "  %o = transpose %s\n  %m = transpose %o\n",
        // Not scans any more: made as a matrix.
        "  %o = transpose %s\n  %m = mask %o {right = 2}\n",
    ];
    for (n, operator) in operators.iter().enumerate() {
        for (tokens, a) in [(1, "T"), (17, "T, 4"), (70, "T"), (41, "T, 4"), (33, "T, 1")] {
            let text = format!(
                "dim T = 0..600\nfunc @main(%q: f32[2, T, 4], %k: f32[2, T, 4], %v: f32[2, T, 3], %a: f32[2, {a}], \
                 %d: f32[2, T]) -> f32[2, T, 3] {{\n  %s = semiseparable %q, %k, %a\n{operator}  %y = apply %m, %v\n  \
                 return %y\n}}\n"
            );
            let form = if n + 1 == operators.len() { "dense" } else { "chunked_scan" };
            agrees(&text, tokens, form, &mut random);
            if operator.contains("transpose") && !operator.contains("%d") && form != "dense" {
                agrees(&text, tokens, "recurrent_scan", &mut random);
            }
        }
    }
}

#[test]
fn softmax_of_rows_columns_and_distances() {
    let mut random = Random(10);
    // RWKV: decays w of a channel, a bonus d for the token itself.
    let operators = [
        "  %p = mask %e {causal}\n",
        "  %s = alibi %e, %w\n  %p = mask %s {causal}\n",
        "  %s = alibi %e, %w\n  %c = mask %s {causal}\n  %p = add_diagonal %c, %d\n",
        "  %c = mask %e {right = -1}\n  %s = alibi %c, %w\n  %p = scale_by %s {by = 2.5}\n",
        "  %c = mask %e {right = -1}\n  %s = alibi %c, %w\n  %j = add %u, %k\n  %p = add_diagonal %s, %j\n",
        "  %c = mask %e {causal}\n  %s = alibi %c, %w\n  %p = scale_by %s, %w\n",
        // What rows share below the diagonal does not stand on it.
        "  %c = mask %e {right = -1}\n  %p = add_diagonal %c, %k\n",
        // Steeper and steeper, and growing with the distance.
        "  %s0 = alibi %e, %w\n  %s1 = alibi %s0, %far\n  %p = mask %s1 {causal}\n",
        "  %n = neg %w\n  %s = alibi %e, %n\n  %p = mask %s {causal}\n",
    ];
    for (n, operator) in operators.iter().enumerate() {
        for (tokens, channelwise) in [(1, true), (17, false), (130, true), (131, false), (33, true)] {
            let dtype = ["f32", "bf16", "f32", "f64"][(n + tokens) % 4];
            let beside = if dtype == "f64" { "f64" } else { "f32" };
            let (batch, flag, x) = match channelwise {
                true => ("2, 5, ", " {channelwise}", "2, T, 5"),
                false => ("2, 3, ", "", "2, 3, T, 4"),
            };
            let text = format!(
                "dim T = 0..600\nfunc @main(%u: {beside}[{batch}T], %k: {beside}[{batch}T], %d: {beside}[{batch}T], \
                 %w: {beside}[{heads}], %far: {beside}[{heads}], %v: {dtype}[{x}]) -> {dtype}[{x}] {{\n  \
                 %e = outer_sum %u, %k\n{operator}  %m = softmax %p\n  %y = apply %m, %v{flag}\n  return %y\n}}\n",
                heads = batch.split(", ").nth(1).unwrap(),
            );
            agrees(&text, tokens, "recurrent_scan", &mut random);
        }
    }
}

#[test]
fn other_softmaxes_are_no_scans() {
    let mut random = Random(11);
    for operator in [
        "  %p = mask %e {causal, window = 5}\n",
        "  %c = mask %e {causal}\n  %p = soft_cap %c {cap = 2.0}\n",
        "  %g = gram %v, %v\n  %c = times %e, %g\n  %p = mask %c {causal}\n",
        "  %p = mask %e {right = 1}\n",
    ] {
        let text = format!(
            "dim T = 0..600\nfunc @main(%u: f32[T], %k: f32[T], %v: f32[T, 4]) -> f32[T, 4] {{\n  \
             %e = outer_sum %u, %k\n{operator}  %m = softmax %p\n  %y = apply %m, %v\n  return %y\n}}\n"
        );
        let program = mixc_ir::verify::check(&text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
        let values = program.dims.iter().map(|d| (d.name.clone(), 37)).collect();
        assert!(!has(&lowered(&program, &values, "recurrent_scan"), "recurrent_scan"), "{text}");
        agrees(&text, 37, "flash", &mut random);
    }
}
