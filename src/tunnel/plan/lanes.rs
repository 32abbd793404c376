//! The lanes of a tunnel that serves: made, connected, waited for; then those they replace are cordoned, drained and
//! destroyed. Make before break, with one exception: a port of the Service on which a live lane is controlled.

use std::time::Duration;

use super::{BELIEVED, Context, Frpc, Go, Halt, Look, Next, Step, Waiting, act, all, wait, wait_for};
use crate::tunnel::lane::{Lane, Recipe, control_port};
use crate::tunnel::names;
use crate::tunnel::observed::{LaneObject, Machine, Objects, OurApp, State};

/// How long Fly may fail to reach a host before its Machine is replaced. Fly's own pings take some seconds; a short
/// outage is cheaper than a move.
const HOST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a Machine may be on its way before it counts as failed (flyctl calls it stuck after five minutes).
const START_PATIENCE: Duration = Duration::from_secs(300);

/// The only lane there is, as long as a tunnel has one.
const INDEX: u8 = 0;

pub(super) struct Lanes<'a> {
    context: &'a Context<'a>,
    objects: &'a Objects,
    recipe: Recipe,
    generation: String,
    secret: &'a str,
    app: &'a OurApp,
    /// Our Machines that exist.
    machines: Vec<&'a Machine>,
    /// Every Machine that exists in the App, whoever made it.
    all: Vec<&'a Machine>,
    /// The lane's Machine, if there is one that can serve or will.
    current: Option<&'a Machine>,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        app: &'a OurApp,
        objects: &'a Objects,
        recipe: Recipe,
        secret: &'a str,
    ) -> Lanes<'a> {
        let all: Vec<&Machine> = app.machines.iter().filter(|machine| machine.exists()).collect();
        let machines: Vec<&Machine> = all.iter().copied().filter(|machine| machine.ours.is_some()).collect();
        let generation = recipe.generation();
        let mut lanes = Lanes { context, objects, recipe, generation, secret, app, machines, all, current: None };
        // Of two Machines for one lane the one in service stays, else the older.
        lanes.current = lanes
            .machines
            .iter()
            .copied()
            .filter(|machine| lanes.can_serve(machine))
            .min_by_key(|machine| (machine.cordoned, !context.seen.serves(machine), machine.created_at.clone()));
        lanes
    }

    /// Machines that serve nobody and never will are destroyed: those that failed, and, as long as another serves, those
    /// of lanes that were given up before they served.
    pub(super) fn discard(&self) -> Go<()> {
        let is_current = |machine: &Machine| self.current.is_some_and(|current| current.id == machine.id);
        let replaced = || self.machines.iter().copied().filter(|machine| !is_current(machine));
        let another_serves = replaced().any(|machine| self.context.seen.serves(machine));
        let useless = |machine: &&Machine| {
            let never_served = machine.state != State::Started || machine.checked && machine.passing.is_empty();
            self.has_failed(machine) || machine.host_ok && never_served && another_serves
        };
        all(replaced().filter(useless).map(|machine| Step::DestroyMachine(machine.id.clone())))
    }

    /// The port on which a live lane is controlled is wanted by the Service itself: Fly would send users to that lane's
    /// frps. This lane is cordoned first, and no other made before the edges have heard of it.
    pub(super) fn free_the_control_port(&self) -> Go<()> {
        if self.current.is_some() {
            return Ok(());
        }
        let clashes = |machine: &&&Machine| {
            machine.ours.as_ref().is_some_and(|ours| self.recipe.ports.contains(&ours.control_port))
        };
        for machine in self.machines.iter().filter(clashes) {
            if !machine.cordoned {
                return Err(Halt(act(Step::Cordon(machine.id.clone()))));
            }
            self.wait_until_cordon_is_known(machine)?;
        }
        Ok(())
    }

    /// The lane's Machine is there, runs and is not cordoned.
    pub(super) fn make(&self) -> Go<()> {
        let Some(machine) = self.current else {
            let pause = self.context.memory.pause(self.context.now);
            return Err(Halt(match self.lane_to_make() {
                Some(_) if !pause.is_zero() => wait_for(Waiting::MachineStart, Look::Everything, pause),
                Some(lane) => act(Step::CreateMachine(Box::new(lane))),
                None => Next::Settled, // every port is taken: the Service would need all 64,512 of them
            }));
        };
        if machine.cordoned {
            let marked = machine.ours.as_ref().is_some_and(|ours| ours.draining_since.is_some());
            let unmark = marked.then(|| Step::StopDraining(machine.id.clone()));
            return all(unmark.into_iter().chain([Step::Uncordon(machine.id.clone())]));
        }
        if self.shares_its_control_port(machine) && !self.context.seen.serves(machine) {
            return Err(Halt(act(Step::DestroyMachine(machine.id.clone()))));
        }
        match machine.state {
            State::Started => Ok(()),
            State::Stopped => Err(Halt(act(Step::StartMachine(machine.id.clone())))),
            State::Pending | State::Failed | State::Gone => {
                Err(Halt(wait(Waiting::MachineStart, Look::Machines(vec![machine.id.clone()]))))
            }
        }
    }

    /// The lane's frpc is there, as it should be.
    pub(super) fn connect(&self) -> Go<()> {
        let Some(frpc) = self.frpc() else { return Ok(()) };
        let deployed = self.context.seen.deployment(&frpc.machine);
        let applied = deployed.is_some_and(|d| self.context.memory.applied.get(&d.object.name) == Some(&d.version));
        let configured = self.objects.config_maps.iter().any(|map| map.machine == frpc.machine);
        let create = (!configured).then(|| Step::CreateConfigMap(Box::new(frpc.clone())));
        let apply = (!applied).then(|| Step::ApplyDeployment(Box::new(frpc)));
        all(create.into_iter().chain(apply))
    }

    /// Traffic passes through the lane.
    pub(super) fn serve(&self) -> Go<()> {
        match self.current {
            Some(machine) if !self.context.seen.serves(machine) => Err(Halt(wait(
                Waiting::Traffic,
                if machine.checked { Look::Machines(vec![machine.id.clone()]) } else { Look::Objects },
            ))),
            _ => Ok(()),
        }
    }

    /// Lanes that are not wanted any more are cordoned once the edges know the one that serves, drained and destroyed.
    pub(super) fn replace(&self) -> Go<()> {
        let Some(current) = self.current else { return Ok(()) };
        let old: Vec<&Machine> = self.machines.iter().copied().filter(|machine| machine.id != current.id).collect();
        let mut waits = Vec::new();
        for machine in old {
            match self.retire(machine, current) {
                Err(Halt(Next::Wait(wait))) => waits.push(wait),
                other => other?,
            }
        }
        match waits.into_iter().min_by_key(|wait| wait.after) {
            Some(wait) => Err(Halt(Next::Wait(wait))),
            None => Ok(()),
        }
    }

    /// frpc objects whose Machine is gone are deleted: at once if this process destroyed it, else when it was missing
    /// for a while, since one list alone may lag.
    pub(super) fn clear(&self) -> Go<()> {
        let mut steps = Vec::new();
        let mut unsure = false;
        let mut orphan = |object: &LaneObject, step: fn(String) -> Step| {
            if self.all.iter().any(|machine| machine.id == object.machine) {
                return;
            }
            let context = self.context;
            let missing = context.memory.unlisted.elapsed(&object.machine, context.now).unwrap_or_default();
            let destroyed = context.destroyed(&object.machine);
            if destroyed || missing >= BELIEVED { steps.push(step(object.name.clone())) } else { unsure = true }
        };
        self.objects.deployments.iter().for_each(|d| orphan(&d.object, Step::DeleteDeployment));
        self.objects.config_maps.iter().for_each(|map| orphan(map, Step::DeleteConfigMap));
        all(steps.into_iter())?;
        match unsure {
            true => Err(Halt(wait_for(Waiting::SecondLook, Look::Everything, BELIEVED))),
            false => Ok(()),
        }
    }

    /// One step on the way out for a lane that is replaced by a lane that serves.
    fn retire(&self, machine: &Machine, current: &Machine) -> Go<()> {
        let Context { settings, memory, now, .. } = *self.context;
        let destroy = || Err(Halt(act(Step::DestroyMachine(machine.id.clone()))));
        // What its frpc lost, or never had, it has no connections of. It may end early.
        let reached = !machine.checked || !machine.passing.is_empty();
        if machine.state != State::Started || !machine.host_ok || !reached {
            return destroy();
        }
        if !machine.cordoned {
            let healthy = memory.in_service.elapsed(&current.id, now).unwrap_or_default();
            let settle_time = settings.lanes.settle_time;
            if healthy >= settle_time {
                return Err(Halt(act(Step::Cordon(machine.id.clone()))));
            }
            let look = Look::Machines(vec![current.id.clone()]);
            return Err(Halt(wait_for(Waiting::Settling, look, settle_time - healthy)));
        }
        let Some(since) = machine.ours.as_ref().and_then(|ours| ours.draining_since) else {
            return Err(Halt(act(Step::StartDraining(machine.id.clone(), now.wall))));
        };
        self.wait_until_cordon_is_known(machine)?;
        let drained = now.wall.duration_since(since).unwrap_or_default();
        let timeout = settings.lanes.drain_timeout;
        if drained >= timeout {
            return destroy();
        }
        Err(Halt(wait_for(Waiting::Draining, Look::Everything, timeout - drained)))
    }

    fn wait_until_cordon_is_known(&self, machine: &Machine) -> Go<()> {
        let context = self.context;
        let settle_time = context.settings.lanes.settle_time;
        let known = context.memory.cordoned.elapsed(&machine.id, context.now).unwrap_or_default();
        if known >= settle_time {
            return Ok(());
        }
        let look = Look::Machines(vec![machine.id.clone()]);
        Err(Halt(wait_for(Waiting::Settling, look, settle_time - known)))
    }

    /// A Machine of the wanted generation that serves, or will.
    fn can_serve(&self, machine: &Machine) -> bool {
        let context = self.context;
        let lost = context.memory.host_lost.elapsed(&machine.id, context.now).is_some_and(|lost| lost >= HOST_PATIENCE);
        machine.ours.as_ref().is_some_and(|ours| ours.generation == self.generation && ours.lane == INDEX)
            && !self.has_failed(machine)
            && !lost
    }

    /// It will not come to run by itself.
    fn has_failed(&self, machine: &Machine) -> bool {
        let context = self.context;
        let stuck = context.memory.pending.elapsed(&machine.id, context.now).is_some_and(|long| long >= START_PATIENCE);
        machine.state == State::Failed || stuck && machine.host_ok
    }

    /// Should two Machines have been given one control port (Fly's lists lag), an frpc may reach the wrong one.
    fn shares_its_control_port(&self, machine: &Machine) -> bool {
        let port = machine.ours.as_ref().map(|ours| ours.control_port);
        self.machines.iter().any(|other| {
            other.id != machine.id && !other.cordoned && other.ours.as_ref().map(|ours| ours.control_port) == port
        })
    }

    fn lane_to_make(&self) -> Option<Lane> {
        let taken = |port| self.recipe.ports.contains(&port) || self.all.iter().any(|m| m.ports.contains(&port));
        // Also one that is being destroyed holds its name for a while.
        let holders = self.app.machines.iter().filter(|machine| {
            machine.ours.as_ref().is_some_and(|ours| ours.generation == self.generation && ours.lane == INDEX)
        });
        let attempt = holders.filter_map(|machine| names::attempt(&machine.name)).max().unwrap_or(0) + 1;
        Some(Lane {
            recipe: self.recipe.clone(),
            generation: self.generation.clone(),
            index: INDEX,
            name: names::machine(&self.generation, INDEX, attempt),
            control_port: control_port(self.context.settings.lanes.control_port_base, taken)?,
        })
    }

    fn frpc(&self) -> Option<Frpc> {
        let machine = self.current?;
        let lane = Lane {
            recipe: self.recipe.clone(),
            generation: self.generation.clone(),
            index: INDEX,
            name: machine.name.clone(),
            control_port: machine.ours.as_ref()?.control_port,
        };
        Some(Frpc { lane, machine: machine.id.clone(), secret: self.secret.to_owned() })
    }
}
