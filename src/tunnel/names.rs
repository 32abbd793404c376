//! Names, computed and never stored: whoever knows the owner and the tunnel knows the App.
//!
//! The App's name carries namespace and name for people, and a hash for uniqueness. The App's private network is named
//! after the owner and the App. Fly gives a network back and lets nobody change it, so it is the proof of ownership.

use super::TunnelId;
use super::hash::hash;
use super::lane::SlotId;

/// The class that is served unless another is given; its finalizer and Lease have the plain names.
pub const DEFAULT_CLASS: &str = "fly-tunnel-operator.dev/lb";

/// Fly's limit is "under 63 characters", and the App is a DNS label too; two are left as a margin.
const APP_NAME_LIMIT: usize = 60;

/// The owner of Fly Apps: a cluster and a load balancer class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub cluster_name: String,
    pub class: String,
}

impl Owner {
    /// Twelve hex digits that stand for the owner in labels, metadata and network names.
    pub fn id(&self) -> String {
        hash(&[&self.cluster_name, &self.class], 12)
    }

    /// Name of the tunnel's App: at most 60 characters of `[a-z0-9-]`, a letter first.
    pub fn app(&self, tunnel: &TunnelId) -> String {
        let TunnelId { namespace, name } = tunnel;
        let unique = hash(&[&self.cluster_name, &self.class, namespace, name], 12);
        let room = APP_NAME_LIMIT - unique.len() - 1;
        let readable = format!("lb-{namespace}-{name}");
        let readable = readable[..readable.len().min(room)].trim_end_matches('-');
        format!("{readable}-{unique}")
    }

    /// The tunnel whose App has this name. `None`: the App is not this owner's, or namespace and name are too long to be read
    /// off its name.
    pub fn tunnel_of(&self, app: &str) -> Option<TunnelId> {
        let (readable, _) = app.strip_prefix("lb-")?.rsplit_once('-')?;
        let splits = readable.match_indices('-').map(|(at, _)| (&readable[..at], &readable[at + 1..]));
        let mut ids = splits.map(|(namespace, name)| TunnelId { namespace: namespace.into(), name: name.into() });
        ids.find(|id| self.app(id) == app)
    }

    /// Name of the App's own private network.
    pub fn network(&self, app: &str) -> String {
        format!("{app}-{}", self.id())
    }
}

/// Whether both Apps are named after the same tunnel, as far as their names tell: they differ in the owner's part alone.
pub fn of_one_tunnel(app: &str, other: &str) -> bool {
    let readable = |name: &str| name.rsplit_once('-').map(|(readable, _)| readable.to_owned());
    readable(app) == readable(other)
}

/// Name of a lane's Machine. The attempt is raised where a Machine that is lost still holds the name, so that a second
/// create of the same lane is a conflict and not a second bill.
pub fn machine(generation: &str, slot: SlotId, attempt: u32) -> String {
    format!("frps-{generation}-{slot}-{attempt}")
}

/// The attempt in the name of a Machine for this lane; `None` for another name.
pub fn attempt(machine_name: &str, generation: &str, slot: SlotId) -> Option<u32> {
    machine_name.strip_prefix(&format!("frps-{generation}-{slot}-"))?.parse().ok()
}

/// Name of a lane's Deployment and ConfigMap. A Machine's ID is never used twice, so neither is this name.
pub fn lane_object(app: &str, machine_id: &str) -> String {
    format!("{app}-{machine_id}")
}

/// Name of the Secret with these keys.
pub fn keys(app: &str, fingerprint: &str) -> String {
    format!("{app}-keys-{fingerprint}")
}

const FINALIZER: &str = "fly-tunnel-operator.dev/finalizer";

/// The finalizer. Each class has its own, so that two installs never wait for each other.
pub fn finalizer(class: &str) -> String {
    of_class(FINALIZER, class)
}

/// Whether it is one of ours, of any class.
pub fn is_finalizer(name: &str) -> bool {
    name.starts_with(FINALIZER)
}

