//! A pure stand-in for Fly and the cluster: it does what a step says, and lets time pass. What it shows is what a plan
//! gets to see; a crash forgets all that was seen.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::super::{Look, Next, Plan, Settings, Step, Wait, plan};
use crate::config::{LaneConfig, PodFile};
use crate::service::machine_size::MachineSize;
use crate::service::{Port, Service};
use crate::tunnel::imagine::Imagination;
use crate::tunnel::memory::{Memory, Now};
use crate::tunnel::names::{self, Owner};
use crate::tunnel::observed::{App, Machine, Objects, Observed, OurApp, State, Unlisted};
use crate::tunnel::{TunnelId, desired};

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
    /// Another owner's App that has the address.
    pub holder: Option<String>,
    /// The operator is to be uninstalled.
    pub draining: bool,
}

const BOOT: Duration = Duration::from_millis(1500);

/// A Service `default/web` with port 443.
pub fn reality() -> Reality {
    let owner = Owner { cluster_name: "home".into(), class: crate::config::DEFAULT_CLASS.into() };
    let mut service = Service::default();
    service.metadata.namespace = "default".into();
    service.metadata.name = "web".into();
    service.spec.kind = "LoadBalancer".into();
    service.spec.load_balancer_class = Some(owner.class.clone());
    service.spec.cluster_ip = "10.96.0.7".into();
    service.spec.ports = vec![Port { protocol: None, port: 443 }];
    let lanes = LaneConfig {
        region: "ord".into(),
        size: MachineSize::parse("shared-cpu-1x").expect("a size"),
        frps_image: "frps:1".into(),
        frpc_image: "frpc:1".into(),
        frpc_pod: PodFile::default(),
        control_port_base: 7000,
        service_checks: true,
        settle_time: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(60),
    };
    Reality {
        service,
        app: App::Absent,
        objects: Objects::default(),
        imagination: Imagination::new(&names::finalizer(&owner.class), |number, _| format!("m{number}")),
        settings: Settings { lanes, finalizer: names::finalizer(&owner.class) },
        owner,
        now: Duration::ZERO,
        seen: Observed::default(),
        memory: Memory::default(),
        story: String::new(),
        booting: Vec::new(),
        app_going: false,
        holder: None,
        draining: false,
    }
}

impl Reality {
    pub fn ports(&mut self, ports: &[u16]) {
        self.say(&format!("— the Service's ports are {ports:?} now"));
        self.service.spec.ports = ports.iter().map(|port| Port { protocol: None, port: *port }).collect();
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

    pub fn machines(&self) -> Vec<&Machine> {
        match &self.app {
            App::Ours(app) => app.machines.iter().filter(|machine| machine.exists()).collect(),
            _ => Vec::new(),
        }
    }

    pub fn plan(&mut self) -> Plan {
        let finalizer = &self.settings.finalizer;
        let mut tunnel = desired::tunnel(&self.service, &self.owner, finalizer, &self.settings.lanes);
        if self.draining {
            tunnel = tunnel.and_then(|tunnel| desired::drained(tunnel, &self.service, finalizer));
        }
        self.seen.service = tunnel.is_some().then(|| Box::new(self.service.clone()));
        let id = TunnelId { namespace: "default".into(), name: "web".into() };
        let tunnel = tunnel.unwrap_or_else(|| desired::removed(id, &self.owner));
        let now = self.clock();
        self.memory.note(&self.seen, now);
        let plan = plan(&tunnel, &self.settings, &self.seen, &self.memory, now);
        super::lint(self, &plan);
        plan
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
        let next = self.plan().next;
        match &next {
            Next::Look(look) => self.look(look),
            Next::Act(steps) => steps.iter().for_each(|step| self.act(step)),
            Next::Wait(Wait { what, .. }) => self.say(&format!("  wait for {what}")),
            Next::Settled => self.say("  settled"),
            Next::Left(why) => self.say(&format!("  left: {why}")),
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
                let served = deployments.iter().any(|deployment| deployment.object.machine == machine.id);
                let runs = machine.state == State::Started && machine.host_ok;
                machine.passing = if served && runs { machine.user_ports().collect() } else { Vec::new() };
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
                self.seen.unlisted = None;
            }
            Look::Objects => self.seen.objects = Some(self.objects.clone()),
            Look::AppList => {
                let unlisted = Unlisted { holder: self.holder.clone() };
                self.seen.unlisted = matches!(self.app, App::Absent).then_some(unlisted);
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
            service: Some(Box::new(std::mem::take(&mut self.service))),
            app: Some(std::mem::replace(&mut self.app, App::Absent)),
            objects: Some(std::mem::take(&mut self.objects)),
            ..Observed::default()
        };
        self.imagination.act(step, &mut truth, &mut self.memory, now);
        let Observed { service: Some(service), app: Some(app), objects: Some(objects), .. } = truth else {
            panic!("nothing of it is forgotten");
        };
        (self.service, self.app, self.objects) = (*service, app, objects);
        self.look(&Look::Everything);
    }

    pub fn change(&mut self, id: &str, edit: impl FnOnce(&mut Machine)) {
        edit(self.our_app().machines.iter_mut().find(|machine| machine.id == id).expect("a Machine of that ID"));
    }

    fn clock(&self) -> Now {
        Now { monotonic: self.now, wall: SystemTime::UNIX_EPOCH + self.now }
    }

    pub fn say(&mut self, line: &str) {
        let last = self.story.lines().last().map(|last| last.split_once("s ").map_or(last, |(_, text)| text));
        if last != Some(line) {
            let _ = writeln!(self.story, "{:6.2}s {line}", self.now.as_secs_f64());
        }
    }
}
