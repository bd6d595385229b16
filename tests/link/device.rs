//! The CUDA stubs in a C program: against the emulator's driver, and on a machine without one.

use crate::models::{Models, present, succeeds};
use mixc::weights::WeightFiles;
use mixc::{Model, Request, Target};
use mixc_backends::cuda::{emulator, source};
use std::process::Command;

const CALLER: &str = include_str!("device_caller.c");

/// The images that the emulator's driver takes in the place of cubins, and the weights as plain tensors.
fn put_images(models: &Models) {
    for name in ["attention", "weighted", "fixed"] {
        let model = Model::load(&models.home().join(format!("{name}.ir"))).expect("the model is right");
        let stages =
            model.stages(&Target::parse("cuda:sm_80").expect("it is known"), &Request::default()).expect("it compiles");
        let source = source(&stages.lowered);
        let kernels: Vec<_> = source.kernels.iter().map(|k| k.kernel.clone()).collect();
        let image = emulator::image(&source.text, &kernels, 0).expect("g++ takes the text");
        std::fs::write(models.built().join(format!("{name}.image")), image).expect("the image is written");
    }
    let file = WeightFiles::open(&[models.home().join("weights.safetensors")]).expect("the weights are there");
    for (k, name) in ["layer.a", "layer.b", "layer.c"].iter().enumerate() {
        let blob = file.get(name).expect("the tensor is there");
        std::fs::write(models.home().join(format!("weighted.w{k}")), blob.bytes).expect("it is written");
    }
}

#[test]
fn a_c_program_runs_models_through_the_driver() {
    if !present("cc") {
        return;
    }
    if let Err(why) = mixc::runs_here("cuda:emu") {
        println!("skipped: {why}");
        return;
    }
    let models = Models::new("cuda:emu");
    put_images(&models);
    let program = models.home().join("device_caller");
    std::fs::write(models.home().join("device_caller.c"), CALLER).expect("the program is written");
    let sources = ["attention", "weighted", "fixed"].map(|n| models.built().join(format!("{n}_cuda.c")));
    let flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "device_caller.c"];
    succeeds(
        Command::new("cc")
            .current_dir(models.home())
            .args(flags)
            .args(sources)
            .arg("-I")
            .arg(models.built())
            .args(["-ldl", "-o"])
            .arg(&program),
    );
    // Under the name that programs ask the loader for.
    let folder = models.home().join("driver");
    std::fs::create_dir(&folder).expect("a folder is made");
    let library = emulator::library().expect("the emulator is here");
    std::fs::copy(library, folder.join("libcuda.so.1")).expect("it is copied");
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        // Without a driver the code says so.
        let ended = Command::new(&program).arg(models.home()).arg("37").output().expect("it runs");
        assert_eq!(ended.status.code(), Some(77), "{}", String::from_utf8_lossy(&ended.stderr));
        succeeds(Command::new(&program).arg(models.home()).arg("37").env("LD_LIBRARY_PATH", &folder));
        models.results_are_right("device");
    }
}
