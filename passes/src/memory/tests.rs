use super::*;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{Action, Buffer, Place, Step};
use mixc_ir::plan::{layout, max_live_bytes, slots};
use mixc_ir::tile::TileProgram;

/// A xorshift sequence: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}

/// Steps that each read some earlier buffers and write one or two new ones; planning looks at nothing else.
fn random_model(random: &mut Random) -> Lowered {
    let mut lowered = Lowered::default();
    let t = Dim::symbol("T");
    let add = |lowered: &mut Lowered, random: &mut Random, place: Place| {
        let shape = match random.below(3) {
            0 => vec![t.clone(), Dim::from(1 + random.below(40))],
            1 => vec![Dim::from(random.below(500))],
            _ => vec![t.clone(), t.clone()],
        };
        lowered.buffers.push(Buffer { name: String::new(), dtype: DType::F32, shape, place });
        BufferId(lowered.buffers.len() as u32 - 1)
    };
    for phase in [Phase::Bind, Phase::Run] {
        let outside = if phase == Phase::Bind { Place::Weight("w".into()) } else { Place::Param(0) };
        let mut known = vec![add(&mut lowered, random, outside)];
        for _ in 0..random.below(12) {
            let mut buffers: Vec<BufferId> =
                (0..1 + random.below(3)).map(|_| known[known.len() - 1 - random.below(known.len().min(6))]).collect();
            for _ in 0..1 + random.below(2) {
                let result = if phase == Phase::Bind { Place::Bound } else { Place::Result(0) };
                let place = if random.below(5) == 0 { result } else { Place::Temporary };
                let b = add(&mut lowered, random, place);
                buffers.push(b);
                known.push(b);
            }
            let action = if random.below(9) == 0 {
                Action::CheckIds { ids: buffers[0], below: Dim::from(3usize) }
            } else {
                Action::Run { program: TileProgram::default(), buffers, form: String::new(), site: String::new() }
            };
            lowered.steps.push(Step { phase, action });
        }
    }
    lowered
}

fn at(t: i64) -> DimValues {
    DimValues::from([("T".into(), t)])
}

#[test]
fn plans_hold_at_all_dims_and_are_the_same_every_time() {
    let mut random = Random(7);
    for typical in [0, 1, 37, 4096] {
        for _ in 0..50 {
            let mut lowered = random_model(&mut random);
            let made = plan(&lowered, &at(typical)).unwrap();
            assert_eq!(made, plan(&lowered, &at(typical)).unwrap());
            lowered.plan = made;
            for dims in [0, 1, 50, 1000].map(at) {
                for phase in [Phase::Bind, Phase::Run] {
                    let (starts, bytes) = layout(&lowered, phase, &dims).unwrap();
                    let bound = max_live_bytes(&lowered, phase, &dims).unwrap();
                    let all: u64 = lifetimes(&lowered, phase)
                        .iter()
                        .map(|l| mixc_ir::lowered::aligned(lowered.buffer(l.buffer).bytes(&dims).unwrap()))
                        .sum();
                    assert!(bound <= bytes && bytes <= all);
                    assert!(starts.iter().all(|s| s % ALIGNMENT == 0));
                }
            }
        }
    }
}

/// Lifetimes of buffers whose lives are listed as first and last step.
fn sized(lives: &[(usize, usize, u64)]) -> Vec<Sized> {
    let one = |(k, &(first, last, bytes)): (usize, &(usize, usize, u64))| Sized {
        life: Lifetime { buffer: BufferId(k as u32), first, last },
        bytes,
    };
    lives.iter().enumerate().map(one).collect()
}

#[test]
fn a_chain_takes_two_slots() {
    let chain: Vec<_> = (0..9).map(|k| (k, k + 1, 64 * (1 + k as u64 % 2))).collect();
    let slots = assign(&sized(&chain));
    assert_eq!(slots.len(), 2);
    assert_eq!(assign(&sized(&[])), Vec::<Vec<BufferId>>::new());
}

#[test]
fn wrong_plans_are_caught() {
    let mut random = Random(99);
    let mut moved = 0;
    for _ in 0..200 {
        let lowered = random_model(&mut random);
        let right = plan(&lowered, &at(64)).unwrap();
        let live = lifetimes(&lowered, Phase::Run);
        if live.is_empty() {
            continue;
        }
        let mut lost = right.clone();
        let buffer = lost.run[0].remove(0);
        assert_eq!(check_plan(&lowered, &lost), [PlanProblem::Missing { phase: Phase::Run, buffer }]);
        let mut twice = right.clone();
        twice.run.push(vec![buffer]);
        assert_eq!(check_plan(&lowered, &twice), [PlanProblem::Twice { phase: Phase::Run, buffer }]);
        let mut foreign = right.clone();
        foreign.bind.push(vec![buffer]);
        assert_eq!(check_plan(&lowered, &foreign), [PlanProblem::Foreign { phase: Phase::Bind, buffer }]);
        // A buffer moved to another slot is wrong exactly when it meets a live one there.
        let (from, to) = (random.below(right.run.len()), random.below(right.run.len()));
        if from != to {
            let mut other = right.clone();
            let b = other.run[from].remove(0);
            other.run[to].push(b);
            let of = |b: BufferId| live.iter().find(|l| l.buffer == b).unwrap();
            let meets = right.run[to].iter().any(|a| of(*a).overlaps(of(b)));
            assert_eq!(!check_plan(&lowered, &other).is_empty(), meets);
            moved += usize::from(meets);
        }
        assert_eq!(slots(&right, Phase::Run), &right.run[..]);
    }
    assert!(moved > 20, "{moved} wrong moves tried");
}

#[test]
fn a_temporary_of_both_phases_has_no_plan() {
    let mut random = Random(5);
    let mut lowered = random_model(&mut random);
    while lifetimes(&lowered, Phase::Bind).is_empty() {
        lowered = random_model(&mut random);
    }
    let buffer = lifetimes(&lowered, Phase::Bind)[0].buffer;
    let action = Action::CheckIds { ids: buffer, below: Dim::from(1usize) };
    lowered.steps.push(Step { phase: Phase::Run, action });
    assert_eq!(plan(&lowered, &at(1)), Err(vec![PlanProblem::BothPhases { buffer }]));
}
