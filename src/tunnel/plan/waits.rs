//! The waits of one plan. What one lane waits for holds up no other.

use super::step::{Look, Wait, Waiting};
use super::{Go, Halt, Next};

/// The wait that ends first, of all that were gathered so far.
#[derive(Default)]
pub(super) struct Waits(Option<Wait>);

impl Waits {
    /// Gathers what is waited for. Whatever else halts the plan halts it.
    pub(super) fn gather(&mut self, go: Go<()>) -> Go<()> {
        match go {
            Err(Halt(Next::Wait(wait), _)) => self.add(wait),
            other => other?,
        }
        Ok(())
    }

    fn add(&mut self, wait: Wait) {
        self.0 = Some(match self.0.take() {
            Some(before) => sooner(before, wait),
            None => wait,
        });
    }

    /// Halts the plan until the first of them is over.
    pub(super) fn end(self) -> Go<()> {
        self.0.map_or(Ok(()), |wait| Err(Halt(Next::Wait(wait), None)))
    }
}

/// A tunnel that waits for its turn joins a queue, so that counts for more. Two of which nobody knows when they end are looked at
/// together.
fn sooner(one: Wait, other: Wait) -> Wait {
    match (&one, &other) {
        (Wait { what: Waiting::Turn, .. }, _) => one,
        (_, Wait { what: Waiting::Turn, .. }) => other,
        (Wait { after: None, .. }, Wait { after: None, .. }) => {
            let look = match (&one.look, other.look) {
                (Look::Machines(some), Look::Machines(others)) => Look::Machines([some.clone(), others].concat()),
                (look, other) if *look == other => other,
                _ => Look::Everything,
            };
            Wait { look, ..one }
        }
        (Wait { after: None, .. }, _) => one,
        (_, Wait { after: None, .. }) => other,
        _ if one.after <= other.after => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tunnel::plan::settled;

    fn wait(what: Waiting, look: Look, after: Option<u64>) -> Wait {
        Wait { what, look, after: after.map(Duration::from_secs), in_vain: false }
    }

    #[test]
    fn the_first_that_ends_is_waited_for_and_what_ends_at_any_time_is_looked_at_together() {
        let machine = |id: &str| wait(Waiting::Traffic, Look::Machines(vec![id.into()]), None);
        let pause = |seconds| wait(Waiting::MachineStart, Look::Everything, Some(seconds));
        let turn = || wait(Waiting::Turn, Look::Everything, None);
        let both = wait(Waiting::Traffic, Look::Machines(vec!["a".into(), "b".into()]), None);
        let objects = || wait(Waiting::Traffic, Look::Objects, None);
        for (gathered, expected) in [
            (vec![pause(9), pause(3), pause(5)], pause(3)),
            (vec![pause(9), machine("a"), machine("b")], both),
            (vec![machine("a"), objects()], wait(Waiting::Traffic, Look::Everything, None)),
            (vec![objects(), objects()], objects()),
            (vec![machine("a"), turn(), pause(1)], turn()),
        ] {
            let mut waits = Waits::default();
            for wait in gathered {
                waits.gather(Err(Halt(Next::Wait(wait), None))).unwrap_or_else(|_| panic!("a wait halts the plan"));
            }
            let Err(Halt(next, _)) = waits.end() else { panic!("nothing is waited for") };
            assert_eq!(next, Next::Wait(expected));
        }
        assert!(Waits::default().gather(Err(settled())).is_err(), "what is no wait halts the plan");
        assert!(Waits::default().end().is_ok());
    }
}
