//! A world in which every step succeeds at once, to see where plans lead: for `--dry-run`, and for tests.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::keys::TunnelKeys;
use super::lane::Lane;
use super::memory::{Memory, Now};
use super::observed::{Address, App, Deployment, KeysSecret, LaneObject, Machine, Observed, OurApp, Ours, State};
use super::plan::{Shown, Step, Wait};
use crate::service::{CONDITION, Ingress, Service};

/// How long something takes that nobody knows beforehand.
const SOON: Duration = Duration::from_secs(1);

/// What was made up so far.
pub struct Imagination {
    finalizer: String,
    /// From the number of the Machine, and what it is made from.
    machine_id: fn(u32, &Lane) -> String,
    machines: u32,
    addresses: u8,
    keys: u32,
}

impl Imagination {
    /// Nothing yet.
    pub fn new(finalizer: &str, machine_id: fn(u32, &Lane) -> String) -> Imagination {
        Imagination { finalizer: finalizer.into(), machine_id, machines: 0, addresses: 0, keys: 0 }
    }

    /// The ID that the next Machine will have.
    pub fn next_machine(&self, lane: &Lane) -> String {
        (self.machine_id)(self.machines + 1, lane)
    }

    /// The step as people read it. An address that was made up is not shown as if it were real.
    pub fn describe(&self, step: &Step) -> String {
        (1..=self.addresses).fold(step.to_string(), |text, number| {
            text.replace(&made_up_address(number).to_string(), "the new address")
        })
    }

    /// The step is done.
    pub fn act(&mut self, step: &Step, seen: &mut Observed, memory: &mut Memory, now: Now) {
        match step {
            Step::AddFinalizer => {
                service(seen, |service| service.metadata.finalizers.push(self.finalizer.clone()));
            }
            Step::RemoveFinalizer => service(seen, |service| {
                service.metadata.finalizers.retain(|name| *name != self.finalizer);
                service.status.conditions.retain(|condition| condition.r#type != CONDITION);
            }),
            Step::ShowStatus(shown) => service(seen, |service| show(service, shown)),
            Step::CreateApp => {
                seen.app = Some(App::Ours(OurApp::default()));
                memory.app_created = true;
                memory.app_deleted = None;
            }
            Step::DeleteApp => memory.app_deleted = Some(now.monotonic),
            Step::AllocateAddress => {
                memory.app_created = false;
                self.addresses += 1;
                let ip = made_up_address(self.addresses).into();
                app(seen, |app| app.addresses.push(Address { ip, dedicated: true, created_at: created_at(now) }));
            }
            Step::ReleaseAddress(ip) => app(seen, |app| app.addresses.retain(|address| address.ip != *ip)),
            Step::CreateMachine(lane) => {
                memory.created(now);
                let machine = machine(self.next_machine(lane), lane, now);
                self.machines += 1;
                app(seen, |app| app.machines.push(machine));
            }
            Step::StartMachine(id) => seen.change_machine(id, |machine| machine.state = State::Pending),
            Step::DestroyMachine(id) => seen.change_machine(id, |machine| machine.state = State::Gone),
            Step::Cordon(id) => seen.change_machine(id, |machine| machine.cordoned = true),
            Step::Uncordon(id) => seen.change_machine(id, |machine| machine.cordoned = false),
            Step::StartDraining(id, since) => seen.mark_draining(id, Some(*since)),
            Step::StopDraining(id) => seen.mark_draining(id, None),
            Step::CreateKeys => {
                self.keys += 1;
                let number = self.keys;
                // The same in every run, so that stories can be compared.
                let keys = TunnelKeys::read(|name| Some(format!("{name} {number}")));
                let named = keys.map(|keys| KeysSecret { name: format!("keys-{}", keys.fingerprint()), keys });
                seen.objects_mut().keys.extend(named);
            }
            Step::CreateConfigMap(frpc) => seen.objects_mut().config_maps.push(lane_object(&frpc.machine)),
            Step::ApplyDeployment(frpc) => {
                let deployments = &mut seen.objects_mut().deployments;
                if !deployments.iter().any(|deployment| deployment.object.machine == frpc.machine) {
                    let object = lane_object(&frpc.machine);
                    deployments.push(Deployment { object, version: 1, available: true });
                }
                for deployment in deployments.iter_mut().filter(|d| d.object.machine == frpc.machine) {
                    deployment.available = true;
                    memory.applied.insert(deployment.object.name.clone(), deployment.version);
                }
            }
            Step::DeleteDeployment(name) => seen.objects_mut().deployments.retain(|d| d.object.name != *name),
            Step::DeleteConfigMap(name) => seen.objects_mut().config_maps.retain(|map| map.name != *name),
            Step::DeleteSecret(name) => {
                seen.objects_mut().keys.retain(|secret| secret.name != *name);
                seen.objects_mut().broken_keys.retain(|broken| broken != name);
            }
        }
    }

    /// What is waited for happens. Returns how long it took.
    pub fn wait(wait: &Wait, seen: &mut Observed, memory: &mut Memory) -> Duration {
        if memory.app_deleted.is_some() {
            seen.app = Some(App::Absent);
        }
        let with_frpc: Vec<String> = seen.objects_mut().deployments.iter().map(|d| d.object.machine.clone()).collect();
        app(seen, |app| {
            for machine in app.machines.iter_mut().filter(|machine| machine.exists()) {
                machine.state = State::Started;
                if with_frpc.contains(&machine.id) {
                    machine.passing = machine.user_ports().collect();
                }
            }
        });
        wait.after.unwrap_or(SOON)
    }
}

/// Of those that are kept for documentation (RFC 5737).
fn made_up_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn machine(id: String, lane: &Lane, now: Now) -> Machine {
    Machine {
        id,
        name: lane.name.clone(),
        state: State::Pending,
        host_ok: true,
        cordoned: false,
        created_at: created_at(now),
        ours: Some(Ours {
            generation: lane.generation.clone(),
            lane: lane.index,
            control_port: lane.control_port,
            draining_since: None,
        }),
        size: Some(lane.recipe.size),
        ports: [lane.control_port].iter().chain(&lane.recipe.ports).copied().collect(),
        checked: lane.recipe.service_checks,
        passing: Vec::new(),
    }
}

fn created_at(now: Now) -> String {
    humantime::format_rfc3339_millis(now.wall).to_string()
}

fn lane_object(machine: &str) -> LaneObject {
    LaneObject { name: machine.to_owned(), machine: machine.to_owned() }
}

fn show(service: &mut Service, shown: &Shown) {
    service.status.load_balancer.ingress = shown.addresses.iter().map(|ip| Ingress { ip: Some(*ip) }).collect();
    service.status.conditions.retain(|condition| condition.r#type != CONDITION);
    service.status.conditions.push(kube_client_lite::Condition {
        r#type: CONDITION.into(),
        status: shown.reason.status().into(),
        reason: shown.reason.to_string(),
        message: shown.message.clone(),
        ..Default::default()
    });
}

fn service(seen: &mut Observed, edit: impl FnOnce(&mut Service)) {
    if let Some(service) = &mut seen.service {
        edit(service);
    }
}

fn app(seen: &mut Observed, edit: impl FnOnce(&mut OurApp)) {
    if let Some(app) = seen.our_app_mut() {
        edit(app);
    }
}
