//! How the tests run programs: text, inputs as bytes, outputs as bytes.

use super::super::device::Device;
use super::super::error::CudaError;
use super::super::kernel::Kernel;

/// The emulator, or nothing where this machine has no g++ or the tests are for its GPU.
pub(super) fn emulator(order: u32) -> Option<Device> {
    if std::env::var_os("MIXC_TEST_GPU").is_some() {
        println!("skipped: the GPU is tested");
        return None;
    }
    match Device::emulated_in_order(order) {
        Ok(device) => Some(device),
        Err(CudaError::NoCompiler(why)) => {
            println!("skipped: {why}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// Where right programs run: the emulator, or this machine's GPU where `MIXC_TEST_GPU` is set. A GPU has one order only.
pub(super) fn device(order: u32) -> Option<Device> {
    match std::env::var_os("MIXC_TEST_GPU") {
        None => emulator(order),
        Some(_) if order == 0 => Some(Device::open().unwrap_or_else(|e| panic!("{e}"))),
        Some(_) => None,
    }
}

/// A program with one kernel.
pub(super) struct Program {
    pub(super) text: String,
    pub(super) kernel: Kernel,
    pub(super) blocks: u32,
}

/// An argument of a kernel.
pub(super) enum Argument<'a> {
    /// Memory with these bytes.
    In(&'a [u8]),
    /// Memory of this many bytes, given back.
    Out(usize),
    /// A number.
    Number(i64),
}

pub(super) fn program(name: &str, threads: u32, shared_bytes: u32, words: usize, blocks: u32, text: &str) -> Program {
    let kernel = Kernel { name: name.to_string(), threads, shared_bytes, words };
    Program { text: text.to_string(), kernel, blocks }
}

/// Runs the program once; the bytes of its `Out` arguments in order.
pub(super) fn run(device: &Device, program: &Program, arguments: &[Argument]) -> Result<Vec<Vec<u8>>, CudaError> {
    let module = device.load(&program.text, std::slice::from_ref(&program.kernel))?;
    let mut memories = Vec::new();
    let mut words = Vec::new();
    let mut outputs = Vec::new();
    for argument in arguments {
        let memory = match argument {
            Argument::In(bytes) => {
                let memory = device.allocate(bytes.len())?;
                device.upload(&memory, 0, bytes)?;
                memory
            }
            Argument::Out(bytes) => {
                outputs.push(memories.len());
                device.allocate(*bytes)?
            }
            Argument::Number(n) => {
                words.push(*n as u64);
                continue;
            }
        };
        words.push(memory.address());
        memories.push(memory);
    }
    device.launch(&module, 0, program.blocks, &words)?;
    device.synchronize()?;
    let mut results = Vec::new();
    for k in outputs {
        let mut bytes = vec![0; memories[k].bytes()];
        device.download(&memories[k], 0, &mut bytes)?;
        results.push(bytes);
    }
    Ok(results)
}

pub(super) fn bytes_of<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|v| to_bytes(*v)).collect()
}

pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    bytes_of(values, f32::to_le_bytes)
}

pub(super) fn values_of<T, const N: usize>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|c| from_bytes(c.try_into().unwrap())).collect()
}

pub(super) fn f32_values(bytes: &[u8]) -> Vec<f32> {
    values_of(bytes, f32::from_le_bytes)
}

/// A small deterministic generator (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    pub(super) fn real(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
