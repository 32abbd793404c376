//! A pure stand-in for Fly and the cluster: it does what a step says, and lets time pass. What it shows is what a plan
//! gets to see; a crash forgets all that was seen.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::super::{Look, Next, Plan, Settings, Shown, Step, Wait, plan};
use crate::config::{LaneConfig, PodFile};
use crate::service::machine_size::MachineSize;
use crate::service::{CONDITION, Ingress, Port, Service};
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::memory::{Memory, Now};
use crate::tunnel::names::{self, Owner};
use crate::tunnel::observed::{
    Address, App, Deployment, KeysSecret, LaneObject, Machine, Objects, Observed, OurApp, Ours, State,
};
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
    machines_made: u32,
    keys_made: u32,
    addresses_made: u8,
    /// Machines that are booting, and until when.
    booting: Vec<(String, Duration)>,
    app_going: bool,
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
        settings: Settings { lanes, finalizer: names::finalizer(&owner.class) },
        owner,
        now: Duration::ZERO,
        seen: Observed::default(),
        memory: Memory::default(),
        story: String::new(),
        machines_made: 0,
        keys_made: 0,
        addresses_made: 0,
        booting: Vec::new(),
        app_going: false,
    }
}

/// Keys that are the same in every run, so that stories can be compared.
fn keys(number: u32) -> TunnelKeys {
    TunnelKeys::read(|name| Some(format!("{name} {number}"))).expect("all entries are there")
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
        let tunnel = desired::tunnel(&self.service, &self.owner, &self.settings.finalizer, &self.settings.lanes);
        self.seen.service = tunnel.is_some().then(|| self.service.clone());
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
            }
            Look::Objects => self.seen.objects = Some(self.objects.clone()),
            Look::AppList => self.memory.unlisted_app = matches!(self.app, App::Absent),
        }
    }

    pub fn act(&mut self, step: &Step) {
        self.say(&format!("  {step}"));
        let created_at = format!("{:09}", self.now.as_millis());
        match step {
            Step::AddFinalizer => self.service.metadata.finalizers.push(self.settings.finalizer.clone()),
            Step::RemoveFinalizer => {
                self.service.metadata.finalizers.clear();
                self.service.status.conditions.clear();
            }
            Step::ShowStatus(shown) => show(&mut self.service, shown),
            Step::CreateApp => {
                self.app = App::Ours(OurApp::default());
                self.memory.app_created = true;
                self.memory.app_deleted = None;
            }
            Step::DeleteApp => {
                self.app_going = true;
                self.memory.app_deleted = Some(self.now);
            }
            Step::CreateKeys => {
                self.keys_made += 1;
                let keys = keys(self.keys_made);
                let name = format!("keys-{}", keys.fingerprint());
                self.objects.keys.push(KeysSecret { name, keys });
            }
            Step::AllocateAddress => {
                self.memory.app_created = false;
                self.addresses_made += 1;
                let ip = [192, 0, 2, self.addresses_made].into();
                self.our_app().addresses.push(Address { ip, dedicated: true, created_at });
            }
            Step::ReleaseAddress(ip) => self.our_app().addresses.retain(|address| address.ip != *ip),
            Step::CreateMachine(lane) => {
                let now = self.clock();
                self.memory.created(now);
                self.machines_made += 1;
                let id = format!("m{}", self.machines_made);
                let taken = self.machines().iter().any(|machine| machine.name == lane.name);
                assert!(!taken, "two Machines of one name:\n{}", self.story);
                self.booting.push((id.clone(), self.now + BOOT));
                let machine = Machine {
                    id,
                    name: lane.name.clone(),
                    state: State::Pending,
                    host_ok: true,
                    cordoned: false,
                    created_at,
                    ours: Some(Ours {
                        generation: lane.generation.clone(),
                        lane: lane.index,
                        control_port: lane.control_port,
                        draining_since: None,
                    }),
                    ports: [lane.control_port].iter().chain(&lane.recipe.ports).copied().collect(),
                    checked: lane.recipe.service_checks,
                    passing: Vec::new(),
                };
                self.our_app().machines.push(machine);
            }
            Step::StartMachine(id) => {
                self.booting.push((id.clone(), self.now + BOOT));
                self.change(id, |machine| machine.state = State::Pending);
            }
            Step::DestroyMachine(id) => self.change(id, |machine| machine.state = State::Gone),
            Step::Cordon(id) => self.change(id, |machine| machine.cordoned = true),
            Step::Uncordon(id) => self.change(id, |machine| machine.cordoned = false),
            Step::StartDraining(id, since) => {
                self.change(id, |m| m.ours.as_mut().expect("ours").draining_since = Some(*since))
            }
            Step::StopDraining(id) => self.change(id, |m| m.ours.as_mut().expect("ours").draining_since = None),
            Step::CreateConfigMap(frpc) => {
                let object = LaneObject { name: frpc.machine.clone(), machine: frpc.machine.clone() };
                self.objects.config_maps.push(object);
            }
            Step::ApplyDeployment(frpc) => {
                let object = LaneObject { name: frpc.machine.clone(), machine: frpc.machine.clone() };
                self.memory.applied.insert(object.name.clone(), 1);
                self.objects.deployments.retain(|deployment| deployment.object.name != object.name);
                self.objects.deployments.push(Deployment { object, version: 1, available: true });
            }
            Step::DeleteDeployment(name) => self.objects.deployments.retain(|d| d.object.name != *name),
            Step::DeleteConfigMap(name) => self.objects.config_maps.retain(|map| map.name != *name),
            Step::DeleteSecret(name) => self.objects.keys.retain(|secret| secret.name != *name),
        }
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

fn show(service: &mut Service, shown: &Shown) {
    service.status.load_balancer.ingress = shown.addresses.iter().map(|ip| Ingress { ip: Some(*ip) }).collect();
    service.status.conditions = vec![kube_client_lite::Condition {
        r#type: CONDITION.into(),
        status: shown.reason.status().into(),
        reason: shown.reason.to_string(),
        message: shown.message.clone(),
        ..Default::default()
    }];
}
