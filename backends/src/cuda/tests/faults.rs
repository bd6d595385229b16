//! Programs that are wrong, each in one way, and what the emulator says of them.

use super::super::error::CudaError;
use super::harness::{Argument, emulator, f32_values, program, run};

/// Runs the body of a kernel of two warps on two blocks, with 64 numbers of global memory a block, in each order. `part` is
/// the block's own.
fn outcome(body: &str, order: u32) -> Option<Result<Vec<f32>, CudaError>> {
    let device = emulator(order)?;
    let text = format!(
        "MX_KERNEL(wrong, 64)(float *out, float *other, mx_i64 zero) {{
  MX_GLOBAL(float, go, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(float, tile, memory, 0, 64);
  MX_SHARED(mx_bool, flags, memory, 256, 64);
  MX_SCRATCH(float, scratch, other, mx_block() * 256, 64);
  const mx_i64 t = mx_thread(), at = mx_block() * 64 + t;
{body}
}}
"
    );
    let arguments = [Argument::Out(512), Argument::Out(512), Argument::Number(0)];
    Some(run(&device, &program("wrong", 64, 320, 3, 2, &text), &arguments).map(|got| f32_values(&got[0])))
}

/// The emulator's report holds all of `words` in every order of threads.
#[track_caller]
fn is_caught(body: &str, words: &[&str]) {
    for order in 0..4 {
        let Some(result) = outcome(body, order) else { return };
        let Err(CudaError::Launch(report)) = result else { panic!("not caught in order {order}: {result:?}\n{body}") };
        for word in words.iter().chain(&["kernel wrong", "block"]) {
            assert!(report.contains(word), "order {order}: no `{word}` in: {report}");
        }
    }
}

#[track_caller]
fn is_right(body: &str, expected: impl Fn(usize) -> f32) {
    for order in 0..4 {
        let Some(result) = outcome(body, order) else { return };
        let got = result.unwrap_or_else(|e| panic!("order {order}: {e}\n{body}"));
        assert_eq!(got, (0..128).map(&expected).collect::<Vec<f32>>(), "order {order}\n{body}");
    }
}

#[test]
fn a_missing_barrier_is_a_race() {
    let across = |barrier: &str| format!("  tile[t] = t;\n  {barrier}\n  go[at] = tile[63 - t];");
    is_right(&across("mx_barrier();"), |k| (63 - k % 64) as f32);
    is_caught(&across(""), &["race", "shared memory"]);
    is_caught(&across("mx_warp_barrier();"), &["race", "shared memory"]);
    // Writes after reads.
    is_caught("  tile[t] = t;\n  mx_barrier();\n  go[at] = tile[63 - t];\n  tile[t] = 1.0f;", &["race"]);
    is_caught("  tile[zero] = t;\n  go[at] = 0.0f;", &["race", "writes", "wrote"]);
}

#[test]
fn a_warp_barrier_orders_its_warp() {
    let within = |barrier: &str| format!("  tile[t] = t;\n  {barrier}\n  go[at] = tile[t ^ 1];");
    is_right(&within("mx_warp_barrier();"), |k| ((k % 64) ^ 1) as f32);
    is_caught(&within(""), &["race"]);
    // Shuffles bring lanes together but order no memory.
    is_caught(&within("mx_shuffle_xor(1.0f, 1);"), &["race"]);
    // Many lanes read one place, which one of them writes later.
    let many = |barrier: &str| {
        format!(
            "  if (t == 5) tile[5] = 3.0f;\n  mx_barrier();\n  go[at] = t < 32 ? tile[5] : 3.0f;\n  {barrier}\n  if (t == 6) tile[5] = 1.0f;"
        )
    };
    is_right(&many("mx_warp_barrier();"), |_| 3.0);
    is_caught(&many(""), &["race", "after thread", "read"]);
}

#[test]
fn parts_of_a_word_are_told_apart() {
    // Neighbouring bytes belong to different threads: no race.
    is_right("  flags[t] = t & 1;\n  mx_barrier();\n  go[at] = flags[63 - t];", |k| ((63 - k % 64) & 1) as f32);
    is_caught("  flags[t / 2] = 1;\n  go[at] = 1.0f;", &["race"]);
    // Bytes and the word around them.
    let both = |barrier: &str| {
        format!(
            "  MX_SHARED(mx_u32, words, memory, 256, 16);\n  flags[t] = 1;\n  {barrier}\n  go[at] = words[t / 4] & 1;"
        )
    };
    is_right(&both("mx_barrier();"), |_| 1.0);
    is_caught(&both(""), &["race"]);
    let reversed = |barrier: &str| {
        format!(
            "  MX_SHARED(mx_u32, words, memory, 256, 16);\n  if (t < 16) words[t] = 257;\n  {barrier}\n  go[at] = flags[t];"
        )
    };
    is_right(&reversed("mx_barrier();"), |k| if k % 4 < 2 { 1.0 } else { 0.0 });
    is_caught(&reversed(""), &["race"]);
}

