//! The race check against its meaning: random scripts of accesses and barriers, judged pair by pair.

use super::super::error::CudaError;
use super::harness::{Argument, Program, Random, bytes_of, emulator, program, run};

const THREADS: usize = 64;
const STEPS: usize = 6;
/// Bytes of shared memory that scripts touch.
const BYTES: usize = 64;

/// What one thread does in one step.
#[derive(Clone, Copy)]
struct Access {
    /// 1, 2, 4 or 8 bytes; 0 for no access.
    size: usize,
    /// In elements of that size.
    index: usize,
    write: bool,
}

/// After each step and for each warp: nothing, the warp's barrier, or the block's (then in both).
#[derive(Clone, Copy, PartialEq)]
enum Sync {
    None,
    Warp,
    Block,
}

/// Plays a script: a word of each thread and step is size + 16 index + 4096 write, a word of each warp and step its barrier.
fn player() -> Program {
    let text = format!(
        "MX_KERNEL(player, {THREADS})(const mx_i64 *accesses, const mx_i64 *syncs, mx_i64 *out, mx_i64 steps) {{
  MX_GLOBAL(const mx_i64, ga, accesses);
  MX_GLOBAL(const mx_i64, gs, syncs);
  MX_GLOBAL(mx_i64, go, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(mx_bool, bytes, memory, 0, {BYTES});
  MX_SHARED(mx_bf16, halves, memory, 0, {BYTES} / 2);
  MX_SHARED(float, words, memory, 0, {BYTES} / 4);
  MX_SHARED(mx_i64, longs, memory, 0, {BYTES} / 8);
  mx_i64 sum = 0;
  for (mx_i64 s = 0; s < steps; s++) {{
    const mx_i64 access = ga[s * {THREADS} + mx_thread()], size = access % 16, index = access / 16 % 256;
    if (access >= 4096) {{
      if (size == 1) bytes[index] = 1;
      if (size == 2) halves[index] = mx_to_bf16(1.0f);
      if (size == 4) words[index] = 1.0f;
      if (size == 8) longs[index] = 1;
    }} else {{
      if (size == 1) sum += bytes[index];
      if (size == 2) sum += mx_to_float(halves[index]) != 0.0f;
      if (size == 4) sum += words[index] != 0.0f;
      if (size == 8) sum += longs[index];
    }}
    const mx_i64 sync = gs[s * {} + mx_warp()];
    if (sync == 1) mx_warp_barrier();
    if (sync == 2) mx_barrier();
  }}
  go[mx_thread()] = sum;
}}
",
        THREADS / 32
    );
    program("player", THREADS as u32, BYTES as u32, 4, 1, &text)
}

/// Whether two accesses of one place are without an order: by the definition, over all pairs.
fn has_race(accesses: &[Vec<Access>], syncs: &[[Sync; THREADS / 32]]) -> bool {
    let range = |a: Access| (a.index * a.size, a.index * a.size + a.size);
    let ordered = |t: usize, u: usize, from: usize, to: usize| {
        t == u
            || (from..to).any(|s| syncs[s][0] == Sync::Block)
            || t / 32 == u / 32 && (from..to).any(|s| syncs[s][t / 32] == Sync::Warp)
    };
    let all: Vec<(usize, usize, Access)> = (0..accesses.len())
        .flat_map(|s| (0..THREADS).map(move |t| (s, t)))
        .map(|(s, t)| (s, t, accesses[s][t]))
        .filter(|(_, _, a)| a.size > 0)
        .collect();
    all.iter().enumerate().any(|(k, (s, t, a))| {
        all[k + 1..].iter().any(|(later, u, b)| {
            let ((start, end), (other_start, other_end)) = (range(*a), range(*b));
            (a.write || b.write) && start < other_end && other_start < end && !ordered(*t, *u, *s, *later)
        })
    })
}

#[test]
fn the_check_agrees_with_the_definition_of_a_race() {
    let mut random = Random(6);
    let (mut races, mut clean) = (0, 0);
    for script in 0..2000 {
        let Some(device) = emulator(script % 4) else { return };
        let mut below = |n: usize| (random.bits() % n as u64) as usize;
        let steps = 1 + below(STEPS);
        // Few accesses, or few writes: else every script has a race.
        let (one_in, writes_in) = [(24, 3), (8, 40), (2, 400), (48, 2), (20, 8)][below(5)];
        // Sometimes few threads in few places, which then meet the same place again and again.
        let (spread, active, bytes) = [(1, 64, BYTES), (8, 64, 8), (16, 64, 8), (16, 32, 8), (8, 32, 8)][below(5)];
        let one_in = usize::max(one_in / spread, 1);
        let mut access = |thread: usize| {
            let size = [1, 2, 4, 8][below(4)];
            let size = if thread < active && thread.is_multiple_of(spread) && below(one_in) == 0 { size } else { 0 };
            Access { size, index: below(bytes / size.max(1)), write: below(writes_in) == 0 }
        };
        let accesses: Vec<Vec<Access>> = (0..steps).map(|_| (0..THREADS).map(&mut access).collect()).collect();
        let mut warp = || if below(3) == 0 { Sync::Warp } else { Sync::None };
        let mut syncs: Vec<[Sync; 2]> = (0..steps).map(|_| [warp(), warp()]).collect();
        for sync in &mut syncs {
            if below(3) == 0 {
                *sync = [Sync::Block; 2];
            }
        }
        let word = |a: &Access| (a.size + 16 * a.index + 4096 * usize::from(a.write)) as i64;
        let words: Vec<i64> = accesses.iter().flatten().map(word).collect();
        let barriers: Vec<i64> = syncs.iter().flatten().map(|s| *s as i64).collect();
        let arguments = [
            Argument::In(&bytes_of(&words, i64::to_le_bytes)),
            Argument::In(&bytes_of(&barriers, i64::to_le_bytes)),
            Argument::Out(8 * THREADS),
            Argument::Number(steps as i64),
        ];
        let result = run(&device, &player(), &arguments);
        if has_race(&accesses, &syncs) {
            races += 1;
            assert!(
                matches!(&result, Err(CudaError::Launch(why)) if why.contains("race")),
                "script {script}: {result:?}"
            );
        } else {
            clean += 1;
            assert!(result.is_ok(), "script {script}: {result:?}");
        }
    }
    assert!(races > 500 && clean > 500, "{races} scripts with a race, {clean} without");
}
