//! The tile programs of a model one by one, each as a model of its own, to be timed alone.

use crate::lines::Lines;
use crate::{Compilation, Error, Target, shapes};
use mixc_backends::cpu::pool::Pool;
use mixc_backends::cpu::{self, CompiledModel};
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, Phase, Place, Step};
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::tile::Role;

/// One kernel, compiled, with inputs.
pub struct Kernel {
    /// The tile program's name.
    pub name: String,
    /// The form it is part of.
    pub form: String,
    /// The value it computes.
    pub site: String,
    /// How often the model runs it (equal programs are timed once).
    pub times: usize,
    /// Milliseconds that the roofline allows.
    pub bound_ms: f64,
    code: CompiledModel,
    inputs: Vec<Lines>,
    outputs: Vec<Lines>,
}

impl Kernel {
    /// Runs it once.
    pub fn run(&mut self, dims: &DimValues, pool: Option<&Pool>) -> Result<(), Error> {
        let reads: Vec<&[u8]> = self.inputs.iter().map(Lines::bytes).collect();
        let mut writes: Vec<&mut [u8]> = self.outputs.iter_mut().map(Lines::bytes_mut).collect();
        let on_pool = pool.map(crate::runner::OnPool);
        let parallel = on_pool.as_ref().map(|p| p as &dyn cpu::Parallel);
        self.code.run(dims, None, &reads, &mut writes, parallel).map_err(|e| Error::Usage(e.to_string()))
    }
}

/// The kernels of the run phase, equal ones once, for a target that runs here.
pub fn kernels(c: &Compilation, target: &Target, dims: &DimValues) -> Result<Vec<Kernel>, Error> {
    let Target::Cpu(target) = target else {
        return Err(Error::Usage("kernels are timed one by one on CPU targets alone".into()));
    };
    let mut seen: Vec<String> = Vec::new();
    let mut found: Vec<Kernel> = Vec::new();
    for step in c.lowered.phase(Phase::Run) {
        let Action::Run { program, buffers, form, site } = &step.action else { continue };
        // Names of tensors do not tell programs apart.
        let mut anonymous = program.clone();
        anonymous.tensors.iter_mut().for_each(|t| t.name.clear());
        let key = format!("{anonymous:?}");
        if let Some(k) = seen.iter().position(|s| *s == key) {
            found[k].times += 1;
            continue;
        }
        seen.push(key);
        let alone = lone(&c.lowered, step, buffers);
        let code = cpu::compile(&alone, target).map_err(|e| Error::Unavailable(e.to_string()))?;
        let blob = |b: &BufferId| Lines::of(&sample(alone.buffer(*b), dims).bytes);
        let data = |ids: &[BufferId]| ids.iter().map(blob).collect::<Vec<Lines>>();
        let cost = mixc_ir::tile::cost(program, dims).map_err(|e| Error::Usage(e.to_string()))?;
        found.push(Kernel {
            name: program.name.clone(),
            form: form.clone(),
            site: format!("%{site}"),
            times: 1,
            bound_ms: cost.seconds(&c.machine, 1) * 1e3,
            inputs: data(&alone.params),
            outputs: data(&alone.results),
            code,
        });
    }
    Ok(found)
}

/// A step as a model: what it reads are parameters, what it writes results.
fn lone(model: &Lowered, step: &Step, buffers: &[BufferId]) -> Lowered {
    let Action::Run { program, .. } = &step.action else { return Lowered::default() };
    let mut alone = Lowered { name: program.name.clone(), dims: model.dims.clone(), ..Lowered::default() };
    let mut ids = Vec::new();
    for (tensor, b) in program.tensors.iter().zip(buffers) {
        let id = BufferId(alone.buffers.len() as u32);
        let place = match tensor.role {
            Role::Input => Place::Param(alone.params.len()),
            Role::Output => Place::Result(alone.results.len()),
        };
        match tensor.role {
            Role::Input => alone.params.push(id),
            Role::Output => alone.results.push(id),
        }
        alone.buffers.push(Buffer { place, ..model.buffer(*b).clone() });
        ids.push(id);
    }
    let Action::Run { program, form, site, .. } = step.action.clone() else { return alone };
    alone.steps.push(Step { phase: Phase::Run, action: Action::Run { program, buffers: ids, form, site } });
    alone
}

/// Contents that any program may read: small numbers, ids 0, masks true.
fn sample(b: &Buffer, dims: &DimValues) -> Blob {
    let shape = shapes::lengths(&b.shape, dims);
    let count: usize = shape.iter().product();
    let mut random = crate::inputs::Random::new(1);
    let tensor = match b.dtype {
        DType::Bool => Tensor::bools(&shape, vec![true; count]),
        d if d.is_int() => Tensor::ints(&shape, vec![0; count]),
        _ => Tensor::floats(&shape, (0..count).map(|_| random.uniform() - 0.5).collect()),
    };
    tensor.to_blob(b.dtype)
}
