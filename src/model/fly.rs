//! Fly in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use super::faults::{Fate, Side};
use super::machine::read_back;
use super::{App, BOOT, Model, ORG, State};
use crate::examples;
use crate::fly::error::{ErrorKind, FlyError};
use crate::fly::{App as WireApp, Fly, ListedMachines, Organization};
use crate::render::address::Assignment;
use crate::render::machine::wire::{ListedMachine, Machine, NewMachine};
use crate::render::machine::{GENERATION, SLOT};
use crate::tunnel::invariants::Deed;
use crate::tunnel::lane::SlotId;
use crate::tunnel::observed::Family;
use crate::tunnel::settings::Settings;

/// An App is gone so long after it was asked to go.
const GOING: Duration = Duration::from_secs(1);

/// Reads may show what was for so long after it changed. The operator looks a second time after five seconds.
const STALE: Duration = Duration::from_secs(4);

/// The operator's settings, made once.
pub(super) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(examples::settings)
}

impl Model {
    /// Carries out a request, unless it fails.
    fn ask<T>(&self, request: impl FnOnce(&mut State) -> Result<T, ErrorKind>) -> Result<T, FlyError> {
        let mut state = self.arrive();
        match state.fate(Side::Fly) {
            Fate::Refused(refusal) => Err(refusal.at_fly()),
            Fate::ReplyLost => {
                state.unheard = true;
                let _ = request(&mut state);
                state.unheard = false;
                Err(ErrorKind::Unavailable("the reply is lost".into()).into())
            }
            Fate::Served => request(&mut state).map_err(FlyError::from),
        }
    }
}

impl State {
    /// The App, as reads show it.
    fn read_app(&mut self, name: &str) -> Result<&App, ErrorKind> {
        let (now, stale) = (self.now, self.faults.stale);
        let is_stale = stale > 0 && self.dice.percent(stale);
        let app = self.apps.get(name).filter(|app| app.visible_at <= now).ok_or(ErrorKind::NotFound)?;
        let before = app.before.as_ref().filter(|(changed, _)| is_stale && now < *changed + STALE);
        Ok(before.map_or(app, |(_, before)| before))
    }

    /// The App, to be changed. Fly may not find one that was just made.
    fn app_mut(&mut self, name: &str) -> Result<&mut App, ErrorKind> {
        let (now, keeps) = (self.now, self.faults.stale > 0);
        let finds_new_ones = self.dice.percent(50);
        let app = self.apps.get_mut(name).ok_or(ErrorKind::NotFound)?;
        if app.visible_at > now && !finds_new_ones {
            return Err(ErrorKind::NotFound);
        }
        if keeps {
            app.before = None;
            app.before = Some((now, Box::new(app.clone())));
        }
        Ok(app)
    }

    fn machine_mut(&mut self, app: &str, id: &str) -> Result<&mut Machine, ErrorKind> {
        let machines = &mut self.app_mut(app)?.machines;
        machines.iter_mut().find(|machine| machine.id == id).ok_or(ErrorKind::NotFound)
    }

    /// The operator gets to see these Machines of the App. `all`: and that there is no other.
    fn see(&mut self, app: &str, machines: &[Machine], all: bool) {
        let now = self.now;
        let Some(app) = self.apps.get_mut(app).filter(|_| !self.unheard) else { return };
        if all {
            // A list that lies of a Machine may be part of a look that fails, and the operator goes by the look before.
            let is_there = |id: &String| app.machines.iter().any(|machine| machine.id == *id);
            app.shown_serving.retain(|id, _| is_there(id) || machines.iter().any(|machine| machine.id == *id));
        }
        for machine in machines {
            let serves = machine.checks.iter().any(|check| check.status == "passing") && !machine.cordoned;
            if serves {
                app.shown_serving.entry(machine.id.clone()).or_insert(now);
            } else {
                app.shown_serving.remove(&machine.id);
            }
        }
    }

    /// A Machine takes no users any more, or not yet.
    fn takes_no_users(&mut self, app: &str, id: &str) {
        if let Some(app) = self.apps.get_mut(app) {
            app.shown_serving.remove(id);
        }
    }
}

