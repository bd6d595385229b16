//! A program of two kernels from text to results.

use super::super::device::Device;
use super::super::error::CudaError;
use super::super::kernel::Kernel;

/// The emulator, or nothing where this machine has no g++.
pub(super) fn emulator(order: u32) -> Option<Device> {
    match Device::emulated_in_order(order) {
        Ok(device) => Some(device),
        Err(CudaError::NoCompiler(why)) => {
            println!("skipped: {why}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_program_runs() {
    let text = "
MX_KERNEL(reverse, 64)(const float *a, float *out, mx_i64 n) {
  MX_GLOBAL(const float, ga, a);
  MX_GLOBAL(float, gout, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(float, tile, memory, 128, 64);
  const mx_i64 i = mx_block() * 64 + mx_thread();
  tile[mx_thread()] = i < n ? ga[i] : 0.0f;
  mx_barrier();
  if (i < n) gout[i] = 2.0f * tile[63 - mx_thread()];
}
";
    let kernel = Kernel { name: "reverse".to_string(), threads: 64, shared_bytes: 128 + 256, words: 3 };
    for order in 0..3 {
        let Some(device) = emulator(order) else { return };
        let module = device.load(text, std::slice::from_ref(&kernel)).unwrap();
        let n = 200usize;
        let input: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (a, out) = (device.allocate(4 * n).unwrap(), device.allocate(4 * n).unwrap());
        device.upload(&a, 0, &bytes).unwrap();
        device.launch(&module, 0, 4, &[a.address(), out.address(), n as u64]).unwrap();
        let mut got = vec![0u8; 4 * n];
        device.download(&out, 0, &mut got).unwrap();
        for i in 0..n {
            let from = i / 64 * 64 + 63 - i % 64;
            let expected = if from < n { 2.0 * input[from] } else { 0.0 };
            let value = f32::from_le_bytes(got[4 * i..4 * i + 4].try_into().unwrap());
            assert_eq!(value, expected, "element {i} in order {order}");
        }
    }
}
