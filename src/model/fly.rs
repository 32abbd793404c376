//! Fly in memory.

use std::net::{IpAddr, Ipv4Addr};

use super::{App, BOOT, Fate, Model, State};
use crate::examples;
use crate::fly::error::{ErrorKind, FlyError};
use crate::fly::{App as WireApp, Fly, ListedMachines, Organization};
use crate::render::address::Assignment;
use crate::render::machine::wire::{CheckResult, ListedMachine, Machine, NewMachine};
use crate::render::objects::MACHINE_LABEL;
use crate::render::objects::read::WireDeployment;
use crate::tunnel::observed::Family;

const ORG: &str = "personal";

/// An App is gone so long after it was asked to go.
const GOING: std::time::Duration = std::time::Duration::from_secs(1);

impl Model {
    /// Carries out a request, unless it fails.
    fn ask<T>(&self, request: impl FnOnce(&mut State) -> Result<T, ErrorKind>) -> Result<T, FlyError> {
        let mut state = self.state();
        let failed = |text: &str| Err(ErrorKind::Unavailable(text.into()).into());
        match state.fate() {
            Fate::Refused => failed("down"),
            Fate::ReplyLost => {
                let _ = request(&mut state);
                failed("the reply is lost")
            }
            Fate::Served => {
                let too_many = state.faults.too_many;
                if state.dice.percent(too_many) {
                    return Err(ErrorKind::RateLimited(None).into());
                }
                request(&mut state).map_err(FlyError::from)
            }
        }
    }
}

impl State {
    /// The App, as far as reads show it.
    fn shown_app(&self, name: &str) -> Result<&App, ErrorKind> {
        self.apps.get(name).filter(|app| app.visible_at <= self.now).ok_or(ErrorKind::NotFound)
    }

    fn app_mut(&mut self, name: &str) -> Result<&mut App, ErrorKind> {
        self.apps.get_mut(name).ok_or(ErrorKind::NotFound)
    }

    fn machine_mut(&mut self, app: &str, id: &str) -> Result<&mut Machine, ErrorKind> {
        let machines = &mut self.app_mut(app)?.machines;
        machines.iter_mut().find(|machine| machine.id == id).ok_or(ErrorKind::NotFound)
    }

    /// The Machine as Fly shows it: a check passes where the frpc of this Machine runs.
    fn shown_machine(&self, machine: &Machine) -> Machine {
        let labelled = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(MACHINE_LABEL).is_some_and(|id| *id == machine.id)
        };
        let runs = |deployment: &&WireDeployment| deployment.status.available_replicas > 0;
        let connected = self.deployments.values().filter(runs).any(|deployment| labelled(&deployment.metadata.labels))
            && self.config_maps.values().any(|map| labelled(&map.metadata.labels));
        let serves = connected && machine.state == "started" && machine.host_status.as_deref() != Some("unreachable");
        let ports =
            machine.config.iter().flat_map(|config| &config.services).filter(|service| !service.checks.is_empty());
        let checks = ports.flat_map(|service| &service.ports).filter_map(|port| port.port).map(|port| CheckResult {
            name: format!("servicecheck-00-tcp-{port}"),
            status: if serves { "passing".into() } else { "critical".into() },
        });
        Machine { checks: checks.collect(), ..machine.clone() }
    }

    /// Whatever is billed is made for a Service that has our finalizer.
    fn watch_for_bills(&self, what: &str, app: &str) {
        let finalizer = examples::settings().finalizer;
        if !self.service_of(app).is_some_and(|service| service.has_finalizer(&finalizer)) {
            self.forbid(&format!("{what} in {app} without the finalizer"));
        }
    }
}

impl Fly for Model {
    fn org(&self) -> &str {
        ORG
    }

    fn app(&self, name: &str) -> Result<WireApp, FlyError> {
        self.ask(|state| {
            let app = state.shown_app(name)?;
            let organization = Organization { slug: app.org.clone() };
            Ok(WireApp { name: name.into(), network: Some(app.network.clone()), organization })
        })
    }