/// The Lease by which the operators of one class elect a leader.
pub fn lease(class: &str) -> String {
    of_class("fly-tunnel-operator", class)
}

/// The plain name for the default class.
fn of_class(name: &str, class: &str) -> String {
    match class {
        DEFAULT_CLASS => name.to_owned(),
        class => format!("{name}-{}", hash(&[class], 8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster_name: "home".into(), class: DEFAULT_CLASS.into() }
    }

    fn id(namespace: &str, name: &str) -> TunnelId {
        TunnelId { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn apps_have_names_that_fly_takes() {
        let long = "a".repeat(63);
        let dashed = format!("{}{}", "a".repeat(20), "-".repeat(30) + "b");
        for (namespace, name) in [("default", "web"), (&*long, &*long), ("d", &*dashed), ("0", "0")] {
            let app = owner().app(&id(namespace, name));
            assert!(app.len() <= 60, "{app}");
            assert!(app.starts_with(|c: char| c.is_ascii_lowercase()), "{app}");
            assert!(app.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{app}");
        }
    }

    #[test]
    fn another_owner_namespace_or_service_is_another_app() {
        let long = "a".repeat(63);
        let other_cluster = Owner { cluster_name: "other".into(), ..owner() };
        let other_class = Owner { class: "example.com/lb".into(), ..owner() };
        let mut apps = vec![
            owner().app(&id("a", "web")),
            owner().app(&id("b", "web")),
            owner().app(&id("a-web", "")),
            owner().app(&id(&long, &long)),
            owner().app(&id(&long, &long[1..])),
            other_cluster.app(&id("a", "web")),
            other_class.app(&id("a", "web")),
        ];
        apps.sort();
        let count = apps.len();
        apps.dedup();
        assert_eq!(apps.len(), count);
        assert_ne!(owner().network("app"), other_class.network("app"));
        assert!(of_one_tunnel(&owner().app(&id("a", "web")), &other_class.app(&id("a", "web"))));
        assert!(!of_one_tunnel(&owner().app(&id("a", "web")), &owner().app(&id("b", "web"))));
    }

    #[test]
    fn the_name_of_an_app_tells_its_tunnel() {
        let long = "a".repeat(41);
        for (namespace, name) in [("default", "web"), ("a-b", "c-d"), ("a", "b-c-d"), ("a-b-c", "d"), ("1", "2")] {
            let app = owner().app(&id(namespace, name));
            assert_eq!(owner().tunnel_of(&app), Some(id(namespace, name)), "{app}");
        }
        let other = Owner { cluster_name: "other".into(), ..owner() };
        for app in [
            &other.app(&id("default", "web")),
            &owner().app(&id(&long, "web")),
            "lb-default-web-0123456789ab",
            "web",
            "lb-",
        ] {
            assert_eq!(owner().tunnel_of(app), None, "{app}");
        }
    }

    #[test]
    fn finalizers_and_leases_differ_by_class() {
        assert_eq!(finalizer("fly-tunnel-operator.dev/lb"), "fly-tunnel-operator.dev/finalizer");
        assert_eq!(lease("fly-tunnel-operator.dev/lb"), "fly-tunnel-operator");
        assert_eq!(lease("example.com/lb").len(), "fly-tunnel-operator-".len() + 8);
        let other = finalizer("example.com/lb");
        assert!(other.starts_with("fly-tunnel-operator.dev/finalizer-") && other.len() == 42, "{other}");
    }

    #[test]
    fn attempts_are_read_back_from_names() {
        let lane = ("0a1b2c3d", SlotId::tcp(0));
        assert_eq!(attempt(&machine(lane.0, lane.1, 3), lane.0, lane.1), Some(3));
        assert_eq!(attempt(&machine("other", lane.1, 3), lane.0, lane.1), None);
        assert_eq!(attempt("somebody-elses", lane.0, lane.1), None);
    }
}
