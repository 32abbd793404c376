//! Random stories: whatever happens in whatever order, the tunnel comes to rest as it should be, and planned once more
//! there is nothing to do.

use std::time::Duration;

use super::reality::{Reality, reality};
use super::stories::{LONG, assert_nothing_left, assert_whole};
use crate::examples::Dice;
use crate::tunnel::observed::State;
use crate::tunnel::plan::Next;

/// One thing that happens outside of the operator's doing, or to it.
fn happen(reality: &mut Reality, random: &mut Dice) {
    const PORTS: [&[u16]; 5] = [&[443], &[443, 8443], &[7000], &[7000, 7001], &[80]];
    let machine = {
        let ids: Vec<String> = reality.machines().iter().map(|machine| machine.id.clone()).collect();
        (!ids.is_empty()).then(|| ids[random.below(ids.len() as u64) as usize].clone())
    };
    match (random.below(10), machine) {
        (0, _) => reality.crash(),
        (1, _) => reality.forget_view(),
        (2 | 3, _) => reality.ports(PORTS[random.below(5) as usize]),
        (4, Some(id)) => reality.change(&id, |machine| machine.state = State::Gone),
        (5, Some(id)) => reality.change(&id, |machine| machine.state = State::Stopped),
        (6, Some(id)) => reality.change(&id, |machine| machine.host_ok = !machine.host_ok),
        (7, Some(id)) => reality.change(&id, |machine| machine.cordoned = !machine.cordoned),
        (8, _) => {
            reality.objects.deployments.pop();
        }
        (9, _) => {
            reality.objects.keys.pop();
        }
        _ => reality.advance(Duration::from_secs(random.below(90))),
    }
}

#[test]
fn whatever_happens_it_comes_to_rest() {
    for seed in 0..500 {
        let mut random = Dice(seed);
        let mut reality = reality();
        reality.say(&format!("seed {seed}"));
        for _ in 0..random.below(12) {
            for _ in 0..random.below(15) {
                if let Next::Wait(wait) = reality.turn() {
                    reality.pass(&wait);
                }
            }
            happen(&mut reality, &mut random);
        }
        let last = match random.below(4) {
            0 => Some(Reality::delete_service as fn(&mut Reality)),
            1 => Some(Reality::drain as fn(&mut Reality)),
            _ => None,
        };
        if let Some(end) = last {
            end(&mut reality);
            for _ in 0..random.below(20) {
                if let Next::Wait(wait) = reality.turn() {
                    reality.pass(&wait);
                }
            }
            if random.below(2) == 0 {
                reality.crash();
            }
        }
        // An operator looks at everything again after a while.
        reality.forget_view();
        let next = reality.run(LONG);
        if last.is_some() {
            assert_eq!(next, Next::Gone, "{}", reality.story);
            assert_nothing_left(&reality);
        } else {
            assert_eq!(next, Next::Settled, "{}", reality.story);
            assert_whole(&reality);
            assert_eq!(reality.plan().next, Next::Settled, "{}", reality.story);
        }
    }
}
