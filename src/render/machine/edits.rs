//! How a Machine's configuration is not as it was made, beside what `tunnel/deviations.rs` compares: somebody changed it.

use serde_json::{Value, json};

use super::wire::ReadConfig;
use super::{FILES, RESTART, seal, services_of};
use crate::render::frp::frps;
use crate::tunnel::lane::Lane;

/// The edits of a Machine that says it is this lane, for people. Whatever Fly adds by itself is none. Contents of files are keys, so they
/// are compared by their hash, and not told.
pub fn of(config: &ReadConfig, lane: Option<&Lane>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(lane) = lane {
        let mut services = json!(services_of(lane));
        for service in services.as_array_mut().into_iter().flatten() {
            service["concurrency"]["hard_limit"] = Value::Null;
        }
        compare("services", &json!(config.services), &services, &mut all);
        compare("restart", &config.restart, &json!(RESTART), &mut all);
        // Its values may be somebody's secrets, so they are not told.
        if config.env != json!(frps::environment(&lane.recipe)) {
            all.push("env is another".to_owned());
        }
    }
    let ReadConfig { auto_destroy, checks, containers, mounts, processes, schedule, .. } = config;
    for (name, value) in [
        ("auto_destroy", auto_destroy),
        ("checks", checks),
        ("containers", containers),
        ("mounts", mounts),
        ("processes", processes),
        ("schedule", schedule),
    ] {
        if !is_nothing(value) {
            all.push(format!("{name} is set"));
        }
    }
    let empty = String::new();
    let files = config.files.iter().map(|file| (&file.guest_path, file.raw_value.as_ref().unwrap_or(&empty)));
    // A version without the hash made it, or Fly does not show what is in files.
    let untold = !config.files.is_empty() && config.files.iter().all(|file| file.raw_value.is_none());
    if config.metadata.get(FILES).is_some_and(|made_with| !untold && *made_with != seal(files)) {
        all.push("its files are others".to_owned());
    }
    all
}

/// Compares what is wanted, field by field. Whether a field is left out or empty makes no difference.
fn compare(at: &str, shown: &Value, wanted: &Value, all: &mut Vec<String>) {
    match (shown, wanted) {
        _ if shown == wanted || is_nothing(shown) && is_nothing(wanted) => {}
        (Value::Object(_), Value::Object(wanted)) => {
            wanted.iter().for_each(|(name, wanted)| compare(&format!("{at}.{name}"), &shown[name], wanted, all));
        }
        (Value::Array(shown), Value::Array(wanted)) if shown.len() == wanted.len() => {
            let pairs = shown.iter().zip(wanted).enumerate();
            pairs.for_each(|(number, (shown, wanted))| compare(&format!("{at}.{number}"), shown, wanted, all));
        }
        _ => all.push(format!("{at} is {shown} and not {wanted}")),
    }
}