    fn create_app(&self, name: &str, network: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch_for_bills("an App is made", name);
            if state.apps.contains_key(name) {
                return Err(ErrorKind::NameTaken);
            }
            let lag = std::time::Duration::from_millis(state.dice.below(10_000) * state.faults.failures.min(1));
            let visible_at = state.now + lag;
            let app = App { network: network.into(), org: ORG.into(), visible_at, ..App::default() };
            state.apps.insert(name.into(), app);
            state.say(format!("App {name} is made"));
            Ok(())
        })
    }

    fn delete_app(&self, name: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            let gone_at = state.now + GOING;
            let app = state.app_mut(name)?;
            if app.org != ORG {
                state.forbid(&format!("somebody else's App {name} is deleted"));
            }
            app.gone_at.get_or_insert(gone_at);
            state.say(format!("App {name} is to go"));
            Ok(())
        })
    }

    fn apps(&self) -> Result<Vec<WireApp>, FlyError> {
        self.ask(|state| {
            let shown = |(name, app): (&String, &App)| WireApp {
                name: name.clone(),
                network: Some(app.network.clone()),
                organization: Organization { slug: app.org.clone() },
            };
            Ok(state.apps.iter().filter(|(_, app)| app.org == ORG && app.visible_at <= state.now).map(shown).collect())
        })
    }

    fn machines_of_all_apps(&self) -> Result<ListedMachines, FlyError> {
        self.ask(|state| {
            let apps = state.apps.iter().filter(|(_, app)| app.org == ORG && app.visible_at <= state.now);
            let rows = apps.flat_map(|(name, app)| {
                let there = app.machines.iter().filter(|machine| machine.state != "destroyed");
                there.map(|machine| ListedMachine {
                    app_name: name.clone(),
                    id: machine.id.clone(),
                    state: machine.state.clone(),
                    version: machine.version.clone(),
                    ..ListedMachine::default()
                })
            });
            Ok(ListedMachines { machines: rows.collect(), complete: true })
        })
    }

    fn addresses(&self, app: &str) -> Result<Vec<Assignment>, FlyError> {
        self.ask(|state| Ok(state.shown_app(app)?.addresses.clone()))
    }

    fn allocate(&self, app: &str, _: Family) -> Result<Assignment, FlyError> {
        self.ask(|state| {
            state.watch_for_bills("an address is bought", app);
            let number = state.next();
            let ip = IpAddr::V4(Ipv4Addr::from(0xC612_0000 + number)); // 198.18.0.0/15, RFC 2544
            let created_at = format!("{:010}", state.now.as_millis());
            let assignment = Assignment { ip, shared: false, egress: false, created_at };
            let known = &mut state.app_mut(app)?.addresses;
            known.push(assignment.clone());
            if known.len() > 1 {
                state.forbid(&format!("a second address is bought for {app}"));
            }
            state.say(format!("{app} gets {ip}"));
            Ok(assignment)
        })
    }

    fn release(&self, app: &str, ip: IpAddr) -> Result<(), FlyError> {
        self.ask(|state| {
            if let Ok(app) = state.app_mut(app) {
                app.addresses.retain(|address| address.ip != ip);
            }
            state.say(format!("{ip} of {app} is released"));
            Ok(())
        })
    }

    fn machines(&self, app: &str) -> Result<Vec<Machine>, FlyError> {
        self.ask(|state| {
            let machines = &state.shown_app(app)?.machines;
            let there = machines.iter().filter(|machine| machine.state != "destroyed");
            Ok(there.map(|machine| state.shown_machine(machine)).collect())
        })
    }

    fn machine(&self, app: &str, id: &str) -> Result<Machine, FlyError> {
        self.ask(|state| {
            let machines = &state.shown_app(app)?.machines;
            let machine = machines.iter().find(|machine| machine.id == id).ok_or(ErrorKind::NotFound)?;
            Ok(state.shown_machine(machine))
        })
    }

    fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine, FlyError> {
        self.ask(|state| {
            state.watch_for_bills("a Machine is made", app);
            if state.faults.no_capacity {
                return Err(ErrorKind::Capacity("could not find a candidate host".into()));
            }
            let (id, until) = (format!("m{}", state.next()), state.now + BOOT);
            let config = serde_json::to_value(&machine.config).and_then(serde_json::from_value);
            let made = Machine {
                id: id.clone(),
                name: machine.name.clone(),
                state: "created".into(),
                created_at: format!("{:010}", state.now.as_millis()),
                host_status: Some("ok".into()),
                config: Some(config.expect("what is sent can be read")),
                ..Machine::default()
            };
            let boots = !state.faults.no_boot;
            let known = state.app_mut(app)?;
            let of_this_name = |known: &&Machine| known.name == machine.name && known.state != "destroyed";
            if let Some(known) = known.machines.iter().find(of_this_name) {
                return Err(ErrorKind::MachineExists(known.id.clone()));
            }
            known.machines.push(made.clone());
            if boots {
                known.booting.insert(id.clone(), until);
            }
            state.say(format!("Machine {id}, {}, is made in {app}", machine.name));
            Ok(made)
        })
    }

    fn start_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            let until = state.now + BOOT;
            state.machine_mut(app, id)?.state = "starting".into();
            state.app_mut(app)?.booting.insert(id.into(), until);
            Ok(())
        })
    }

    fn cordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.machine_mut(app, id)?.cordoned = true;
            state.say(format!("Machine {id} is cordoned"));
            Ok(())
        })
    }

    fn uncordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.machine_mut(app, id)?.cordoned = false;
            state.say(format!("Machine {id} is uncordoned"));
            Ok(())
        })
    }

    fn destroy_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            if let Ok(machine) = state.machine_mut(app, id) {
                machine.state = "destroyed".into();
            }
            state.say(format!("Machine {id} is destroyed"));
            Ok(())
        })
    }

    fn set_metadata(&self, app: &str, id: &str, key: &str, value: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            let config = state.machine_mut(app, id)?.config.get_or_insert_default();
            config.metadata.insert(key.into(), value.into());
            Ok(())
        })
    }

    fn delete_metadata(&self, app: &str, id: &str, key: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            if let Ok(machine) = state.machine_mut(app, id) {
                machine.config.get_or_insert_default().metadata.remove(key);
            }
            Ok(())
        })
    }
}
