//! What a machine can do at most, as numbers: peaks of one thread, and sizes and bandwidths of its memories. The cost
//! model and the choice of forms read it; nothing here is measured at run time. A thread is what takes one grid point
//! after the other: on a CPU a thread of the caller's, on a GPU a resident block of threads.

/// A level of the memory hierarchy.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Name, for reports.
    pub name: &'static str,
    /// Bytes it holds for one thread; of main memory, the most there can be.
    pub bytes: u64,
    /// Bytes a second that one thread reads from it.
    pub bandwidth: f64,
    /// Bytes a second that all threads together read from it; of levels that each core has to itself, infinite.
    pub shared_bandwidth: f64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Name, for reports.
    pub name: String,
    /// Memories, fastest first; the last one holds everything.
    pub levels: Vec<Level>,
    /// Multiply-adds in f32, as two operations each, a second and thread.
    pub fma: f64,
    /// The same with bf16 factors and f32 sums, by the instructions that kernels use.
    pub fma_bf16: f64,
    /// Exponentials and other functions of that cost (divisions, roots) in f32 a second and thread.
    pub special: f64,
    /// Other elementwise operations in f32 a second and thread.
    pub other: f64,
    /// Elements a second and thread that are computed one by one, because integers in them are no linear functions of
    /// the position: quotients and remainders in indices and conditions.
    pub scalar: f64,
    /// Seconds to start a tile operation: a call, loop set-up and edges.
    pub step: f64,
    /// Seconds to hand a program to the threads and wait for the last.
    pub launch: f64,
    /// f32 lanes of a vector.
    pub lanes: usize,
    /// Threads that it may run at once.
    pub threads: usize,
    /// Threads that it runs at least: one on a CPU, where the caller decides, all on a GPU.
    pub fewest_threads: usize,
}

/// The figures of a GPU's data sheet; peaks and bandwidths (bytes, bytes a second) of the whole device.
struct Gpu {
    name: &'static str,
    multiprocessors: usize,
    clock: f64,
    fma: f64,
    fma_bf16: f64,
    shared_memory: u64,
    l2: (u64, f64),
    memory: (u64, f64),
}

/// 2^30.
const GIBI: u64 = 1 << 30;

impl Machine {
    /// A core of AMD Zen 4 (EPYC, about 3.65 GHz) with two threads, measured: FMA peak 117 GFLOP/s in 256- and 512-bit
    /// vectors alike (512-bit operations take two passes); a vector exp 9 Gelem/s; reads of 212, 110, 93 and 30 GB/s from
    /// L1, L2, L3 and memory, two threads 33 from memory.
    pub fn zen4() -> Machine {
        let level = |name, bytes, bandwidth, shared_bandwidth| Level { name, bytes, bandwidth, shared_bandwidth };
        Machine {
            name: "zen4".into(),
            levels: vec![
                level("L1", 32 << 10, 212e9, f64::INFINITY),
                level("L2", 1 << 20, 110e9, f64::INFINITY),
                // Two threads measure 1.85 times one: scaled to the eight cores of a complex this is no limit.
                level("L3", 32 << 20, 93e9, f64::INFINITY),
                level("memory", 1024 * GIBI, 30e9, 33e9),
            ],
            fma: 117e9,
            // Kernels widen halves and multiply in f32; `vdpbf16ps` would have twice the rate.
            fma_bf16: 117e9,
            special: 9e9,
            // Half the flops of the FMA peak: one operation where an FMA counts two.
            other: 58.5e9,
            // Measured 1.1 ns an element under a map of blocks, 5 to 7 ns with 28 to 56 quotients: signs of Walsh-Hadamard
            // matrices, elements of Monarch matrices.
            scalar: 1e9,
            // About 35 cycles.
            step: 1e-8,
            // A spinning pool, measured below a microsecond.
            launch: 5e-7,
            lanes: 16,
            threads: 2,
            fewest_threads: 1,
        }
    }

    /// NVIDIA H100 SXM by its data sheet (f32 67, dense bf16 989 TFLOP/s, 50 MB of L2, 3.35 TB/s), a guess of L2's bandwidth, and the throughputs of
    /// compute capability 9.0 in the CUDA programming guide; not measured.
    pub fn h100() -> Machine {
        Machine::nvidia(Gpu {
            name: "h100",
            multiprocessors: 132,
            clock: 1.755e9,
            fma: 67e12,
            fma_bf16: 989e12,
            shared_memory: 228 << 10,
            l2: (50 << 20, 5.5e12),
            memory: (80 * GIBI, 3.35e12),
        })
    }

