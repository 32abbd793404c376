//! A tunnel that serves, in a few bytes. By these a sweep over all tunnels tells whether one is as it was left, and only those that are
//! not are looked at by themselves.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::observed::{Address, Machine, Objects, Observed, OurApp, State};

/// How a look found a tunnel: hashes, to be compared with later ones of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The addresses of the App.
    pub addresses: Digest,
    /// All that Fly shows of its Machines.
    pub lanes: Digest,
    /// The IDs and versions of its Machines, all of which run.
    pub machines: Digest,
    /// Our objects in the cluster, which ones they are, and the versions of the Deployments, all of which are available.
    pub objects: Digest,
}

/// A hash of a set of texts, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Takes in one more text, of these parts.
    pub fn add(&mut self, parts: &[&str]) {
        self.0 = self.0.wrapping_add(hash(&parts));
    }
}

impl Summary {
    /// A tunnel that was looked at as a whole, and in which nothing is on its way or broken. `None` for any other: that one is to be
    /// looked at by itself.
    pub fn of(seen: &Observed) -> Option<Summary> {
        let (app, objects) = (seen.our_app()?, seen.objects.as_ref()?);
        let runs = |machine: &&Machine| machine.state == State::Started && machine.host_ok && !machine.cordoned;
        let all_run = app.machines.iter().filter(|machine| machine.exists()).all(|machine| runs(&machine));
        let all_available = objects.deployments.iter().all(|deployment| deployment.available);
        (all_run && all_available && !app.machines.is_empty()).then(|| Summary {
            addresses: addresses(&app.addresses),
            lanes: lanes(&app.machines),
            machines: machines(app),
            objects: digest(objects),
        })
    }
}

/// The addresses of an App, as far as a plan reads them.
pub fn addresses(addresses: &[Address]) -> Digest {
    let mut digest = Digest::default();
    for address in addresses {
        digest.add(&[&address.ip.to_string(), &address.dedicated.to_string()]);
    }
    digest
}

/// The Machines of an App, as far as a plan reads them.
pub fn lanes(machines: &[Machine]) -> Digest {
    let mut digest = Digest::default();
    for machine in machines.iter().filter(|machine| machine.exists()) {
        // The order in which Fly lists checks says nothing.
        let passing: BTreeSet<_> = machine.passing.iter().collect();
        let state = (machine.state as u8, machine.host_ok, machine.cordoned, machine.probe_passes);
        let content =
            (&machine.image, machine.guest.as_ref().map(ToString::to_string), &machine.exposed, &machine.edits);
        let ours =
            machine.ours.as_ref().map(|ours| (&ours.generation, ours.slot, ours.control_port, ours.retiring_since));
        digest.add(&[&machine.id, &hash(&(state, passing, content, ours)).to_string()]);
    }
    digest
}

fn machines(app: &OurApp) -> Digest {
    let mut digest = Digest::default();
    for machine in app.machines.iter().filter(|machine| machine.exists()) {
        digest.add(&[&machine.id, &machine.version]);
    }
    digest
}

fn digest(objects: &Objects) -> Digest {
    let mut digest = Digest::default();
    for deployment in &objects.deployments {
        digest.add(&[DEPLOYMENT, &deployment.object.name, &deployment.version.to_string()]);
    }
    objects.config_maps.iter().for_each(|map| digest.add(&[CONFIG_MAP, &map.object.name, &map.uid]));
    objects.keys.iter().for_each(|secret| digest.add(&[SECRET, &secret.name, &secret.uid]));
    digest
}

/// The first part of an object's text in [`Summary::objects`]. Its name is the next, and then comes the version of a Deployment, and the UID of
/// what nobody can change.
pub const DEPLOYMENT: &str = "deployment";
pub const CONFIG_MAP: &str = "configmap";
pub const SECRET: &str = "secret";

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
