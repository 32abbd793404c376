//! A pure stand-in for Fly and the cluster: it does what a step says, and lets time pass. A plan gets to see what it shows, and
//! a crash forgets all that was seen.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::super::step::{Look, Step, Wait};
use super::super::{Next, Plan, plan};
use crate::examples;
use crate::service::Service;
use crate::tunnel::imagine::Imagination;
use crate::tunnel::invariants::{self, Deed, Seen};
use crate::tunnel::memory::Memory;
use crate::tunnel::names::Owner;
use crate::tunnel::now::Now;
use crate::tunnel::observed::{Absence, App, Deployment, Machine, Objects, Observed, OurApp, State};
use crate::tunnel::settings::Settings;
use crate::tunnel::{Tunnel, TunnelId, desired};

pub struct Reality {
    pub service: Service,
    pub app: App,
    pub objects: Objects,
    pub settings: Settings,
    pub owner: Owner,
    pub now: Duration,
    /// The operator's process: what it saw and remembers.
    pub seen: Observed,
    pub memory: Memory,
    /// Everything that happened, for people.
    pub story: String,
    imagination: Imagination,
    /// Machines that are booting, and until when.
    booting: Vec<(String, Duration)>,
    app_going: bool,
    /// The organisation's list has the App, whatever other reads say.
    pub listed: bool,
    /// Another owner's App that has the address.
    pub holder: Option<String>,
    /// The operator is to be uninstalled.
    pub draining: bool,
    /// Why the cluster runs no frpc that is made from now on.
    pub frpc_trouble: Option<String>,
}

const BOOT: Duration = Duration::from_millis(1500);

/// A Service `default/web` with port 443.
pub fn reality() -> Reality {
    let settings = examples::settings();
    let app = examples::tunnel().app;
    Reality {
        service: examples::service(),
        app: App::Absent,
        objects: Objects::default(),
        imagination: Imagination::new(&settings.finalizer, &app, |number, _| format!("m{number}")),
        settings,
        owner: examples::owner(),
        now: Duration::ZERO,
        seen: Observed::default(),
        memory: Memory::default(),
        story: String::new(),
        booting: Vec::new(),
        app_going: false,
        listed: false,
        holder: None,
        draining: false,
        frpc_trouble: None,
    }
}

impl Reality {
    pub fn ports(&mut self, ports: &[u16]) {
        self.say(&format!("— the Service's ports are {ports:?} now"));
        self.service.spec.ports = examples::ports(ports);
        self.forget_view();
    }

    pub fn delete_service(&mut self) {
        self.say("— the Service is deleted");
        self.service.metadata.deletion_timestamp = Some("now".into());
        self.forget_view();
    }

    /// Another process begins, to take everything down.
    pub fn drain(&mut self) {
        self.say("— the operator is to be uninstalled");
        self.draining = true;
        self.crash();
    }

    /// The process ends and another begins.
    pub fn crash(&mut self) {
        self.memory = Memory::default();
        self.forget_view();
    }

    pub fn forget_view(&mut self) {
        self.seen = Observed::default();
    }

    pub fn our_app(&mut self) -> &mut OurApp {
        match &mut self.app {
            App::Ours(app) => app,
            other => panic!("no App of ours: {other:?}"),
        }
    }

    /// Those of our App, if it is there.
    pub fn our_machines(&mut self) -> &mut [Machine] {
        match &mut self.app {
            App::Ours(app) => &mut app.machines,
            _ => &mut [],
        }
    }

    pub fn machines(&self) -> Vec<&Machine> {
        match &self.app {
            App::Ours(app) => app.machines.iter().filter(|machine| machine.exists()).collect(),
            _ => Vec::new(),
        }
    }

    pub fn plan(&mut self) -> Plan {
        let (tunnel, is_ours) = self.tunnel();
        self.seen.services = is_ours.then(|| self.service.clone()).into_iter().collect();
        let now = self.clock();
        self.memory.note(&self.seen, now);
        plan(&tunnel, &self.settings, &self.seen, &self.memory, now)
    }

    /// The tunnel, and whether its Service is any business of ours.
    fn tunnel(&self) -> (Tunnel, bool) {
        let desire = if self.draining { desired::drained_tunnel } else { desired::tunnel };
        let id = TunnelId::of(&self.service.id());
        match desire(&self.service, &self.owner, &self.settings) {
            Some(tunnel) => (tunnel, true),
            None => (desired::without_members(id, &self.owner), false),
        }
    }

    /// Makes sure that the step does no harm, whatever the operator saw.
    fn check(&self, step: &Step, truth: &Observed) {
        let (tunnel, _) = self.tunnel();
        let known = Seen { tunnel: &tunnel, settings: &self.settings, seen: truth };
        // The operator saw its Machines a moment ago, and what it saw was checked with the plan.
        let of_machines = |deed: &Deed| matches!(deed, Deed::TakeOut(_) | Deed::MakeMachine { .. });
        let deed = Deed::of(step).filter(|deed| !of_machines(deed));
        if let Some(what) = deed.and_then(|deed| invariants::wrong(deed, &[deed], &known)) {
            panic!("{what}: {step}\n{}", self.story);
        }
    }

