//! The check of each value by itself. An error tells what is allowed; the flag and the value are told by the caller.

use std::time::Duration;

use crate::telemetry::log::LogFormat;
use crate::tunnel::settings::{PodFile, ServiceChecks};

/// Nobody waits longer than that, and clocks can be added to it.
const LONGEST_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration of at least that much, such as `1m30s`.
pub(super) fn duration(least: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |value| match humantime::parse_duration(value) {
        Ok(duration) if duration < least => Err(format!("give at least {}", humantime::format_duration(least))),
        Ok(duration) if duration > LONGEST_DURATION => Err("give at most 365 days".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("give a duration such as 500ms, 10s or 1m30s".into()),
    }
}

pub(super) fn bool(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "give true or false".into())
}

pub(super) fn service_checks(value: &str) -> Result<ServiceChecks, String> {
    match value {
        "true" => Ok(ServiceChecks::Tunnel),
        "tcp" => Ok(ServiceChecks::Tcp),
        "false" => Ok(ServiceChecks::Off),
        _ => Err("give true, tcp or false".into()),
    }
}

pub(super) fn port(value: &str) -> Result<u16, String> {
    value.parse().ok().filter(|port| *port > 0).ok_or_else(|| "give a port from 1 to 65535".into())
}

/// The number of tunnels that are worked on at once. Each has a thread.
pub(super) fn workers(value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|n| (1..=256).contains(n)).ok_or_else(|| "give a number from 1 to 256".into())
}

pub(super) fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("give text or json".into()),
    }
}

/// `:8080`, `127.0.0.1:8080` or `[::1]:8080`. The host is judged where it is bound.
pub(super) fn bind_address(value: &str) -> Result<String, String> {
    let port = value.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| value.to_owned()).ok_or_else(|| "give an address such as :8080 or 127.0.0.1:8080".into())
}

/// A URL, without the slash at its end.
pub(super) fn url(value: &str) -> Result<String, String> {
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err("give a URL such as https://api.machines.dev".into()),
    }
}

pub(super) fn cluster_name(value: &str) -> Result<String, String> {
    if value.trim().is_empty() {
        return Err("give a name that no other cluster of the organisation has".into());
    }
    Ok(value.to_owned())
}

/// A DNS label, as organisations at Fly and namespaces have it for a name.
pub(super) fn label(value: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&value.len()) && value.bytes().all(allowed) && !value.starts_with('-') && !value.ends_with('-')
    {
        Ok(value.to_owned())
    } else {
        Err("give up to 63 lower-case letters, digits and dashes, with no dash at either end".into())
    }
}

/// A load balancer class as Kubernetes has it: a name, with the prefix of a domain or none. No Service could ask for
/// another.
pub(super) fn class(value: &str) -> Result<String, String> {
    let (prefix, name) = value.split_once('/').map_or((None, value), |(prefix, name)| (Some(prefix), name));
    let ends = |text: &str| [text.bytes().next(), text.bytes().last()].iter().flatten().all(u8::is_ascii_alphanumeric);
    let name = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && ends(name);
    let prefix = prefix.is_none_or(|prefix| {
        let domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        (1..=253).contains(&prefix.len()) && prefix.bytes().all(domain) && ends(prefix)
    });
    if name && prefix {
        Ok(value.to_owned())
    } else {
        Err("give a label-style name such as fly-tunnel-operator.dev/lb".into())
    }
}

pub(super) fn image(value: &str) -> Result<String, String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(value.to_owned())
    } else {
        Err("give an image such as fatedier/frps:v0.71.0".into())
    }
}

/// The contents of a file about the frpc pods.
pub(super) fn pod_file(path: &str) -> Result<PodFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_taken_as_services_may_name_them() {
        for allowed in ["internal-vip", "example.com/internal-vip", "a", "a.b/C_d.e"] {
            assert_eq!(class(allowed).as_deref(), Ok(allowed));
        }
        for refused in ["", "a/b/c", "/lb", "a/", "Example.com/lb", "-lb", "lb-", "a b"] {
            assert!(class(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_url_loses_its_last_slash_and_an_address_may_have_no_host() {
        assert_eq!(url("http://[::1]:4280/").as_deref(), Ok("http://[::1]:4280"));
        for refused in ["", "api.machines.dev", "https://", "https://a b", "ftp://a"] {
            assert!(url(refused).is_err(), "{refused:?}");
        }
        for allowed in [":8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(bind_address(allowed).as_deref(), Ok(allowed));
        }
        for refused in ["", "8080", ":", ":99999", "localhost"] {
            assert!(bind_address(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn labels_and_images_have_no_blanks() {
        for (allowed, refused) in [("personal", "Not A Name"), ("a-1", "-a"), ("a", "")] {
            assert_eq!(label(allowed).as_deref(), Ok(allowed));
            assert!(label(refused).is_err(), "{refused:?}");
        }
        assert_eq!(label(&"a".repeat(63)).map(|name| name.len()), Ok(63));
        assert!(label(&"a".repeat(64)).is_err());
        assert!(image("fatedier/frps:v0.71.0").is_ok());
        assert!(image("a b").is_err() && image("").is_err());
        assert!(cluster_name("my home").is_ok() && cluster_name(" ").is_err());
    }

    #[test]
    fn the_pod_file_takes_its_seven_keys_only() {
        let read = |text| serde_json::from_str::<PodFile>(text);
        assert!(read(r#"{"tolerations":[{"key":"a"}],"nodeSelector":{"a":"b"},"affinity":{},"imagePullSecrets":[{"name":"s"}],"priorityClassName":"p","annotations":{"a":"b"},"labels":{"a":"b"}}"#).is_ok());
        assert!(read(r#"{"hostNetwork":true}"#).unwrap_err().to_string().contains("hostNetwork"));
    }
}
