//! The host's side: what it refuses, and machines without a driver or a compiler.

use std::ffi::OsString;
use std::path::PathBuf;

use super::super::cache;
use super::super::device::Device;
use super::super::error::CudaError;
use super::super::kernel::Kernel;
use super::super::nvrtc::{self, Usage};
use super::harness::{Argument, emulator, f32_bytes, f32_values, program, run};

const COPY: &str = "MX_KERNEL(copy, 32)(const float *a, float *out) {
  MX_GLOBAL(const float, ga, a);
  MX_GLOBAL(float, go, out);
  go[mx_thread()] = ga[mx_thread()];
}
";

fn copy() -> Kernel {
    Kernel { name: "copy".to_string(), threads: 32, shared_bytes: 0, words: 2 }
}

#[test]
fn a_process_has_one_driver() {
    let Some(_device) = emulator(0) else { return };
    assert_eq!(Device::open().err(), Some(CudaError::DriverTaken));
}

/// Opening a GPU is data in every case. It runs in a process of its own, in which no emulator is the driver.
#[test]
fn a_machine_without_a_driver_gets_an_error() {
    let inside = "MIXC_TEST_OPENS_A_GPU";
    if std::env::var_os(inside).is_some() {
        match Device::open() {
            Ok(device) => println!("skipped: this machine has {}", device.name().unwrap()),
            Err(CudaError::NoDriver | CudaError::NoDevice(_) | CudaError::NoNvrtc(_)) => {}
            Err(e) => panic!("{e}"),
        }
        return;
    }
    let name = "cuda::tests::host::a_machine_without_a_driver_gets_an_error";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(inside, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_machine_without_a_compiler_gets_an_error() {
    let inside = "MIXC_TEST_HAS_NO_COMPILER";
    if std::env::var_os(inside).is_some() {
        assert!(matches!(Device::emulated(), Err(CudaError::NoCompiler(_))));
        return;
    }
    let name = "cuda::tests::host::a_machine_without_a_compiler_gets_an_error";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(inside, "1")
        .env("PATH", "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn memory_has_bounds_and_an_end() {
    let Some(device) = emulator(0) else { return };
    let memory = device.allocate(100).unwrap();
    assert_eq!((memory.bytes(), memory.address() % 256), (100, 0));
    device.upload(&memory, 90, &[7; 10]).unwrap();
    let mut back = [0; 12];
    device.download(&memory, 88, &mut back).unwrap();
    assert_eq!(back[2..], [7; 10]);
    let out_of_bounds = |offset, bytes| Err(CudaError::OutOfBounds { offset, bytes, size: 100 });
    assert_eq!(device.upload(&memory, 91, &[0; 10]), out_of_bounds(91, 10));
    assert_eq!(device.download(&memory, usize::MAX, &mut back), out_of_bounds(usize::MAX, 12));
    device.upload(&memory, 100, &[]).unwrap();
    assert_eq!(device.allocate(0).unwrap().bytes(), 0);
    assert_eq!(device.allocate(1 << 60).err(), Some(CudaError::OutOfMemory(1 << 60)));
    assert_eq!(device.allocate(usize::MAX).err(), Some(CudaError::OutOfMemory(usize::MAX)));
}

#[test]
fn launches_are_checked() {
    let Some(device) = emulator(0) else { return };
    assert!(device.shared_limit() >= 160 << 10 && device.multiprocessors() > 0);
    let module = device.load(COPY, &[copy()]).unwrap();
    let memory = device.allocate(128).unwrap();
    let words = [memory.address(); 2];
    let refused = |result: Result<(), CudaError>, word: &str| match result {
        Err(CudaError::Launch(why)) => assert!(why.contains(word), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(device.launch(&module, 1, 1, &words), "no kernel number 1");
    refused(device.launch(&module, 0, 1, &words[..1]), "2 parameters, not 1");
    device.launch(&module, 0, 0, &[0, 0]).unwrap();
    refused(device.launch(&module, 0, 1, &[0, 0]), "out of bounds");
    let shapes = [(33, 0), (0, 0), (2048, 0), (32, 300 << 10)];
    for (threads, shared_bytes) in shapes {
        let kernel = Kernel { threads, shared_bytes, ..copy() };
        refused(device.load(COPY, &[kernel]).map(|_| ()), "a block is whole warps");
    }
    // More threads than the text says.
    let module = device.load(COPY, &[Kernel { threads: 64, ..copy() }]).unwrap();
    refused(device.launch(&module, 0, 1, &words), "INVALID_VALUE");
}

#[test]
fn shared_memory_beyond_the_usual_is_asked_for() {
    let Some(device) = emulator(0) else { return };
    let bytes = 100 << 10;
    let text = "MX_KERNEL(large, 32)(float *out) {
  MX_GLOBAL(float, go, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(float, tile, memory, 99 * 1024, 256);
  tile[mx_thread()] = 1.0f;
  go[mx_thread()] = tile[mx_thread()];
}
";
    let got = run(&device, &program("large", 32, bytes, 1, 1, text), &[Argument::Out(128)]).unwrap();
    assert_eq!(f32_values(&got[0]), [1.0; 32]);
}

#[test]
fn text_that_does_not_compile_is_an_error_with_its_line() {
    let Some(device) = emulator(0) else { return };
    let wrong = COPY.replace("ga[mx_thread()]", "missing[0]");
    match device.load(&wrong, &[copy()]).map(|_| ()) {
        Err(CudaError::CompileFailed(log)) => assert!(log.contains("program.cu:4") && log.contains("missing"), "{log}"),
        other => panic!("{other:?}"),
    }
    let absent = Kernel { name: "absent".to_string(), ..copy() };
    assert!(matches!(device.load(COPY, &[absent]), Err(CudaError::CompileFailed(_))));
    let small = "MX_KERNEL(copy, 32)(mx_i32 n) {}";
    match device.load(small, &[copy()]).map(|_| ()) {
        Err(CudaError::CompileFailed(log)) => assert!(log.contains("words of 8 bytes"), "{log}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_threads_share_a_device() {
    let Some(device) = emulator(2) else { return };
    std::thread::scope(|scope| {
        for k in 0..4 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..20 {
                    let values: Vec<f32> = (0..32).map(|i| (i * k + round) as f32).collect();
                    let arguments = [Argument::In(&f32_bytes(&values)), Argument::Out(128)];
                    let got = run(device, &program("copy", 32, 0, 2, 1, COPY), &arguments).unwrap();
                    assert_eq!(f32_values(&got[0]), values);
                }
            });
        }
    });
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let with = |set: &[(&str, &str)]| {
        let set: Vec<(String, OsString)> = set.iter().map(|(k, v)| (k.to_string(), OsString::from(v))).collect();
        cache::directory_by(&move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    };
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(with(&[("MIXC_CACHE_DIR", "here"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), path("here"));
    assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), path("/x/mixc"));
    assert_eq!(with(&[("MIXC_CACHE_DIR", ""), ("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), path("/h/.cache/mixc"));
    assert_eq!(with(&[]), None);
    assert_ne!(cache::key(&["ab", "c"]), cache::key(&["a", "bc"]));
}

#[test]
fn cached_files_are_made_once_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    let mut made = 0;
    for _ in 0..2 {
        let mut make = |path: &std::path::Path| {
            made += 1;
            std::fs::write(path, "image").map_err(|e| CudaError::Cache(e.to_string()))
        };
        let path = cache::file_in(&inner, "name", &mut make).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"image");
    }
    assert_eq!(made, 1);
    let mut fail = |_: &std::path::Path| Err(CudaError::NoDriver);
    assert_eq!(cache::file_in(&inner, "other", &mut fail), Err(CudaError::NoDriver));
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    for k in 0..9 {
        std::fs::write(inner.join(format!("more{k}")), "").unwrap();
    }
    cache::thin_out(&inner, 10);
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 10);
    cache::thin_out(&inner, 9);
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 5);
}

#[test]
fn the_assemblers_report_is_read() {
    let log = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_90a'
ptxas info    : Function properties for first
    504 bytes stack frame, 96 bytes spill stores, 100 bytes spill loads
ptxas info    : Used 127 registers, used 1 barriers, 504 bytes cumulative stack size
ptxas info    : Compiling entry function 'second' for 'sm_90a'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers
";
    let usage = nvrtc::usage(log);
    assert_eq!(usage.len(), 2);
    assert_eq!(usage["first"], Usage { registers: 127, spill_bytes: 100, stack_bytes: 504 });
    assert_eq!(usage["second"], Usage { registers: 24, spill_bytes: 0, stack_bytes: 0 });
}

#[test]
fn nvrtc_is_looked_for_where_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let packages = folder.path().join("lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib");
    std::fs::create_dir_all(&packages).unwrap();
    for name in ["libnvrtc.so.12", "libnvrtc-builtins.so.12.9", "libnvrtc.alt.so.12"] {
        std::fs::write(packages.join(name), "").unwrap();
    }
    let root = OsString::from(folder.path());
    let found = nvrtc::candidates(&|name| (name == "VIRTUAL_ENV").then(|| root.clone()));
    assert!(found.contains(&packages.join("libnvrtc.so.12")), "{found:?}");
    assert!(!found.iter().any(|p| p.to_string_lossy().contains("builtins") || p.to_string_lossy().contains("alt")));
    let file = packages.join("libnvrtc.so.12");
    let directory = OsString::from(&packages);
    assert_eq!(nvrtc::candidates(&|name| (name == "MIXC_NVRTC").then(|| directory.clone())), [file]);
    assert_eq!(nvrtc::candidates(&|name| (name == "MIXC_NVRTC").then(|| "x.so".into())), [PathBuf::from("x.so")]);
}
