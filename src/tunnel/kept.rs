//! The last good state of a tunnel whose Service is refused by now: each lane carries its own recipe, at Fly and in the cluster, so what
//! is lost of it can be made again as it was.

use std::net::Ipv4Addr;

use super::lane::Recipe;
use super::machines::machines;
use super::observed::Observed;

/// A recipe, and the generation of the lanes that are made from it.
pub struct Blueprint {
    pub recipe: Recipe,
    pub generation: String,
}

impl Blueprint {
    /// Lanes of this recipe have its hash for a generation.
    pub fn of(recipe: Recipe) -> Blueprint {
        Blueprint { generation: recipe.generation(), recipe }
    }
}

/// Whether a lane tells what it was made from.
pub fn is_known(seen: &Observed) -> bool {
    newest(seen).is_some()
}

/// The blueprint of the lane that serves, else of the lane that was made last. It moves to another address or other keys where those
/// that it was made with are lost. `None` where no lane tells what it was made from.
pub fn last(seen: &Observed, address: Ipv4Addr, keys: &str) -> Option<Blueprint> {
    let (recipe, generation) = newest(seen)?;
    let moved = Recipe { address, keys: keys.to_owned(), ..recipe.clone() };
    // An older version of this operator may have hashed the same recipe in another way.
    Some(match generation.filter(|_| moved == recipe) {
        Some(generation) => Blueprint { recipe, generation },
        None => Blueprint::of(moved),
    })
}

/// A recipe, with the generation that its Machine has.
fn newest(seen: &Observed) -> Option<(Recipe, Option<String>)> {
    let machines = machines(seen).ours;
    let lanes = machines.iter().filter(|lane| lane.ours.retiring_since.is_none());
    if let Some(lane) = lanes.max_by_key(|lane| (lane.takes_users(), &lane.machine.created_at)) {
        return Some((Recipe::read(lane.ours.recipe.as_deref()?)?, Some(lane.ours.generation.clone())));
    }
    let config_maps = seen.objects.iter().flat_map(|objects| &objects.config_maps);
    let newest = config_maps.max_by_key(|map| &map.created_at)?;
    Some((Recipe::read(newest.recipe.as_deref()?)?, None))
}
