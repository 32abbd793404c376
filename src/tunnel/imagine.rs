//! A world in which every step succeeds at once, to see where plans lead: for `--dry-run`, and for tests.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use super::condition::Shown;
use super::effect::Reply;
use super::keys::TunnelKeys;
use super::lane::{Frpc, Lane};
use super::memory::Memory;
use super::names;
use super::now::Now;
use super::observed::{Address, App, Deployment, LaneObject, Machine, Observed, Ours, State};
use super::plan::step::{ServiceStep, Step, Wait};
use crate::service::{CONDITION, Ingress, Service, StatusCondition};

/// How long something takes that nobody knows beforehand.
const SOON: Duration = Duration::from_secs(1);

/// Replies that were made up so far.
pub struct Imagination {
    finalizer: String,
    /// Name of the App.
    app: String,
    /// From the number of the Machine, and what it is made from.
    machine_id: fn(u32, &Lane) -> String,
    machines: u32,
    addresses: u8,
    keys: u32,
}

impl Imagination {
    /// Nothing yet.
    pub fn new(finalizer: &str, app: &str, machine_id: fn(u32, &Lane) -> String) -> Imagination {
        Imagination { finalizer: finalizer.into(), app: app.into(), machine_id, machines: 0, addresses: 0, keys: 0 }
    }

    /// The ID that the next Machine will have.
    pub fn next_machine(&self, lane: &Lane) -> String {
        (self.machine_id)(self.machines + 1, lane)
    }

    /// The step as people read it. An address that was made up is not shown as if it were real.
    pub fn describe(&self, step: &Step) -> String {
        let is_made_up = |ip: &IpAddr| (1..=self.addresses).any(|number| *ip == made_up_address(number));
        match step {
            Step::For(_, ServiceStep::Show(shown)) if shown.addresses.iter().any(is_made_up) => {
                format!("show [the new address] {}", shown.condition.reason)
            }
            step => step.to_string(),
        }
    }

    /// The step is done.
    pub fn act(&mut self, step: &Step, seen: &mut Observed, memory: &mut Memory, now: Now) {
        let reply = self.reply(step, seen, now);
        seen.done(step, reply, &self.app, &mut memory.deeds, now);
    }

    fn reply(&mut self, step: &Step, seen: &Observed, now: Now) -> Reply {
        match step {
            Step::For(id, step) => match seen.member(id) {
                Some(service) => Reply::Service(Box::new(self.service(service.clone(), step))),
                None => Reply::Done,
            },
            Step::AllocateAddress(_) => {
                self.addresses += 1;
                let ip = made_up_address(self.addresses).into();
                Reply::Address(Address { ip, dedicated: true, created_at: created_at(now) })
            }
            Step::CreateMachine(lane) => {
                let machine = machine(self.next_machine(lane), lane, now);
                self.machines += 1;
                Reply::Machine(machine)
            }
            Step::CreateKeys => {
                self.keys += 1;
                let number = self.keys;
                // The same in every run, so that stories can be compared.
                let keys = TunnelKeys::read(|name| Some(format!("{name} {number}")));
                keys.map_or(Reply::Done, |keys| Reply::Keys(keys, String::new()))
            }
            Step::LabelKeys(name) => {
                let mut secrets = seen.objects.iter().flat_map(|objects| &objects.keys);
                let labelled = secrets.find(|secret| secret.name == *name);
                labelled.map_or(Reply::Done, |secret| Reply::Keys(secret.keys.clone(), String::new()))
            }
            Step::ApplyDeployment(frpc) => Reply::Deployment(self.deployment(frpc, seen)),
            _ => Reply::Done,
        }
    }

    fn service(&self, mut service: Service, step: &ServiceStep) -> Service {
        match step {
            ServiceStep::AddFinalizer => service.metadata.finalizers.push(self.finalizer.clone()),
            ServiceStep::Show(shown) => show(&mut service, shown),
            ServiceStep::RemoveFinalizer => {
                service.metadata.finalizers.retain(|name| *name != self.finalizer);
                service.status.conditions.retain(|condition| condition.r#type != CONDITION);
            }
        }
        service
    }

    fn deployment(&self, frpc: &Frpc, seen: &Observed) -> Deployment {
        let object = LaneObject { name: names::lane_object(&self.app, &frpc.machine), machine: frpc.machine.clone() };
        let made = || Deployment { object, version: 1, available: true, trouble: None, foreign: false };
        seen.deployment(&frpc.machine).cloned().map_or_else(made, |there| Deployment {
            available: true,
            trouble: None,
            foreign: false,
            ..there
        })
    }

    /// The thing that is waited for happens. Returns how long it took.
    pub fn wait(wait: &Wait, seen: &mut Observed, memory: &mut Memory) -> Duration {
        if memory.deeds.app_deleted.is_some() {
            seen.app = Some(App::Absent);
        }
        let deployments = seen.objects.iter().flat_map(|objects| &objects.deployments);
        let with_frpc: Vec<String> = deployments.map(|deployment| deployment.object.machine.clone()).collect();
        if let Some(App::Ours(app)) = &mut seen.app {
            for machine in app.machines.iter_mut().filter(|machine| machine.exists()) {
                machine.state = State::Started;
                if with_frpc.contains(&machine.id) {
                    machine.passing = machine.user_ports().collect();
                    machine.probe_passes = machine.probe_passes.map(|_| true);
                }
            }
        }
        wait.after.unwrap_or(SOON)
    }
}

/// One of the addresses that are kept for documentation (RFC 5737).
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
        region: String::new(),
        host: None,
        ours: Some(Ours {
            generation: lane.generation.clone(),
            slot: lane.slot,
            control_port: lane.control_port,
            probe_port: lane.probe_port,
            pool: lane.pool,
            retiring_since: None,
            spelling: None,
            recipe: Some(lane.recipe.to_text().into()),
        }),
        version: String::new(),
        image: lane.recipe.frps_image.clone(),
        guest: Some(lane.recipe.lane.size.guest()),
        edits: Vec::new(),
        exposed: lane.recipe.exposed(lane.control_port),
        passing: Vec::new(),
        probe_passes: lane.probe_port.map(|_| false),
    }
}

/// A text that sorts by time, as Fly's do.
fn created_at(now: Now) -> String {
    let since_1970 = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:020}", since_1970.as_millis())
}

/// The Service shows this.
pub fn show(service: &mut Service, shown: &Shown) {
    if !shown.condition_alone {
        service.status.load_balancer.ingress = shown.addresses.iter().copied().map(Ingress::proxy).collect();
    }
    service.status.conditions.retain(|condition| condition.r#type != CONDITION);
    service.status.conditions.push(StatusCondition {
        r#type: CONDITION.into(),
        status: shown.ready.status().into(),
        reason: shown.condition.reason.to_string(),
        message: shown.message(),
        last_transition_time: shown.ready.since().map(super::ready::rfc3339).unwrap_or_default(),
    });
}
