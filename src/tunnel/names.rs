//! Names, computed and never stored: whoever knows the owner and the Service knows the App.
//!
//! The App's name carries namespace and name for people, and a hash for uniqueness. The App's private network is named
//! after the owner and the App. Fly gives a network back and lets nobody change it, so it is the proof of ownership.

use std::fmt::Write;

use ring::digest;

/// Fly's limit is "under 63 characters", and the App is a DNS label too; two are left as a margin.
const APP_NAME_LIMIT: usize = 60;

/// Who owns Fly Apps: a cluster and a load balancer class.
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

    /// Name of the App behind the Service: at most 60 characters of `[a-z0-9-]`, a letter first.
    pub fn app(&self, namespace: &str, service: &str) -> String {
        let unique = hash(&[&self.cluster_name, &self.class, namespace, service], 12);
        let room = APP_NAME_LIMIT - unique.len() - 1;
        let readable = format!("lb-{namespace}-{service}");
        let readable = readable[..readable.len().min(room)].trim_end_matches('-');
        format!("{readable}-{unique}")
    }

    /// Namespace and name of the Service whose App has this name. `None`: the App is not this owner's, or the two are too long
    /// to be read off its name.
    pub fn service_of(&self, app: &str) -> Option<(String, String)> {
        let (readable, _) = app.strip_prefix("lb-")?.rsplit_once('-')?;
        let splits = readable.match_indices('-').map(|(at, _)| (&readable[..at], &readable[at + 1..]));
        let mut ours = splits.filter(|(namespace, service)| self.app(namespace, service) == app);
        ours.next().map(|(namespace, service)| (namespace.to_owned(), service.to_owned()))
    }

    /// Name of the App's own private network.
    pub fn network(&self, app: &str) -> String {
        format!("{app}-{}", self.id())
    }
}

/// Whether both Apps are named after the same Service, as far as their names tell: they differ in the owner's part alone.
pub fn of_one_service(app: &str, other: &str) -> bool {
    let readable = |name: &str| name.rsplit_once('-').map(|(readable, _)| readable.to_owned());
    readable(app) == readable(other)
}

/// `length` hex digits of the SHA-256 of the parts, each closed by a zero byte: no two lists of parts run together.
pub fn hash(parts: &[&str], length: usize) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let mut hex = String::new();
    for byte in context.finish().as_ref().iter().take(length.div_ceil(2)) {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
    }
    hex.truncate(length);
    hex
}

/// Name of a lane's Machine. The attempt is raised where a Machine that is lost still holds the name, so that a second
/// create of the same lane is a conflict and not a second bill.
pub fn machine(generation: &str, lane: u8, attempt: u32) -> String {
    format!("frps-{generation}-{lane}-{attempt}")
}

/// The attempt in a Machine's name; `None` for a name that is not of this form.
pub fn attempt(machine_name: &str) -> Option<u32> {
    machine_name.strip_prefix("frps-")?.rsplit('-').next()?.parse().ok()
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

/// The finalizer: of its own for each class, so that two installs never wait for each other.
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
        crate::config::DEFAULT_CLASS => name.to_owned(),
        class => format!("{name}-{}", hash(&[class], 8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster_name: "home".into(), class: crate::config::DEFAULT_CLASS.into() }
    }

    #[test]
    fn apps_have_names_that_fly_takes() {
        let long = "a".repeat(63);
        let dashed = format!("{}{}", "a".repeat(20), "-".repeat(30) + "b");
        for (namespace, name) in [("default", "web"), (&*long, &*long), ("d", &*dashed), ("0", "0")] {
            let app = owner().app(namespace, name);
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
            owner().app("a", "web"),
            owner().app("b", "web"),
            owner().app("a-web", ""),
            owner().app(&long, &long),
            owner().app(&long, &long[1..]),
            other_cluster.app("a", "web"),
            other_class.app("a", "web"),
        ];
        apps.sort();
        let count = apps.len();
        apps.dedup();
        assert_eq!(apps.len(), count);
        assert_ne!(owner().network("app"), other_class.network("app"));
        assert!(of_one_service(&owner().app("a", "web"), &other_class.app("a", "web")));
        assert!(!of_one_service(&owner().app("a", "web"), &owner().app("b", "web")));
    }

    #[test]
    fn the_name_of_an_app_tells_its_service() {
        let long = "a".repeat(41);
        for (namespace, name) in [("default", "web"), ("a-b", "c-d"), ("a", "b-c-d"), ("a-b-c", "d"), ("1", "2")] {
            let app = owner().app(namespace, name);
            assert_eq!(owner().service_of(&app), Some((namespace.to_owned(), name.to_owned())), "{app}");
        }
        let other = Owner { cluster_name: "other".into(), ..owner() };
        for app in
            [&other.app("default", "web"), &owner().app(&long, "web"), "lb-default-web-0123456789ab", "web", "lb-"]
        {
            assert_eq!(owner().service_of(app), None, "{app}");
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
        assert_eq!(attempt(&machine("0a1b2c3d", 0, 3)), Some(3));
        assert_eq!(attempt("somebody-elses"), None);
    }
}
