//! values.yaml and its schema: how each value is described, which values are taken, and with which words others are
//! refused.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{EVERYTHING, MINIMAL, file, manifests, manifests_to_install, write, yaml};

use crate::support::binary;

/// Values by their paths, such as `image.tag`. An object that the chart leaves empty is one value, whatever may go into
/// it.
fn leaves(values: &Value, path: &str) -> BTreeMap<String, Value> {
    match values.as_object() {
        Some(members) if !members.is_empty() => {
            let dot = if path.is_empty() { "" } else { "." };
            members.iter().flat_map(|(key, value)| leaves(value, &format!("{path}{dot}{key}"))).collect()
        }
        _ => [(path.to_owned(), values.clone())].into(),
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn defaults() -> BTreeMap<String, Value> {
    leaves(&yaml::documents(&file("values.yaml"))[0], "")
}

fn everything() -> Value {
    yaml::documents(&file("ci/everything-values.yaml")).remove(0)
}

#[test]
fn every_value_is_documented() {
    let text = file("values.yaml");
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let [above, line] = [pair[0].trim_start(), pair[1].trim_start()];
        if line.contains(": ") && !line.starts_with('#') || line.ends_with(':') {
            assert!(above.starts_with("# "), "nothing is said above: {line}");
        }
    }
}

/// The defaults that the chart documents are those that the operator documents.
#[test]
fn defaults_are_the_operators() {
    let help = Command::new(binary()).arg("--help").env_clear().output().expect("the binary runs").stdout;
    let help = String::from_utf8(help).expect("text");
    let default = |flag: &str| -> &str {
        let (_, rest) = help.split_once(&format!("  --{flag} ")).expect("a flag");
        rest.split_once("(default: ").and_then(|(_, rest)| rest.split_once(")\n")).expect("it has a default").0
    };
    let text = file("values.yaml");
    for (value, flag) in [
        ("flyMachineSize", "fly-machine-size"),
        ("loadBalancerClass", "load-balancer-class"),
        ("clusterName", "cluster-name"),
        ("frpsImage", "frps-image"),
        ("frpcImage", "frpc-image"),
    ] {
        let (above, _) = text.split_once(&format!("\n{value}: \"\"\n")).expect("it is empty");
        let comment = above.rsplit_once("\n\n").expect("a blank line").1;
        assert!(comment.contains(&format!("Default: {}.", default(flag))), "{value}: {comment}");
    }
    assert_eq!(defaults()["controlPortBase"].to_string(), default("control-port-base"));
    let helper = file("templates/_helpers.tpl");
    assert!(helper.contains(&format!("\n{}\n", default("load-balancer-class"))));
}

/// All values but one make other manifests than all values do.
#[test]
fn every_value_makes_a_difference() {
    let render = |values: &Value| manifests_to_install("there", &["--values", &write("difference", values)]);
    let mut everything = everything();
    let all = render(&everything);
    for (path, default) in defaults() {
        let pointer = pointer(&path);
        let (parent, key) = pointer.rsplit_once('/').expect("it begins with one");
        match path.as_str() {
            // It is given instead of the token.
            "existingSecret" => {
                let mut values = everything.clone();
                values.as_object_mut().expect("values").remove("flyApiToken");
                values["existingSecret"] = json!("mine");
                assert_ne!(render(&values), all, "{path}");
            }
            // The token, the organisation and the region are required, so they are changed and not left out.
            "flyApiToken" | "flyOrg" | "flyRegion" => {
                let before = std::mem::replace(&mut everything[key], json!("other"));
                assert_ne!(render(&everything), all, "{path}");
                everything[key] = before;
            }
            // Without a ServiceAccount its annotations have no place, so this value is changed and not left out.
            "serviceAccount.create" => {
                everything["serviceAccount"]["create"] = json!(false);
                assert_ne!(render(&everything), all, "{path}");
                everything["serviceAccount"]["create"] = json!(true);
            }
            _ => {
                let value =
                    everything.pointer(&pointer).unwrap_or_else(|| panic!("ci/everything-values.yaml lacks {path}"));
                assert_ne!(*value, default, "ci/everything-values.yaml has the default of {path}");
                let mut values = everything.clone();
                values.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(key);
                assert_ne!(render(&values), all, "{path}");
            }
        }
    }
}

/// Helm takes `null` for a value that is not there. A user who writes it gets manifests that can be made without the
/// value, or a clear refusal.
#[test]
fn a_value_that_is_null_breaks_no_template() {
    let mut paths: Vec<String> = defaults().into_keys().collect();
    let tops: Vec<&str> = paths.iter().filter_map(|path| path.split_once('.')).map(|(top, _)| top).collect();
    let mut tops: Vec<String> = tops.into_iter().map(str::to_owned).collect();
    tops.dedup();
    paths.extend(tops);
    for path in paths {
        for values in [MINIMAL, EVERYTHING] {
            let set = format!("{path}=null");
            if let Err(error) = manifests("there", &[values, &["--set", &set]].concat()) {
                let name = path.rsplit('.').next().unwrap_or_default();
                let told = error.contains(&format!("missing property '{name}'"))
                    || error.contains(&format!("{name} is missing"));
                assert!(told, "{path}: {error}");
            }
        }
    }
}

#[test]
fn a_bad_value_is_refused_with_words_that_help() {
    let minimal: &[(&str, Value)] =
        &[("flyApiToken", json!("fo1_token")), ("flyOrg", json!("personal")), ("flyRegion", json!("ord"))];
    for (path, value, told) in [
        ("flyApiToken", json!(""), &["flyApiToken is missing", "fly tokens create org", "existingSecret"][..]),
        ("existingSecret", json!("mine"), &["flyApiToken and existingSecret are both set: give one of them"]),
        ("existingSecret", json!("My_Secret"), &["\nexistingSecret is \"My_Secret\": give the name of an object"]),
        ("flyOrg", json!(""), &["flyOrg is missing", "--set flyOrg=personal"]),
        ("flyOrg", json!("My Org"), &["\nflyOrg is \"My Org\": give the organisation's slug", "fly orgs list"]),
        ("flyOrg", json!(7), &["/flyOrg", "got number, want string"]),
        ("flyRegion", json!(""), &["flyRegion is missing", "--set flyRegion=ord"]),
        ("flyRegion", json!("Chicago"), &["\nflyRegion is \"Chicago\": give a region's code such as ord", r"ord\,iad"]),
        (
            "flyMachineSize",
            json!("huge"),
            &["\nflyMachineSize is \"huge\": give a preset of Fly's, such as shared-cpu-1x"],
        ),
        ("flyRegion", json!(["ord", "iad"]), &["/flyRegion", "got array, want string"]),
        ("flyRegoin", json!("ord"), &["'flyRegoin' not allowed"]),
        ("frpc/toleration", json!([]), &["/frpc", "'toleration' not allowed"]),
        ("frpc/tolerations", json!({}), &["/frpc/tolerations", "got object, want array"]),
        ("frpc/imagePullSecrets", json!(["registry"]), &["/frpc/imagePullSecrets/0", "got string, want object"]),
        ("image/tags", json!("1"), &["/image", "'tags' not allowed"]),
        ("image/tag", json!(1), &["/image/tag", "got number, want string"]),
        ("image/repository", json!(""), &["/image/repository"]),
        (
            "image/repository",
            json!("a/b:1"),
            &["\nimage.repository is \"a/b:1\": give", "tag and digest go into image.tag"],
        ),
        ("image/repository", json!("a/b@sha256:1"), &["\nimage.repository is"]),
        ("image/tag", json!("a b"), &["\nimage.tag is \"a b\": give a tag such as"]),
        ("image/pullPolicy", json!("Sometimes"), &["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
        ("replicaCount", json!(0), &["/replicaCount", "got 0, want 1"]),
        ("replicaCount", json!(1.5), &["/replicaCount", "want integer"]),
        ("replicaCount", json!("2"), &["/replicaCount", "got string, want integer"]),
        ("controlPortBase", json!(70_000), &["/controlPortBase", "65,000"]),
        ("resources/limit", json!({}), &["/resources", "'limit' not allowed"]),
        (
            "resources/limits/memory",
            json!("64 MB"),
            &["\nresources.limits.memory is \"64 MB\": give a quantity such as 100m (of a core) or 64Mi (of bytes)"],
        ),
        ("resources/limits/memory", json!(-1), &["/resources/limits/memory", "got -1, want 0"]),
        ("nodeSelector", json!({ "ssd": true }), &["/nodeSelector/ssd", "got boolean, want string"]),
        ("imagePullSecrets", json!([{}]), &["/imagePullSecrets/0", "missing property 'name'"]),
        ("podLabels", json!(["a"]), &["/podLabels", "got array, want object"]),
        ("extraArgs", json!("--poll-interval=2s"), &["/extraArgs", "got string, want array"]),
        ("extraArgs", json!([2]), &["/extraArgs/0", "got number, want string"]),
        ("extraArgs", json!(["--fly-org=other"]), &["\nextraArgs has \"--fly-org=other\": use the value flyOrg"]),
        (
            "extraArgs",
            json!(["--cluster-name", "x"]),
            &["\nextraArgs has \"--cluster-name\": use the value clusterName"],
        ),
        ("extraArgs", json!(["--help"]), &["\nextraArgs has \"--help\": run the binary on your own machine"]),
        (
            "extraEnv",
            json!([{ "name": "FLY_API_TOKEN", "value": "x" }]),
            &["\nextraEnv has FLY_API_TOKEN: use the value"],
        ),
        ("extraEnv", json!([{ "name": "KUBECONFIG", "value": "x" }]), &["\nextraEnv has KUBECONFIG: leave it out"]),
        ("extraArgs", json!(["--drain"]), &["\nextraArgs has \"--drain\": use the value uninstall.drain"]),
        (
            "extraEnv",
            json!([{ "name": "CLUSTER_NAME", "value": "x" }]),
            &["\nextraEnv has CLUSTER_NAME: use the value"],
        ),
        ("extraEnv", json!([{ "name": "OPERATOR_NAMESPACE" }]), &["\nextraEnv has OPERATOR_NAMESPACE: leave it out"]),
        ("extraEnv", json!([{ "name": "A", "value": 1 }]), &["/extraEnv/0/value", "got number, want string"]),
        ("extraEnv", json!([{ "name": "A", "valuefrom": {} }]), &["/extraEnv/0", "'valuefrom' not allowed"]),
        ("frpc/tolerations", json!([{ "Key": "edge" }]), &["/frpc/tolerations/0", "'Key' not allowed"]),
        ("frpc/tolerations", json!([{ "operator": "exists" }]), &["/frpc/tolerations/0/operator", "'Exists'"]),
        ("frpc/affinity", json!({ "nodeaffinity": {} }), &["/frpc/affinity", "'nodeaffinity' not allowed"]),
        ("tolerations", json!([{ "effect": "NoRun" }]), &["/tolerations/0/effect", "'NoSchedule'"]),
        ("fullnameOverride", json!("My_Tunnels"), &["\nfullnameOverride is \"My_Tunnels\": give up to 63 lower-case"]),
        ("nameOverride", json!("-"), &["\nnameOverride is \"-\": give up to 63 lower-case"]),
        ("extraEnv", json!({ "RUST_LOG": "debug" }), &["/extraEnv", "got object, want array"]),
        ("extraEnv", json!([{ "value": "debug" }]), &["/extraEnv/0", "missing property 'name'"]),
        ("serviceAccount/create", json!("false"), &["/serviceAccount/create", "got string, want boolean"]),
        ("serviceAccount/automount", json!(true), &["/serviceAccount", "'automount' not allowed"]),
        ("uninstall/drain", json!("yes"), &["/uninstall/drain", "got string, want boolean"]),
        ("uninstall", json!(true), &["/uninstall", "got boolean, want object"]),
        ("networkPolicy/enable", json!(true), &["/networkPolicy", "'enable' not allowed"]),
        ("podMonitor/interval", json!("often"), &["\npodMonitor.interval is \"often\": give a duration"]),
        ("grafanaDashboard/enabled", json!(1), &["/grafanaDashboard/enabled", "got number, want boolean"]),
        ("loadBalancerClass", json!("my class"), &["\nloadBalancerClass is \"my class\": give a label-style name"]),
        ("loadBalancerClass", json!("a/b/c"), &["\nloadBalancerClass is \"a/b/c\": give a label-style name"]),
        ("loadBalancerClass", json!("."), &["\nloadBalancerClass is \".\": give a label-style name"]),
        ("clusterName", json!(" "), &["\nclusterName is \" \": give a name"]),
        ("clusterName", json!("home "), &["\nclusterName is \"home \": give a name", "no blanks at its ends"]),
        ("flyApiToken", json!(" "), &["\nflyApiToken is \" \": give the token"]),
        ("serviceAccount/name", json!("A B"), &["\nserviceAccount.name is \"A B\": give the name of an object"]),
        ("priorityClassName", json!("High"), &["\npriorityClassName is \"High\": give the name of an object"]),
        (
            "frpc/priorityClassName",
            json!("High"),
            &["\nfrpc.priorityClassName is \"High\": give the name of an object"],
        ),
        ("grafanaDashboard/namespace", json!("a.b"), &["\ngrafanaDashboard.namespace is \"a.b\": give up to 63"]),
        (
            "extraArgs",
            json!(["--poll-interval 2s"]),
            &["\nan item of extraArgs is \"--poll-interval 2s\": give one flag"],
        ),
        ("extraArgs", json!(["-h"]), &["\nan item of extraArgs is \"-h\": give one flag such as --poll-interval=2s"]),
        ("frpsImage", json!("frps 1"), &["\nfrpsImage is \"frps 1\": give no spaces"]),
    ] {
        let mut values: Value = minimal.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut place = &mut values;
        for key in path.split('/') {
            place = &mut place[key];
        }
        *place = value.clone();
        let error = manifests("there", &["--values", &write("bad", &values)]).err();
        let error = error.unwrap_or_else(|| panic!("{path}: {value} is taken"));
        for words in told {
            assert!(error.contains(words), "{path}: {value} is refused without {words:?}: {error}");
        }
        assert!(!error.contains("nil pointer"), "{error}");
    }
}

/// A newcomer who gives no value is told of everything that is missing at once.
#[test]
fn all_that_is_missing_is_told_at_once() {
    let error = manifests("there", &[]).expect_err("three values are required");
    for missing in ["flyApiToken", "flyOrg", "flyRegion"] {
        assert!(error.contains(&format!("\n{missing} is missing: ")), "{error}");
    }
}

#[test]
fn what_users_give_is_taken() {
    for arguments in [
        &["--set", r"flyRegion=ord\,iad"][..],
        &["--set-literal", "flyApiToken=FlyV1 fm2_a,fm2_b"],
        &["--set", "flyApiToken=,existingSecret=mine.v2"],
        &["--set", "loadBalancerClass=internal"],
        &["--set", "extraArgs={--poll-interval,2s,--resync-interval=30s}"],
        &["--set", "image.tag=0.1.0@sha256:abc"],
        &["--set", "resources=null"],
        &["--set", "resources.limits.cpu=1,resources.requests.cpu=0.5"],
        &["--set", "global.imageRegistry=of-a-chart-around-it"],
        &["--set", "extraEnv[0].name=RUST_LOG,extraEnv[0].value=debug"],
        &["--set", "podMonitor.interval=1m30s"],
        &["--set", "image.repository=localhost:5000/fly-tunnel-operator"],
        &["--set", "resources.limits.memory=67108864,resources.limits.nvidia\\.com/gpu=1"],
        &["--set", "extraArgs={--poll-interval=2s,--leader-elect-retry-period,5s}"],
        &["--set", "extraEnv[0].name=ONCE,extraEnv[0].value=mine"],
        &["--set", "extraEnv[0].name=NAMESPACE,extraEnv[0].value=mine"],
        &["--set", "frpc.affinity.nodeAffinity.whatever=kubernetes-judges"],
    ] {
        manifests("there", &[MINIMAL, arguments].concat()).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}

/// The chart takes every size of a Machine that the operator takes. The operator lists its sizes where it refuses
/// another.
#[test]
fn every_size_that_the_operator_takes_is_taken() {
    let wrong = ["--fly-org=o", "--fly-region=ord", "--fly-machine-size=wrong"];
    let refused = Command::new(binary()).args(wrong).env("FLY_API_TOKEN", "t").output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let sizes: Vec<&str> = said.trim().rsplit_once("use one of ").expect("a list").1.split(", ").collect();
    assert!(sizes.len() > 10, "{said}");
    for size in sizes {
        let set = format!("flyMachineSize={size}");
        manifests("there", &[MINIMAL, &["--set", &set]].concat()).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// An argument that the chart itself gives the operator cannot be given a second time in `extraArgs`.
#[test]
fn every_argument_of_the_charts_is_refused_in_extra_args() {
    let objects = yaml::documents(&manifests_to_install("there", EVERYTHING));
    for owner in ["Deployment", "Job"] {
        let container = &super::only(&objects, owner)["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str);
        let extra = ["--log-format=json", "--poll-interval", "2s"];
        for argument in arguments.filter(|argument| !extra.contains(argument)) {
            let flag = argument.split('=').next().expect("a flag");
            let error = manifests("there", &[MINIMAL, &["--set", &format!("extraArgs={{{flag}}}")]].concat());
            let error = error.err().unwrap_or_else(|| panic!("{flag} is taken"));
            assert!(error.contains(&format!("extraArgs has {flag:?}: ")), "{error}");
        }
    }
}
