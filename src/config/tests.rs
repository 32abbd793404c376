//! The configuration as a user gives it, from the environment to a [`Config`] or a message.

use super::flags::Command;
use super::*;
use crate::tunnel::settings::ServiceChecks;

fn resolve(extra: &[(&str, &str)]) -> Result<Config, String> {
    let mut all = vec![("FLY_API_TOKEN", "fo1_t"), ("FLY_ORG", "personal"), ("FLY_REGION", "ord")];
    all.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
    all.extend(extra);
    let environment = |name: &str| all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    match Given::read([], environment)? {
        Command::Run(given) => Config::resolve(&given),
        _ => panic!("not a run"),
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = resolve(&[]).expect("the required ones are given");
    assert_eq!(config.class, names::DEFAULT_CLASS);
    assert_eq!(config.settings.settle_time, Duration::from_secs(10));
    assert_eq!(config.settings.drain_timeout, Duration::from_secs(300));
    assert_eq!(config.workers, 32);
    assert_eq!(config.settings.service_checks, ServiceChecks::Tunnel);
    assert_eq!(config.mode, Mode::Serve);
    let [lease_duration, renew_deadline, retry_period] = [60, 40, 10].map(Duration::from_secs);
    assert_eq!(config.election, Some(Timings { lease_duration, renew_deadline, retry_period }));
    assert_eq!(config.request_timeout(), Duration::from_secs(20), "no longer than lease duration less renew deadline");
    assert_eq!(config.kubernetes.namespace_or(None), "fly-tunnel-operator-system");
    assert_eq!(config.kubernetes.namespace_or(Some("pods-own")), "pods-own");
}

#[test]
fn a_bad_or_missing_value_names_the_flag_what_was_given_and_what_is_allowed() {
    for (variable, value, flag, told) in [
        ("FLY_ORG", "", "--fly-org", "required"),
        ("FLY_REGION", "", "--fly-region", "required"),
        ("FLY_API_TOKEN", "", "--fly-api-token-file", "fly tokens create org"),
        ("FLY_API_TOKEN", " \n", "FLY_API_TOKEN", "empty"),
        ("FLY_API_TOKEN_FILE", "/nowhere", "--fly-api-token-file", "/nowhere"),
        ("FLY_REGION", "Chicago", "--fly-region", "such as ord"),
        ("FLY_MACHINE_SIZE", "huge", "--fly-machine-size", "shared-cpu-1x"),
        ("FLY_FLAPS_BASE_URL", "api.machines.dev", "--fly-api-url", "https://api.machines.dev"),
        ("FLY_SERVICE_CHECKS", "yes", "--fly-service-checks", "true, tcp or false"),
        ("FLY_SETTLE_TIME", "10", "--fly-settle-time", "10s"),
        ("DRAIN_TIMEOUT", "5s", "--drain-timeout", "at least 10s"),
        ("POLL_INTERVAL", "0s", "--poll-interval", "at least 100ms"),
        ("WORKERS", "0", "--workers", "1 to 256"),
        ("CONTROL_PORT_BASE", "70000", "--control-port-base", "1 to 65535"),
        ("LEADER_ELECT", "no", "--leader-elect", "true or false"),
        (
            "LEADER_ELECT_LEASE_DURATION",
            "40s",
            "--leader-elect-lease-duration",
            "1s more than --leader-elect-renew-deadline",
        ),
        (
            "LEADER_ELECT_RENEW_DEADLINE",
            "12s",
            "--leader-elect-renew-deadline",
            "1.2 times --leader-elect-retry-period",
        ),
        ("LEADER_ELECT_RETRY_PERIOD", "0s", "--leader-elect-retry-period", "at least 100ms"),
        ("RESYNC_INTERVAL", "9223372036854775807s", "--resync-interval", "at most 365 days"),
        ("HTTP_BIND_ADDRESS", "8080", "--http-bind-address", "such as :8080"),
        ("OPERATOR_NAMESPACE", "Not A Name", "--namespace", "lower-case"),
        ("OPERATOR_NAMESPACE", "a-", "--namespace", "no dash at either end"),
        ("LOAD_BALANCER_CLASS", "a/b/c", "--load-balancer-class", "label-style name"),
        ("LOAD_BALANCER_CLASS", "/lb", "--load-balancer-class", "label-style name"),
        ("LOAD_BALANCER_CLASS", "Example.com/lb", "--load-balancer-class", "label-style name"),
        ("LOAD_BALANCER_CLASS", "-lb", "--load-balancer-class", "label-style name"),
        ("LOG_FORMAT", "xml", "--log-format", "text or json"),
        ("FRPC_POD_FILE", "/nowhere", "--frpc-pod-file", "cannot be read"),
    ] {
        let message = resolve(&[(variable, value)]).err().unwrap_or_else(|| panic!("{variable}={value} is taken"));
        assert!(message.contains(flag) && message.contains(told), "{message}");
        assert!(value.trim().is_empty() || message.contains(value), "{message} tells what was given");
    }
}
