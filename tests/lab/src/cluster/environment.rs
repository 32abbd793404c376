//! A container's environment, and the references to it in its command.

use std::collections::BTreeMap;

use super::objects::Kind;
use super::pod::PodContext;
use super::spec::{Container, EnvSource, KeyRef, ObjectRef, Pod};
use super::status::Waiting;

/// The variables by name, as a real container would see them: not yet mapped into its root.
pub(crate) type Environment = BTreeMap<String, String>;

/// The whole environment of a container. `image` is the part that its image sets.
pub(crate) fn environment(
    context: &PodContext,
    container: &Container,
    image: &[(&str, &str)],
) -> Result<Environment, Waiting> {
    let pod = &context.pod;
    let api_server = context.lab.in_cluster_endpoint(&pod.metadata.namespace);
    let mut environment: Environment =
        image.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    environment.insert("HOSTNAME".into(), pod.metadata.name.clone());
    environment.insert("KUBERNETES_SERVICE_HOST".into(), api_server.ip().to_string());
    environment.insert("KUBERNETES_SERVICE_PORT".into(), api_server.port().to_string());
    for source in &container.env_from {
        for (kind, reference) in [(Kind::ConfigMap, &source.config_map_ref), (Kind::Secret, &source.secret_ref)] {
            let Some(ObjectRef { name, optional }) = reference else { continue };
            match context.lab.objects.data(kind, &pod.metadata.namespace, name) {
                Some(data) => environment
                    .extend(data.into_iter().map(|(key, value)| (format!("{}{key}", source.prefix), text(&value)))),
                None if *optional => {}
                None => return Err(Waiting::config(not_found(kind, name))),
            }
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &environment)),
            Some(EnvSource::FieldRef(field)) => Some(field_value(context, &field.field_path).map_err(Waiting::config)?),
            Some(EnvSource::SecretKeyRef(key)) => key_value(context, Kind::Secret, key)?,
            Some(EnvSource::ConfigMapKeyRef(key)) => key_value(context, Kind::ConfigMap, key)?,
            Some(EnvSource::Unknown(source)) => {
                return Err(Waiting::config(format!("the lab's nodes do not know the source {source} of a variable")));
            }
        };
        if let Some(value) = value {
            environment.insert(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

/// Replaces `$(NAME)` by the value of the variable, if there is one, and `$$` by `$`.
pub(crate) fn expand(text: &str, environment: &Environment) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        let reference = from.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        rest = match reference {
            Some((name, after)) => {
                match environment.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.push_str(&from[..from.len() - after.len()]),
                }
                after
            }
            None => {
                expanded.push('$');
                from.strip_prefix("$$").unwrap_or(&from[1..])
            }
        };
    }
    expanded + rest
}

/// The value that the downward API gives for a field path. Addresses are those inside the lab, which the container can
/// use.
pub(crate) fn field_value(context: &PodContext, path: &str) -> Result<String, String> {
    let Pod { metadata, spec, .. } = &context.pod;
    let all = |map: &BTreeMap<String, String>| {
        let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    let subscript = |map: &BTreeMap<String, String>, rest: &str| {
        let key = rest.strip_prefix("['").and_then(|rest| rest.strip_suffix("']"));
        key.map(|key| map.get(key).cloned().unwrap_or_default())
    };
    let value = match path {
        "metadata.name" => Some(metadata.name.clone()),
        "metadata.namespace" => Some(metadata.namespace.clone()),
        "metadata.uid" => Some(metadata.uid.clone()),
        "metadata.labels" => Some(all(&metadata.labels)),
        "metadata.annotations" => Some(all(&metadata.annotations)),
        "spec.nodeName" => Some(spec.node_name.clone()),
        "spec.serviceAccountName" => Some(spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => Some(context.address.to_string()),
        "status.hostIP" | "status.hostIPs" => Some("127.0.0.1".to_owned()),
        _ => match (path.strip_prefix("metadata.labels"), path.strip_prefix("metadata.annotations")) {
            (Some(rest), _) => subscript(&metadata.labels, rest),
            (_, Some(rest)) => subscript(&metadata.annotations, rest),
            _ => None,
        },
    };
    value.ok_or_else(|| format!("the lab's nodes do not know the field path {path}"))
}

/// The message about a missing object, in the kubelet's own words.
pub(crate) fn not_found(kind: Kind, name: &str) -> String {
    format!("{} \"{name}\" not found", format!("{kind:?}").to_lowercase())
}

fn key_value(context: &PodContext, kind: Kind, reference: &KeyRef) -> Result<Option<String>, Waiting> {
    let KeyRef { name, key, optional } = reference;
    let namespace = &context.pod.metadata.namespace;
    let data = context.lab.objects.data(kind, namespace, name);
    match data.as_ref().map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(text(value))),
        _ if *optional => Ok(None),
        Some(None) => Err(Waiting::config(format!("couldn't find key {key} in {kind:?} {namespace}/{name}"))),
        None => Err(Waiting::config(not_found(kind, name))),
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let environment = Environment::from([("NAME".into(), "web".into()), ("EMPTY".into(), String::new())]);
        for (written, expected) in [
            ("plain", "plain"),
            ("$(NAME)", "web"),
            ("a-$(NAME)-$(EMPTY)b", "a-web-b"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(NAME)", "$(NAME)"),
            ("$NAME $", "$NAME $"),
            ("$(NAME", "$(NAME"),
        ] {
            assert_eq!(expand(written, &environment), expected);
        }
    }
}
