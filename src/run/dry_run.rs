//! `--dry-run`: looks at everything, and tells what would be done if each step succeeded. Only reads.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::cluster::LoadBalancers;
use crate::controller::poll;
use crate::observe;
use crate::service::Service;
use crate::tunnel::condition::Read;
use crate::tunnel::failure::{Attempt, Failure};
use crate::tunnel::imagine::Imagination;
use crate::tunnel::memory::Memory;
use crate::tunnel::now::Now;
use crate::tunnel::observed::Observed;
use crate::tunnel::plan::step::Look;
use crate::tunnel::plan::{self, Next};
use crate::tunnel::settings::Settings;
use crate::tunnel::{Tunnel, TunnelId, desired};
use crate::world::World;

/// No plan is that long: one that is goes round in circles.
const LONGEST: usize = 200;

/// Writes what would be done.
///
/// # Errors
/// Something could not be looked at or written: a message for the user.
pub fn run(world: &World, out: &mut dyn Write) -> Result<(), String> {
    let LoadBalancers { services, .. } = world.cluster.load_balancers().map_err(|error| error.to_string())?;
    let strays = poll::strays(world, &services).map_err(|error| error.to_string())?;
    let mut tunnels: BTreeMap<TunnelId, (Tunnel, Option<Service>)> = services
        .into_iter()
        .filter_map(|service| Some((world.tunnel(&service)?, service)))
        .map(|(tunnel, service)| (tunnel.id.clone(), (tunnel, Some(service))))
        .collect();
    let (mut at_rest, mut failed) = (0, 0);
    for id in strays {
        let service = match world.cluster.service(&id) {
            Ok(service) => service,
            Err(error) => {
                failed += 1;
                tell(out, format_args!("{id}: cannot be looked at: {error}"))?;
                continue;
            }
        };
        let tunnel = service.as_ref().and_then(|service| world.tunnel(service));
        let tunnel = tunnel.unwrap_or_else(|| desired::without_members(TunnelId::of(&id), &world.owner));
        tunnels.insert(tunnel.id.clone(), (tunnel, service));
    }
    let all = tunnels.len() + failed;
    for (tunnel, service) in tunnels.values() {
        let (id, app) = (&tunnel.id, &tunnel.app);
        let mut look = |look: &Look, seen: &mut Observed, memory: &mut Memory, now| {
            observe::look(world, look, tunnel, seen, memory, now)
        };
        match foresee(tunnel, service.clone(), &world.settings, SystemTime::now(), &mut look) {
            Ok(lines) if lines.is_empty() => {
                at_rest += 1;
                let failure = service.as_ref().and_then(Read::of).filter(|read| read.reason.is_failure());
                let failure = failure.map(|read| format!(", as it cannot be served: {read}"));
                tell(out, format_args!("{id} (Fly App {app}): nothing to do{}", failure.unwrap_or_default()))?;
            }
            Ok(lines) => tell(out, format_args!("{id} (Fly App {app}):\n  {}", lines.join("\n  ")))?,
            Err(failure) => {
                failed += 1;
                let condition = plan::condition(&failure, Attempt::Look, app);
                tell(out, format_args!("{id} (Fly App {app}): cannot be looked at: {condition}"))?;
            }
        }
    }
    tell(out, format_args!("{all} tunnels, {at_rest} with nothing to do. This was a dry run: nothing is changed."))?;
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} of {all} tunnels could not be looked at")),
    }
}

fn tell(out: &mut dyn Write, line: fmt::Arguments) -> Result<(), String> {
    writeln!(out, "{line}").map_err(|error| format!("the plan cannot be written: {error}"))
}

/// Looks at real things.
type RealLook<'a> = &'a mut dyn FnMut(&Look, &mut Observed, &mut Memory, Now) -> Result<(), Failure>;

/// The way from how things are to where nothing is left to do, a line for each step. `look` looks at real things. Once a step
/// was imagined they are not looked at any more, as they do not show it. The list of Apps is the exception: a plan asks for
/// it only while no step has touched an App.
fn foresee(
    tunnel: &Tunnel,
    service: Option<Service>,
    settings: &Settings,
    wall: SystemTime,
    look: RealLook,
) -> Result<Vec<String>, Failure> {
    let mut imagination = Imagination::new(&settings.finalizer, &tunnel.app, |_, lane| lane.name.clone());
    let mut seen = Observed::members(service);
    let mut memory = Memory::default();
    let mut passed = Duration::ZERO;
    let mut lines: Vec<String> = Vec::new();
    let mut real = true;
    for _ in 0..LONGEST {
        let now = Now { monotonic: passed, wall: wall + passed };
        memory.note(&seen, now);
        match plan::plan(tunnel, settings, &seen, &memory, now).next {
            // Nothing else is deleted before it.
            Next::Look(Look::TimeOfDeletion) => memory.deeds.time_of_deletion = Some(passed),
            Next::Look(next) if real || seen.app.is_none() || next == Look::AppList => {
                look(&next, &mut seen, &mut memory, now)?;
                // An operator that starts applies each once, whether it was edited or not: that is no news.
                for deployment in seen.objects.iter().flat_map(|objects| &objects.deployments) {
                    memory.deeds.applied.set(&deployment.object.name, deployment.version);
                }
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
            Next::Settled | Next::LeftAlone(_) | Next::Gone | Next::MadeAgain | Next::TryAgain => return Ok(lines),
        }
    }
    lines.push("and so on: this does not come to an end, which is a bug worth a report".into());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use crate::tunnel::observed::{App, Objects};

    #[test]
    fn a_new_tunnel_is_told_from_its_finalizer_to_its_address() {
        let mut looks = 0;
        let mut look = |_: &Look, seen: &mut Observed, _: &mut Memory, _: Now| {
            looks += 1;
            seen.app = Some(App::Absent);
            seen.objects = Some(Objects::default());
            Ok(())
        };
        let lines = foresee(
            &examples::tunnel(),
            Some(examples::service()),
            &examples::settings(),
            SystemTime::UNIX_EPOCH,
            &mut look,
        )
        .expect("a plan");
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