#[test]
fn scratch_memory_is_checked_as_shared_memory() {
    let across = |barrier: &str| format!("  scratch[t] = t;\n  {barrier}\n  go[at] = scratch[63 - t];");
    is_right(&across("mx_barrier();"), |k| (63 - k % 64) as f32);
    is_caught(&across(""), &["race", "allocation"]);
    is_caught("  scratch[t + 1] = 1.0f;", &["out of bounds: scratch[64] of 64 elements in scratch memory"]);
    is_caught(
        "  MX_SCRATCH(float, more, other, 256, 65);\n  more[t] = 1.0f;",
        &["out of bounds: more", "does not fit"],
    );
    // The scratch memory of the other block.
    is_caught(
        "  MX_SCRATCH(float, same, other, 0, 64);\n  same[t] = 1.0f;\n  go[at] = 0.0f;",
        &["race between blocks"],
    );
}

#[test]
fn global_memory_is_checked() {
    is_caught("  go[at + 1] = 1.0f;", &["out of bounds: go[128] of 128 elements in global memory"]);
    is_caught("  go[at] = go[at - 1 - t];", &["out of bounds: go[-1]", "block 0"]);
    is_caught("  go[t] = 1.0f;", &["race between blocks", "wrote"]);
    is_caught("  go[at] = go[127 - at];", &["race"]);
    is_caught("  go[mx_block() * 64 + (t ^ 1)] = go[at];", &["race"]);
    is_caught(
        "  MX_GLOBAL_SIZED(float, few, out, 100);\n  few[at] = 1.0f;",
        &["out of bounds: few[", "of 100 elements"],
    );
    is_caught("  MX_GLOBAL_SIZED(float, many, out, 129);", &["out of bounds: many", "does not fit"]);
    is_caught("  MX_GLOBAL(float, nowhere, (float *)8);\n  nowhere[t] = 1.0f;", &["out of bounds: nowhere"]);
    // What is declared constant is not written.
    is_caught(
        "  MX_GLOBAL(const float, constant, out);\n  go[at] = 1.0f;\n  mx_barrier();\n  go[at] = constant[at];",
        &["pointer to constants"],
    );
    is_right("  go[at] = 1.0f;\n  go[at] += 2.0f;", |_| 3.0);
}

#[test]
fn shared_memory_has_bounds() {
    is_caught("  go[at] = tile[t + 1];", &["out of bounds: tile[64] of 64 elements in shared memory"]);
    is_caught("  tile[-t] = 1.0f;", &["out of bounds: tile[-"]);
    is_caught(
        "  MX_SHARED(float, more, memory, 128, 64);\n  go[at] = more[0];",
        &["more", "320 bytes of shared memory"],
    );
    is_caught("  MX_SHARED(float, odd, memory, 2, 1);\n  go[at] = odd[0];", &["odd", "is not aligned"]);
    is_caught("  mx_u32 r[4];\n  mx_ldmatrix4(r, tile, t * 4);", &["out of bounds: tile["]);
    is_caught("  mx_u32 r[4];\n  mx_ldmatrix4(r, tile, t % 2 + 1);", &["ldmatrix", "multiple of 16"]);
    is_caught("  mx_copy16_async(tile, t % 8 + 1, go, at % 8, true);", &["multiple of 16"]);
}

#[test]
fn what_nobody_wrote_is_not_a_number() {
    for order in 0..4 {
        let Some(result) = outcome("  go[at] = tile[t];", order) else { return };
        assert!(result.unwrap().iter().all(|x| x.is_nan()));
    }
}

#[test]
fn barriers_are_for_all() {
    is_caught("  if (t < 40) mx_barrier();\n  go[at] = 0.0f;", &["barrier not reached by all"]);
    is_caught("  if (t == 3) return;\n  mx_barrier();\n  go[at] = 0.0f;", &["barrier not reached by all"]);
}

#[test]
fn warps_stay_together() {
    is_caught("  if (t < 16) go[at] = mx_shuffle_xor(1.0f, 1);", &["warp divergence", "returned", "shuffle_xor"]);
    is_caught(
        "  if (t < 16) mx_shuffle_xor(1.0f, 1);\n  else mx_shuffle_down(1.0f, 1);",
        &["warp divergence", "shuffle_down"],
    );
    is_caught(
        "  if (t < 16) mx_warp_barrier();\n  mx_barrier();",
        &["warp divergence", "16 of 32 lanes of warp 0", "deadlock"],
    );
    is_caught("  if (t == 0) return;\n  mx_shuffle(1.0f, 0);", &["warp divergence", "returned"]);
}

#[test]
fn reports_name_the_place() {
    // The body starts in line 8 of the text.
    is_caught(
        "  go[at] = 0.0f;\n  if (t == 7)\n    go[at] = tile[t + 100];",
        &["block 0, thread 7, line 10: out of bounds"],
    );
}

#[test]
fn the_first_block_that_fails_is_reported() {
    for _ in 0..20 {
        let Some(result) = outcome("  if (t == 9) go[at] = tile[64];", 0) else { return };
        let report = result.unwrap_err().to_string();
        assert!(report.contains("block 0, thread 9"), "{report}");
    }
}
