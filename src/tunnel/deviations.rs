//! How a Machine is not as it was made: somebody changed it, or Fly itself writes it so.

use super::hash::hash;
use super::lane::{Exposed, Recipe};
use super::observed::Machine;

impl Recipe {
    /// How a Machine that says it was made by this recipe is not as the recipe has it: somebody changed it. Of a Machine on a
    /// lost host Fly knows too little to tell.
    pub fn deviations(&self, machine: &Machine) -> Vec<String> {
        let Some(ours) = machine.ours.as_ref().filter(|_| machine.host_ok) else { return Vec::new() };
        let mut all = Vec::new();
        if !is_image(&machine.image, &self.frps_image) {
            all.push(format!("the image is {} and not {}", machine.image, self.frps_image));
        }
        let guest = self.lane.size.guest();
        if let Some(other) = machine.guest.as_ref().filter(|other| **other != guest) {
            all.push(format!("it has {other} and not {guest}"));
        }
        let regions = &self.lane.region;
        if !machine.region.is_empty() && !regions.split(',').any(|region| region.trim() == machine.region) {
            all.push(format!("it is in {} and not in {regions}", machine.region));
        }
        let wanted = self.exposed(ours.control_port);
        for Exposed { port, internal, checked } in &wanted {
            match machine.exposed.iter().find(|exposed| exposed.port == *port) {
                None => all.push(format!("it does not expose port {port}")),
                Some(other) if other.internal != *internal => {
                    all.push(format!("port {port} leads to its port {} and not {internal}", other.internal));
                }
                Some(other) if other.checked != *checked => {
                    all.push(format!("port {port} {}", if *checked { "has no check" } else { "has a check" }));
                }
                Some(_) => {}
            }
        }
        let surplus = machine.exposed.iter().filter(|exposed| !wanted.iter().any(|wanted| wanted.port == exposed.port));
        all.extend(surplus.map(|exposed| format!("it exposes port {}", exposed.port)));
        if all.is_empty() { machine.edits.clone() } else { all }
    }
}

/// Whether both name one image, as far as anybody can tell: Fly may write the registry's name before it, or the digest behind. Behind a
/// blank stands a command that is not ours.
fn is_image(shown: &str, wanted: &str) -> bool {
    const DOCKER_HUB: [&str; 3] = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    fn plain(image: &str) -> &str {
        let image = DOCKER_HUB.iter().find_map(|host| image.strip_prefix(host)).unwrap_or(image);
        image.strip_prefix("library/").unwrap_or(image)
    }
    let tagged = |image: &str| image.split_once('@').map_or(image, |(tagged, _)| tagged).to_owned();
    let (shown, wanted) = (plain(shown), plain(wanted));
    let has_command = shown.contains(' ');
    shown.is_empty() || shown == wanted || !wanted.contains('@') && !has_command && tagged(shown) == wanted
}

/// Tells the ways in which Fly itself wrote a Machine otherwise from any others.
pub fn spelling(deviations: &[String]) -> String {
    hash(&deviations.iter().map(String::as_str).collect::<Vec<_>>(), 10)
}
