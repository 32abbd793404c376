//! The last good state of a tunnel whose Service is refused by now: each lane carries its own recipe, at Fly and in the cluster, so what
//! is lost of it can be made again as it was.

use std::net::Ipv4Addr;

use super::lane::{Recipe, SlotId};
use super::machines::machines;
use super::observed::Observed;
use crate::service::annotations::MOST_REPLICAS;

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
    slots().any(|slot| newest(seen, slot).is_some())
}

/// The blueprint of each slot of which a lane tells what it was made from: that of the lane that serves, else of the one that was made last.
/// It moves to another address or other keys where those that it was made with are lost.
pub fn last(seen: &Observed, address: Ipv4Addr, keys: &str) -> Vec<(SlotId, Blueprint)> {
    let of_slot = |slot| {
        let (recipe, generation) = newest(seen, slot)?;
        let moved = Recipe { address, keys: keys.to_owned(), ..recipe.clone() };
        // An older version of this operator may have hashed the same recipe in another way.
        let blueprint = match generation.filter(|_| moved == recipe) {
            Some(generation) => Blueprint { recipe, generation },
            None => Blueprint::of(moved),
        };
        Some((slot, blueprint))
    };
    slots().filter_map(of_slot).collect()
}

fn slots() -> impl Iterator<Item = SlotId> {
    (0..MOST_REPLICAS).map(SlotId::tcp)
}

/// The recipe of a slot, with the generation that its Machine has. Of a slot without a Machine its ConfigMap tells.
fn newest(seen: &Observed, slot: SlotId) -> Option<(Recipe, Option<String>)> {
    let machines = machines(seen).ours;
    let lanes = machines.iter().filter(|lane| lane.ours.slot == slot && lane.ours.retiring_since.is_none());
    if let Some(lane) = lanes.max_by_key(|lane| (lane.takes_users(), &lane.machine.created_at)) {
        return Some((Recipe::read(lane.ours.recipe.as_deref()?)?, Some(lane.ours.generation.clone())));
    }
    let config_maps = seen.objects.iter().flat_map(|objects| &objects.config_maps);
    let newest = config_maps.filter(|map| map.slot == slot).max_by_key(|map| &map.created_at)?;
    Some((Recipe::read(newest.recipe.as_deref()?)?, None))
}