    /// NVIDIA A100 SXM by its data sheet (f32 19.5, dense bf16 312 TFLOP/s, 40 MB of L2, 2.04 TB/s) and a guess of L2's bandwidth; not measured.
    pub fn a100() -> Machine {
        Machine::nvidia(Gpu {
            name: "a100",
            multiprocessors: 108,
            clock: 1.41e9,
            fma: 19.5e12,
            fma_bf16: 312e12,
            shared_memory: 164 << 10,
            l2: (40 << 20, 4.5e12),
            memory: (80 * GIBI, 2.04e12),
        })
    }

    /// Four resident blocks of 128 threads a multiprocessor, one for each of its schedulers: a block has a quarter of it.
    fn nvidia(gpu: Gpu) -> Machine {
        let blocks = 4 * gpu.multiprocessors;
        let share = |of_all: f64| of_all / blocks as f64;
        let level = |name, bytes, bandwidth, shared_bandwidth| Level { name, bytes, bandwidth, shared_bandwidth };
        // 64 bytes a cycle and multiprocessor between it and L2.
        let past_l1 = 16.0 * gpu.clock;
        Machine {
            name: gpu.name.into(),
            levels: vec![
                // 128 bytes a cycle and multiprocessor.
                level("shared", gpu.shared_memory / 4, 32.0 * gpu.clock, f64::INFINITY),
                level("L2", gpu.l2.0, past_l1, gpu.l2.1),
                level("memory", gpu.memory.0, past_l1, gpu.memory.1),
            ],
            fma: share(gpu.fma),
            fma_bf16: share(gpu.fma_bf16),
            // 16 results a cycle and multiprocessor.
            special: 4.0 * gpu.clock,
            other: share(gpu.fma) / 2.0,
            // 64 integer operations a cycle and multiprocessor, and some 20 of them for a quotient.
            scalar: 16.0 / 20.0 * gpu.clock,
            // A barrier and the start of a loop, some 50 cycles; reckoned.
            step: 50.0 / gpu.clock,
            // A kernel's launch in a stream, as commonly measured.
            launch: 3e-6,
            lanes: 32,
            threads: blocks,
            fewest_threads: blocks,
        }
    }

    /// A CPU that was not measured: the shape of [`zen4`](Machine::zen4) with compute scaled by its vectors (`bits`
    /// wide; two FMA pipes of at most 256 bits, or without FMA a multiplication and an addition for each) and its own
    /// cache sizes in bytes where they are known.
    pub fn cpu(name: &str, bits: usize, fma: bool, caches: [Option<u64>; 3], threads: usize) -> Machine {
        let mut machine = Machine::zen4();
        let scale = bits.min(256) as f64 / 256.0;
        machine.name = name.into();
        machine.lanes = (bits / 32).max(1);
        machine.threads = threads.max(1);
        machine.fma *= if fma { scale } else { scale / 2.0 };
        machine.fma_bf16 = machine.fma;
        machine.special *= if fma { scale } else { scale / 2.0 };
        machine.other *= scale;
        for (level, bytes) in machine.levels.iter_mut().zip(caches) {
            if let Some(bytes) = bytes.filter(|&n| n > 0) {
                level.bytes = bytes;
            }
        }
        machine
    }

    /// The first level that holds `bytes`.
    pub fn level_for(&self, bytes: u64) -> Option<&Level> {
        self.levels.iter().find(|l| bytes <= l.bytes).or(self.levels.last())
    }

    /// Bytes a second that `threads` threads together read from a level.
    pub fn bandwidth(level: &Level, threads: usize) -> f64 {
        (level.bandwidth * threads.max(1) as f64).min(level.shared_bandwidth.max(level.bandwidth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrower_machines_are_slower_and_memory_is_shared() {
        let (wide, narrow) = (Machine::zen4(), Machine::cpu("x86-64", 128, false, [None, Some(256 << 10), None], 4));
        assert!(narrow.fma < wide.fma / 3.0 && narrow.threads == 4 && narrow.lanes == 4);
        assert_eq!(narrow.levels[1].bytes, 256 << 10);
        assert_eq!(Machine::bandwidth(&wide.levels[3], 2), 33e9);
        assert_eq!(Machine::bandwidth(&wide.levels[0], 2), 424e9);
        assert_eq!(wide.level_for(100 << 10).map(|l| l.name), Some("L2"));
        assert_eq!(wide.level_for(u64::MAX).map(|l| l.name), Some("memory"));
    }

    #[test]
    fn blocks_of_a_gpu_make_up_the_device() {
        for (gpu, fma, memory) in [(Machine::h100(), 67e12, 3.35e12), (Machine::a100(), 19.5e12, 2.04e12)] {
            assert!((gpu.fma * gpu.threads as f64 / fma - 1.0).abs() < 1e-9);
            assert_eq!(Machine::bandwidth(&gpu.levels[2], gpu.threads), memory);
            assert!(Machine::bandwidth(&gpu.levels[2], 1) < memory / 50.0, "one block does not fill the memory's bus");
        }
    }
}
