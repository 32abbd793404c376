//! Fly's regions, and how a request names them.

use serde_json::{Value, json};

/// A region's code, place and geographic group.
pub(crate) struct Region {
    pub(crate) code: &'static str,
    name: &'static str,
    group: Group,
}

#[derive(Clone, Copy, PartialEq)]
enum Group {
    Africa,
    AsiaPacific,
    Europe,
    NorthAmerica,
    SouthAmerica,
}

impl Group {
    fn named(alias: &str) -> Option<Group> {
        match alias {
            "us" | "na" => Some(Group::NorthAmerica),
            "sa" => Some(Group::SouthAmerica),
            "eu" => Some(Group::Europe),
            "apac" => Some(Group::AsiaPacific),
            "af" => Some(Group::Africa),
            _ => None,
        }
    }

    fn geo_region(self) -> &'static str {
        match self {
            Group::Africa => "africa",
            Group::AsiaPacific => "asia_pacific",
            Group::Europe => "europe",
            Group::NorthAmerica => "north_america",
            Group::SouthAmerica => "south_america",
        }
    }
}

const fn region(code: &'static str, name: &'static str, group: Group) -> Region {
    Region { code, name, group }
}

/// The regions of Fly's page (fly.io/docs/reference/regions). The lab itself "is" in the first one.
const REGIONS: &[Region] = &[
    region("ord", "Chicago, Illinois (US)", Group::NorthAmerica),
    region("ams", "Amsterdam, Netherlands", Group::Europe),
    region("arn", "Stockholm, Sweden", Group::Europe),
    region("bom", "Mumbai, India", Group::AsiaPacific),
    region("cdg", "Paris, France", Group::Europe),
    region("dfw", "Dallas, Texas (US)", Group::NorthAmerica),
    region("ewr", "Secaucus, NJ (US)", Group::NorthAmerica),
    region("fra", "Frankfurt, Germany", Group::Europe),
    region("gru", "Sao Paulo, Brazil", Group::SouthAmerica),
    region("iad", "Ashburn, Virginia (US)", Group::NorthAmerica),
    region("jnb", "Johannesburg, South Africa", Group::Africa),
    region("lax", "Los Angeles, California (US)", Group::NorthAmerica),
    region("lhr", "London, United Kingdom", Group::Europe),
    region("nrt", "Tokyo, Japan", Group::AsiaPacific),
    region("sin", "Singapore, Singapore", Group::AsiaPacific),
    region("sjc", "San Jose, California (US)", Group::NorthAmerica),
    region("syd", "Sydney, Australia", Group::AsiaPacific),
    region("yyz", "Toronto, Canada", Group::NorthAmerica),
];

/// Whether `code` is a region of Fly's.
pub(crate) fn exists(code: &str) -> bool {
    REGIONS.iter().any(|region| region.code == code)
}

/// The regions that a request's `region` means, in the order in which Fly tries them: a code, an alias such as `eu` or
/// `any`, or a list of both (`"iad,eu"`). Empty means the nearest, then any.
///
/// # Errors
/// The error has the name that is neither a code nor an alias.
pub(crate) fn candidates(request: &str) -> Result<Vec<&'static str>, String> {
    let request = if request.is_empty() { "any" } else { request };
    let mut codes = Vec::new();
    for name in request.split(',').map(str::trim) {
        let matching: Vec<_> = REGIONS
            .iter()
            .filter(|region| name == "any" || region.code == name || Group::named(name) == Some(region.group))
            .map(|region| region.code)
            .collect();
        if matching.is_empty() {
            return Err(name.to_owned());
        }
        codes.extend(matching);
    }
    Ok(codes)
}

/// The body of `GET /platform/regions`.
pub(crate) fn listing() -> Value {
    let regions: Vec<Value> = REGIONS
        .iter()
        .map(|region| {
            json!({
                "code": region.code,
                "name": region.name,
                "geo_region": region.group.geo_region(),
                "latitude": 0.0,
                "longitude": 0.0,
                "gateway_available": true,
                "requires_paid_plan": false,
                "deprecated": false,
                "mpg_available": false,
            })
        })
        .collect();
    json!({ "nearest": REGIONS[0].code, "regions": regions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_regions_is_tried_in_order() {
        assert_eq!(candidates("iad,ord"), Ok(vec!["iad", "ord"]));
        assert_eq!(candidates("sa"), Ok(vec!["gru"]));
        assert_eq!(candidates("").map(|codes| codes[0]), Ok("ord"));
        assert_eq!(candidates("ord,mars"), Err("mars".to_owned()));
    }
}
