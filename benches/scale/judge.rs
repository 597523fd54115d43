//! What is held against the operator, from numbers alone: processor time always, and wall time where the machine had time.
//! `tests/bench_judge.rs` tests it.

/// Beyond this share of its processors at work, a machine is what is measured.
const BUSY: f64 = 0.9;
/// Unless the operator has so much of them.
const OWN: f64 = 0.2;
/// The most processor time of the operator for a role, in milliseconds.
const OF_A_ROLE: f64 = 15.0;
/// Among many roles, each takes so many times as much as among few, and so many milliseconds more.
const GROWN: (f64, f64) = (1.5, 1.0);

/// The processor time of the operator, in seconds, and for how many roles.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub seconds: f64,
    pub roles: f64,
}

impl Spent {
    /// In milliseconds.
    fn of_a_role(self) -> f64 {
        self.seconds * 1000.0 / self.roles.max(1.0)
    }
}

/// Whether work for others is why something takes long: of all processors a share was busy, and one was so for the operator.
/// How busy it was itself is no excuse for it.
pub fn is_too_busy(busy: f64, operator: f64) -> bool {
    busy > BUSY && operator <= OWN
}

/// What is wrong with the processor time that the operator took, also by what it took for few roles, if that is known.
pub fn too_much(spent: Spent, few: Option<Spent>) -> Option<String> {
    let (times, more) = GROWN;
    let took = spent.of_a_role();
    if took > OF_A_ROLE {
        return Some(format!("the operator takes {OF_A_ROLE} ms of processor time for a role at most, not {took:.1}"));
    }
    let few = few?.of_a_role();
    (took > times * few + more).then(|| {
        format!(
            "the operator takes {times} times the processor time for a role that it takes among few, and {more} ms more, at \
             most: {took:.1} ms, among few {few:.1}"
        )
    })
}