/// Fly writes `off` as `false`, and Go leaves out what is nothing.
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty() || text == "off",
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{observed, request};
    use super::*;
    use crate::examples::recipe;
    use crate::tunnel::keys::TunnelKeys;
    use crate::tunnel::lane::SlotId;

    /// The edits that are told of a Machine that was made as we ask, and then changed like this.
    fn edits(edit: impl Fn(&mut Value)) -> Vec<String> {
        let recipe = recipe();
        let (generation, name) = (recipe.generation(), "frps-0a-0-1".into());
        let lane = Lane {
            slot: SlotId::tcp(0),
            generation,
            recipe,
            name,
            control_port: 7000,
            probe_port: Some(7001),
            pool: 50,
        };
        let keys = TunnelKeys::read(|name| Some(name.to_owned())).expect("all entries are there");
        let mut shown = json!(request(&lane, &keys, "owner", "default/web"));
        shown["state"] = "started".into();
        edit(&mut shown["config"]);
        observed(serde_json::from_value(shown).expect("a Machine")).edits
    }

    #[test]
    fn an_edit_of_anything_that_we_set_is_told() {
        type Edit = fn(&mut Value);
        let table: [(Edit, &str); 21] = [
            (|c| c["services"][1]["autostop"] = "suspend".into(), r#"services.1.autostop is "suspend" and not "off""#),
            (|c| c["services"][1]["autostop"] = true.into(), r#"services.1.autostop is true and not "off""#),
            (|c| c["services"][2]["autostart"] = true.into(), "services.2.autostart is true and not false"),
            (|c| c["services"][2]["min_machines_running"] = 1.into(), "services.2.min_machines_running is 1 and not 0"),
            (
                |c| c["services"][0]["concurrency"] = Value::Null,
                r#"services.0.concurrency is null and not {"hard_limit":null,"soft_limit":10000,"type":"connections"}"#,
            ),
            (
                |c| c["services"][1]["concurrency"]["hard_limit"] = 1.into(),
                "services.1.concurrency.hard_limit is 1 and not null",
            ),
            (
                |c| c["services"][1]["checks"][0]["interval"] = "1m0s".into(),
                r#"services.1.checks.0.interval is "1m0s" and not "4s""#,
            ),
            (
                |c| c["services"][1]["checks"][0]["type"] = "tcp".into(),
                r#"services.1.checks.0.type is "tcp" and not "http""#,
            ),
            (|c| c["restart"]["policy"] = "no".into(), r#"restart.policy is "no" and not "always""#),
            (|c| c["auto_destroy"] = true.into(), "auto_destroy is set"),
            (|c| c["env"]["A"] = "secret".into(), "env is another"),
            (|c| c["env"] = json!({}), "env is another"),
            (|c| c["env"]["GODEBUG"] = "http2client=0".into(), "env is another"),
            (|c| c["checks"] = json!({ "a": { "kind": "readiness" } }), "checks is set"),
            (|c| c["containers"] = json!([{ "name": "a" }]), "containers is set"),
            (|c| c["mounts"] = json!([{ "path": "/etc" }]), "mounts is set"),
            (|c| c["processes"] = json!([{ "exec": ["a"] }]), "processes is set"),
            (|c| c["schedule"] = "hourly".into(), "schedule is set"),
            (|c| c["files"][0]["raw_value"] = "AAAA".into(), "its files are others"),
            (|c| c["files"] = json!([]), "its files are others"),
            (|c| c["files"][2] = json!({ "guest_path": "/a", "secret_name": "b" }), "its files are others"),
        ];
        for (edit, told) in table {
            assert_eq!(edits(edit), [told]);
        }
    }

    /// Otherwise every tunnel would move, again and again.
    #[test]
    fn what_fly_itself_adds_or_leaves_out_is_no_edit() {
        assert_eq!(edits(|_| ()), [""; 0]);
        let by_fly = |config: &mut Value| {
            for service in config["services"].as_array_mut().expect("services") {
                service["autostop"] = false.into();
                service["min_machines_running"] = Value::Null;
                service["force_instance_key"] = Value::Null;
                service["ports"][0]["handlers"] = json!([]);
                service["concurrency"]["hard_limit"] = 0.into();
                service["added"] = "by a later Fly".into();
            }
            config["restart"]["max_retries"] = 10.into();
            config["metadata"]["fly_platform_version"] = "v2".into();
            config["dns"] = json!({});
            config["auto_destroy"] = false.into();
            config["files"][0]["secret_name"] = Value::Null;
            config["added"] = "by a later Fly".into();
        };
        assert_eq!(edits(by_fly), [""; 0]);
        let untold = |config: &mut Value| {
            for file in config["files"].as_array_mut().expect("files") {
                file["raw_value"] = Value::Null;
            }
        };
        assert_eq!(edits(untold), [""; 0], "Fly shows no file's content");
        let unsealed = |config: &mut Value| {
            config["files"][0]["raw_value"] = "AAAA".into();
            config["metadata"].as_object_mut().expect("metadata").remove(FILES);
        };
        assert_eq!(edits(unsealed), [""; 0], "an older version made it");
    }
}
