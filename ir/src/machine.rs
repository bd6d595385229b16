//! What a machine can do at most, as numbers: peaks of one thread, and sizes and bandwidths of its memories. The cost
//! model and the choice of tile sizes read it; nothing here is measured at run time.

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
    /// The same with bf16 factors and f32 sums.
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
    /// Cores.
    pub threads: usize,
}

/// 2^30.
const GIBI: u64 = 1 << 30;

impl Machine {
    /// A core of AMD Zen 4 (EPYC, about 3.65 GHz) with two threads, measured: FMA peak 117 GFLOP/s in 256- and 512-bit
    /// vectors alike (512-bit operations take two passes), twice that by `vdpbf16ps`; a vector exp 9 Gelem/s; reads of
    /// 212, 110, 93 and 30 GB/s from L1, L2, L3 and memory, two threads 33 from memory.
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
            fma_bf16: 234e9,
            special: 9e9,
            // Half the flops of the FMA peak: one operation where an FMA counts two.
            other: 58.5e9,
            // Measured 4 to 6 ns an element: signs of Walsh-Hadamard matrices, elements of Monarch matrices.
            scalar: 2e8,
            // About 35 cycles.
            step: 1e-8,
            // A spinning pool, measured below a microsecond.
            launch: 5e-7,
            lanes: 16,
            threads: 2,
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
}
