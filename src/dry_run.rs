//! `--dry-run`: looks at everything, and tells what would be done if each step succeeded. Only reads.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::controller::poll;
use crate::failure::Failure;
use crate::service::Service;
use crate::tunnel::imagine::Imagination;
use crate::tunnel::memory::{Memory, Now};
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::{self, Next, Reason, Settings};
use crate::tunnel::{Tunnel, TunnelId, desired};
use crate::world::World;

/// No plan is that long: one that is goes round in circles.
const LONGEST: usize = 200;

/// Writes what would be done.
///
/// # Errors
/// What could not be looked at or written: a message for the user.
pub fn run(world: &World, out: &mut dyn Write) -> Result<(), String> {
    let services = poll::load_balancers(world).map_err(|error| error.to_string())?;
    let strays = poll::strays(world, &services).map_err(|error| error.to_string())?;
    let settings = &world.settings;
    let mut tunnels: BTreeMap<TunnelId, (Tunnel, Option<Service>)> = services
        .into_iter()
        .filter_map(|service| Some((world.tunnel(&service)?, service)))
        .map(|(tunnel, service)| (tunnel.id.clone(), (tunnel, Some(service))))
        .collect();
    for id in strays {
        let service = world.service(&id).map_err(|failure| failure.to_string())?;
        tunnels.insert(id.clone(), (desired::removed(id, &world.owner), service));
    }
    let (mut at_rest, mut failed) = (0, 0);
    for (tunnel, service) in tunnels.values() {
        let (id, app) = (&tunnel.id, &tunnel.app);
        let mut look =
            |next: &plan::Look, seen: &mut Observed, memory: &mut Memory| world.look(next, tunnel, seen, memory);
        match foresee(tunnel, service.clone(), settings, SystemTime::now(), &mut look) {
            Ok(lines) if lines.is_empty() => {
                at_rest += 1;
                let shown = service.as_ref().and_then(Service::condition);
                let failure = shown.filter(|c| Reason::named(&c.reason).is_some_and(Reason::is_failure));
                let failure = failure.map(|c| format!(", as it cannot be served: {}: {}", c.reason, c.message));
                tell(out, format_args!("{id} (Fly App {app}): nothing to do{}", failure.unwrap_or_default()))?;
            }
            Ok(lines) => tell(out, format_args!("{id} (Fly App {app}):\n  {}", lines.join("\n  ")))?,
            Err(failure) => {
                failed += 1;
                tell(out, format_args!("{id} (Fly App {app}): cannot be looked at: {failure}"))?;
            }
        }
    }
    let all = tunnels.len();
    tell(out, format_args!("{all} tunnels, {at_rest} with nothing to do. This was a dry run: nothing is changed."))?;
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} of {all} tunnels could not be looked at")),
    }
}

fn tell(out: &mut dyn Write, line: fmt::Arguments) -> Result<(), String> {
    writeln!(out, "{line}").map_err(|error| format!("the plan cannot be written: {error}"))
}

/// The way from how things are to where nothing is left to do, a line for each step. `look` looks at what is real, and is
/// asked nothing any more once something was imagined, but for the list of Apps: a plan looks there only where no step of its
/// own touched an App.
fn foresee(
    tunnel: &Tunnel,
    service: Option<Service>,
    settings: &Settings,
    wall: SystemTime,
    look: &mut dyn FnMut(&plan::Look, &mut Observed, &mut Memory) -> Result<(), Failure>,
) -> Result<Vec<String>, Failure> {
    let mut imagination = Imagination::new(&settings.finalizer, |_, lane| lane.name.clone());
    let mut seen = Observed { service: service.map(Box::new), ..Observed::default() };
    let mut memory = Memory::default();
    let mut passed = Duration::ZERO;
    let mut lines: Vec<String> = Vec::new();
    let mut real = true;
    for _ in 0..LONGEST {
        let now = Now { monotonic: passed, wall: wall + passed };
        memory.note(&seen, now);
        match plan::plan(tunnel, settings, &seen, &memory, now).next {
            Next::Look(next) if real || seen.app.is_none() || next == plan::Look::AppList => {
                look(&next, &mut seen, &mut memory)?;
                // An operator that starts applies each once, whether it was edited or not: that is no news.
                let deployments = seen.objects.iter().flat_map(|objects| &objects.deployments);
                memory.applied.extend(deployments.map(|d| (d.object.name.clone(), d.version)));
            }
            Next::Look(_) => {} // everything is as it was imagined
            Next::Act(steps) => {
                real = false;
                for step in steps {
                    lines.push(imagination.describe(&step));
                    imagination.act(&step, &mut seen, &mut memory, now);
                }
            }
            Next::Wait(wait) => {
                real = false;
                let line = format!("wait for {}", wait.what);
                if lines.last() != Some(&line) {
                    lines.push(line);
                }
                passed += Imagination::wait(&wait, &mut seen, &mut memory);
            }
            Next::Settled | Next::Left(_) | Next::Gone => return Ok(lines),
        }
    }
    lines.push("and so on: this does not come to an end, which is a bug worth a report".into());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::observed::{App, Objects};

    #[test]
    fn a_new_tunnel_is_told_from_its_finalizer_to_its_address() {
        let (service, owner, settings) = crate::tunnel::plan::tests::a_service();
        let tunnel =
            desired::tunnel(&service, &owner, &settings.finalizer, &settings.lanes).expect("it wants a tunnel");
        let mut looks = 0;
        let mut look = |_: &plan::Look, seen: &mut Observed, _: &mut Memory| {
            looks += 1;
            seen.app = Some(App::Absent);
            seen.objects = Some(Objects::default());
            Ok(())
        };
        let lines = foresee(&tunnel, Some(service), &settings, SystemTime::UNIX_EPOCH, &mut look).expect("a plan");
        let told = |text: &str| {
            lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:#?}"))
        };
        let order = [
            "add the finalizer",
            "create the App",
            "IPv4",
            "create Machine",
            "Deployment",
            "[the new address] Serving",
        ];
        assert!(order.map(told).is_sorted(), "{lines:#?}");
        assert_eq!(looks, 1, "what is imagined is not looked at");
    }
}