    /// Plans and acts until the plan has nothing to do but wait for longer than `patience`, or nothing at all.
    pub fn run(&mut self, patience: Duration) -> Next {
        for _ in 0..500 {
            match self.turn() {
                Next::Look(_) | Next::Act(_) => {}
                Next::Wait(wait) if wait.after.unwrap_or_default() <= patience => self.pass(&wait),
                other => return other,
            }
        }
        panic!("it does not come to rest:\n{}", self.story);
    }

    /// One plan, and what it says.
    pub fn turn(&mut self) -> Next {
        let Plan { next, why } = self.plan();
        if let Some(why) = why {
            self.say(&format!("  ({why})"));
        }
        match &next {
            Next::Look(look) => self.look(look),
            Next::Act(steps) => steps.iter().for_each(|step| self.act(step)),
            Next::Wait(Wait { what, .. }) => self.say(&format!("  wait for {what}")),
            Next::Settled => self.say("  settled"),
            Next::TryAgain => self.say("  try again"),
            Next::LeftAlone(why) => self.say(&format!("  left alone: {why}")),
            Next::MadeAgain => self.say("  made again"),
            Next::Gone => self.say("  gone"),
        }
        next
    }

    /// Time passes as the plan wishes, and then it looks.
    pub fn pass(&mut self, wait: &Wait) {
        self.advance(wait.after.unwrap_or(Duration::from_millis(250)));
        self.look(&wait.look);
    }

    pub fn advance(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        let (up, booting) = self.booting.drain(..).partition(|(_, until)| *until <= now);
        self.booting = booting;
        let deployments = &self.objects.deployments;
        if let App::Ours(app) = &mut self.app {
            for machine in &mut app.machines {
                let up = up.iter().any(|(id, _): &(String, Duration)| *id == machine.id);
                if up && machine.state == State::Pending {
                    machine.state = State::Started;
                }
                let of_this = |deployment: &&Deployment| deployment.object.machine == machine.id;
                let served = deployments.iter().find(of_this).is_some_and(|deployment| deployment.available);
                let runs = machine.state == State::Started && machine.host_ok;
                machine.passing = if served && runs { machine.user_ports().collect() } else { Vec::new() };
                machine.probe_passes = machine.probe_passes.map(|_| served && runs);
            }
        }
        if self.app_going {
            self.app = App::Absent;
            self.app_going = false;
        }
    }

    pub fn look(&mut self, look: &Look) {
        match look {
            Look::Everything | Look::App | Look::Machines(_) => {
                self.seen.app = Some(self.app.clone());
                self.seen.objects = Some(self.objects.clone());
                self.seen.absence = None;
                let now = self.clock();
                self.memory.looked(&Look::Everything, &self.seen, now);
            }
            Look::Objects => self.seen.objects = Some(self.objects.clone()),
            Look::Frpc => self.seen.frpc_connected = Some(self.objects.deployments.iter().any(|d| d.available)),
            Look::TimeOfDeletion => self.memory.deeds.time_of_deletion = Some(self.clock().monotonic),
            Look::AppList if self.listed => self.memory.app_is_listed(),
            Look::AppList => {
                let absence = Absence { holder: self.holder.clone() };
                self.seen.absence = matches!(self.app, App::Absent).then_some(absence);
            }
        }
    }

    pub fn act(&mut self, step: &Step) {
        self.say(&format!("  {step}"));
        let now = self.clock();
        match step {
            Step::CreateMachine(lane) => {
                let taken = self.machines().iter().any(|machine| machine.name == lane.name);
                assert!(!taken, "two Machines of one name:\n{}", self.story);
                self.booting.push((self.imagination.next_machine(lane), self.now + BOOT));
            }
            Step::StartMachine(id) => self.booting.push((id.clone(), self.now + BOOT)),
            Step::DeleteApp => self.app_going = true,
            _ => {}
        }
        let mut truth = Observed {
            services: vec![self.service.clone()],
            app: Some(std::mem::replace(&mut self.app, App::Absent)),
            objects: Some(std::mem::take(&mut self.objects)),
            ..Observed::default()
        };
        self.check(step, &truth);
        self.imagination.act(step, &mut truth, &mut self.memory, now);
        let service = truth.service().expect("it stays").clone();
        let (Some(app), Some(objects)) = (truth.app, truth.objects) else { panic!("nothing of it is forgotten") };
        (self.service, self.app, self.objects) = (service, app, objects);
        if let (Step::ApplyDeployment(frpc), Some(trouble)) = (step, &self.frpc_trouble) {
            let made = self.objects.deployments.iter_mut().filter(|d| d.object.machine == frpc.machine);
            made.for_each(|d| (d.available, d.trouble) = (false, Some(trouble.clone())));
        }
        self.look(&Look::Everything);
    }

    pub fn change(&mut self, id: &str, edit: impl FnOnce(&mut Machine)) {
        edit(self.our_app().machines.iter_mut().find(|machine| machine.id == id).expect("a Machine of that ID"));
    }

    pub fn clock(&self) -> Now {
        Now { monotonic: self.now, wall: SystemTime::UNIX_EPOCH + self.now }
    }

    pub fn say(&mut self, line: &str) {
        let last = self.story.lines().last().map(|last| last.split_once("s ").map_or(last, |(_, text)| text));
        if last != Some(line) {
            let _ = writeln!(self.story, "{:6.2}s {line}", self.now.as_secs_f64());
        }
    }
}