impl Fly for Model {
    fn org(&self) -> &str {
        ORG
    }

    fn app(&self, name: &str) -> Result<WireApp, FlyError> {
        self.ask(|state| {
            let app = state.read_app(name)?;
            if app.org != ORG {
                return Err(ErrorKind::Forbidden("unauthorized".into()));
            }
            let organization = Organization { slug: app.org.clone() };
            Ok(WireApp { name: name.into(), network: Some(app.network.clone()), organization })
        })
    }

    fn create_app(&self, name: &str, network: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            if state.apps.contains_key(name) {
                return Err(ErrorKind::NameTaken);
            }
            state.watch(name, Deed::CreateApp);
            let lag = Duration::from_millis(state.dice.below(state.faults.lag * 1000 + 1));
            let visible_at = state.now + lag;
            let app = App { network: network.into(), org: ORG.into(), visible_at, ..App::default() };
            state.apps.insert(name.into(), app);
            state.say(|| format!("App {name} is made"));
            Ok(())
        })
    }

    fn delete_app(&self, name: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(name, Deed::DeleteApp);
            let gone_at = state.now + GOING;
            state.app_mut(name)?.gone_at.get_or_insert(gone_at);
            state.say(|| format!("App {name} is to go"));
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
            let lacks = state.lacks("apps");
            let all = state.apps.iter().filter(|(_, app)| app.org == ORG && app.visible_at <= state.now).map(shown);
            Ok(if lacks { all.skip(1).step_by(2).collect() } else { all.collect() })
        })
    }

    fn machines_of_all_apps(&self) -> Result<ListedMachines, FlyError> {
        self.ask(|state| {
            let lacks = state.lacks("machines of all Apps");
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
            let machines = if lacks { rows.skip(1).step_by(2).collect() } else { rows.collect() };
            // A region that cannot be asked is said to be so; a page that is missing is not.
            let complete = !lacks || state.now.as_millis().is_multiple_of(2);
            Ok(ListedMachines { machines, complete })
        })
    }

    fn addresses(&self, app: &str) -> Result<Vec<Assignment>, FlyError> {
        self.ask(|state| {
            let lacks = state.faults.lists_lack > 0 && state.lacks(&format!("addresses of {app}"));
            let addresses = state.read_app(app)?.addresses.clone();
            Ok(if lacks { Vec::new() } else { addresses })
        })
    }

    fn allocate(&self, app: &str, _: Family) -> Result<Assignment, FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::BuyAddress);
            if state.faults.over_quota {
                return Err(ErrorKind::Quota("we need your payment information".into()));
            }
            let number = state.next();
            let ip = IpAddr::V4(Ipv4Addr::from(0xC612_0000 + number)); // 198.18.0.0/15, RFC 2544
            let created_at = format!("{:010}", state.now.as_millis());
            let assignment = Assignment { ip, shared: false, egress: false, created_at };
            state.app_mut(app)?.addresses.push(assignment.clone());
            state.say(|| format!("{app} gets {ip}"));
            Ok(assignment)
        })
    }

    fn release(&self, app: &str, ip: IpAddr) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::Release(ip));
            if let Ok(app) = state.app_mut(app) {
                app.addresses.retain(|address| address.ip != ip);
            }
            state.say(|| format!("{ip} of {app} is released"));
            Ok(())
        })
    }

    fn machines(&self, app: &str) -> Result<Vec<Machine>, FlyError> {
        self.ask(|state| {
            let lacks = state.faults.lists_lack > 0 && state.lacks(&format!("Machines of {app}"));
            let machines = state.read_app(app)?.machines.iter();
            let there: Vec<Machine> =
                machines.filter(|machine| machine.state != "destroyed" && !lacks).cloned().collect();
            let shown: Vec<Machine> = there.iter().map(|machine| state.shown_machine(machine)).collect();
            state.see(app, &shown, true);
            Ok(shown)
        })
    }

    fn machine(&self, app: &str, id: &str) -> Result<Machine, FlyError> {
        self.ask(|state| {
            let machines = &state.read_app(app)?.machines;
            let machine = machines.iter().find(|machine| machine.id == id).ok_or(ErrorKind::NotFound)?.clone();
            let shown = state.shown_machine(&machine);
            state.see(app, std::slice::from_ref(&shown), false);
            Ok(shown)
        })
    }

    fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine, FlyError> {
        self.ask(|state| {
            if state.faults.no_capacity {
                return Err(ErrorKind::Capacity("could not find a candidate host".into()));
            }
            if state.faults.over_quota {
                return Err(ErrorKind::Quota("we need your payment information".into()));
            }
            if state.faults.machines_refused {
                return Err(ErrorKind::Refused("invalid_argument".into()));
            }
            let known = state.app_mut(app)?;
            let of_this_name = |known: &&Machine| known.name == machine.name && known.state != "destroyed";
            if let Some(known) = known.machines.iter().find(of_this_name) {
                return Err(ErrorKind::MachineExists(known.id.clone()));
            }
            let slot = SlotId::parse(&machine.config.metadata[SLOT]).expect("what is sent can be read");
            state.watch(app, Deed::MakeMachine { generation: &machine.config.metadata[GENERATION], slot });
            let (id, until) = (format!("m{}", state.next()), state.now + BOOT);
            let mut config = read_back(&machine.config);
            if state.spells {
                config.schedule = json!("never");
            }
            let made = Machine {
                id: id.clone(),
                name: machine.name.clone(),
                state: "created".into(),
                created_at: format!("{:010}", state.now.as_millis()),
                host_status: Some("ok".into()),
                config: Some(config),
                ..Machine::default()
            };
            let boots = !state.faults.no_boot;
            let known = state.apps.get_mut(app).ok_or(ErrorKind::NotFound)?;
            known.machines.push(made.clone());
            if boots {
                known.booting.insert(id.clone(), until);
            }
            state.say(|| format!("Machine {id}, {}, is made in {app}", machine.name));
            Ok(made)
        })
    }

    fn start_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::Touch);
            let until = state.now + BOOT;
            let machine = state.machine_mut(app, id)?;
            if machine.state != "stopped" {
                return Err(ErrorKind::Refused("the Machine is not in a state that it can be started from".into()));
            }
            machine.state = "starting".into();
            state.say(|| format!("Machine {id} is started"));
            if let Some(app) = state.apps.get_mut(app) {
                app.booting.insert(id.into(), until);
            }
            Ok(())
        })
    }

    fn cordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::TakeOut(id));
            state.machine_mut(app, id)?.cordoned = true;
            state.takes_no_users(app, id);
            state.say(|| format!("Machine {id} is cordoned"));
            Ok(())
        })
    }

    fn uncordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::Touch);
            let machine = state.machine_mut(app, id)?;
            machine.cordoned = false;
            let machine = [machine.clone()].map(|machine| state.shown_machine(&machine));
            state.see(app, &machine, false);
            state.say(|| format!("Machine {id} is uncordoned"));
            Ok(())
        })
    }

    fn destroy_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::TakeOut(id));
            if let Ok(machine) = state.machine_mut(app, id) {
                machine.state = "destroyed".into();
            }
            state.takes_no_users(app, id);
            state.say(|| format!("Machine {id} is destroyed"));
            Ok(())
        })
    }

    fn set_metadata(&self, app: &str, id: &str, key: &str, value: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::Touch);
            let config = state.machine_mut(app, id)?.config.get_or_insert_default();
            config.metadata.insert(key.into(), value.into());
            state.changes += 1;
            Ok(())
        })
    }

    fn delete_metadata(&self, app: &str, id: &str, key: &str) -> Result<(), FlyError> {
        self.ask(|state| {
            state.watch(app, Deed::Touch);
            if let Ok(machine) = state.machine_mut(app, id) {
                machine.config.get_or_insert_default().metadata.remove(key);
            }
            state.changes += 1;
            Ok(())
        })
    }
}
