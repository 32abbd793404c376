//! Checks a Machine's config as Fly does, and brings it into the form in which Fly gives it back.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

/// A named size of Machine, from the Go client's table of presets.
pub(crate) struct Preset {
    kind: CpuKind,
    cpus: u32,
}

/// The least and the most memory for each CPU, in megabytes.
fn memory_per_cpu(kind: CpuKind) -> (u32, u32) {
    match kind {
        CpuKind::Shared => (256, 2048),
        CpuKind::Performance => (2048, 8192),
    }
}

fn cpu_counts(kind: CpuKind) -> &'static [u32] {
    match kind {
        CpuKind::Shared => &[1, 2, 4, 6, 8],
        CpuKind::Performance => &[1, 2, 4, 6, 8, 10, 12, 14, 16],
    }
}

impl Preset {
    /// The preset of this name, such as `shared-cpu-1x`; `None` if there is none.
    pub(crate) fn named(name: &str) -> Option<Preset> {
        let (kind, count) = if let Some(count) = name.strip_prefix("shared-cpu-") {
            (CpuKind::Shared, count)
        } else {
            (CpuKind::Performance, name.strip_prefix("performance-")?)
        };
        let cpus = count.strip_suffix('x')?.parse().ok()?;
        cpu_counts(kind).contains(&cpus).then_some(Preset { kind, cpus })
    }

    fn guest(&self) -> Guest {
        Guest {
            cpu_kind: Some(self.kind),
            cpus: Some(self.cpus),
            memory_mb: Some(self.cpus * memory_per_cpu(self.kind).0),
            ..Guest::default()
        }
    }
}

/// Checks `config` and brings it into the form in which Fly gives it back.
///
/// # Errors
/// The error says what is refused, in words for the body of a 400.
pub(crate) fn normalise(mut config: MachineConfig) -> Result<MachineConfig, String> {
    if config.image.as_deref().unwrap_or_default().is_empty() {
        return Err("config.image: is required".to_owned());
    }
    config.guest = Some(guest(config.guest.take(), config.size.take())?);
    config.init.get_or_insert_default();
    config.restart.get_or_insert_default().policy.get_or_insert(RestartPolicy::OnFailure);
    config.auto_destroy.get_or_insert(false);
    for file in config.files.iter().flatten() {
        check_file(file)?;
    }
    for service in config.services.iter_mut().flatten() {
        normalise_service(service)?;
    }
    for (name, check) in config.checks.iter_mut().flatten() {
        normalise_top_level_check(name, check)?;
    }
    if let Some(stop) = &config.stop_config
        && stop.timeout.is_some_and(|timeout| timeout.0 > Duration::from_secs(300))
    {
        return Err("config.stop_config.timeout: may be no longer than 5m0s".to_owned());
    }
    if config.mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return Err("config.mounts: volume not found".to_owned());
    }
    if config.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty()) && !config.services().is_empty() {
        return Err("config.standbys: a standby cannot have services".to_owned());
    }
    if config.containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        return Err("config.containers: not available to this organization".to_owned());
    }
    Ok(config)
}

fn guest(guest: Option<Guest>, size: Option<String>) -> Result<Guest, String> {
    let guest = match (guest, size) {
        (Some(_), Some(_)) => return Err("config.guest and config.size are mutually exclusive".to_owned()),
        (Some(guest), None) => guest,
        (None, size) => {
            let name = size.as_deref().unwrap_or("shared-cpu-1x");
            return Preset::named(name)
                .map(|preset| preset.guest())
                .ok_or(format!("config.size: unknown size {name:?}"));
        }
    };
    let kind = guest.cpu_kind.unwrap_or(CpuKind::Shared);
    let cpus = guest.cpus.unwrap_or(1);
    if !cpu_counts(kind).contains(&cpus) {
        return Err(format!("config.guest.cpus: {cpus} is none of {:?}", cpu_counts(kind)));
    }
    let (least, most) = memory_per_cpu(kind);
    let memory = guest.memory_mb.unwrap_or(cpus * least);
    if memory % 256 != 0 || !(cpus * least..=cpus * most).contains(&memory) {
        return Err(format!(
            "config.guest.memory_mb: {memory} is no multiple of 256 between {} and {}",
            cpus * least,
            cpus * most
        ));
    }
    Ok(Guest { cpu_kind: Some(kind), cpus: Some(cpus), memory_mb: Some(memory), ..guest })
}

fn check_file(file: &File) -> Result<(), String> {
    let path = file.guest_path.as_deref().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(format!("config.files: guest_path {path:?} is not absolute"));
    }
    let sources = [&file.raw_value, &file.secret_name, &file.image_config];
    if sources.iter().filter(|source| source.is_some()).count() != 1 {
        return Err(format!("config.files: {path:?} needs one of raw_value, secret_name and image_config"));
    }
    if let Some(name) = file.secret_name.as_ref().or(file.image_config.as_ref()) {
        // The lab has neither secrets nor images from which to take a file.
        return Err(format!("config.files: {name:?}, the source of {path:?}, was not found"));
    }
    if content(file).is_err() {
        return Err(format!("config.files: raw_value of {path:?} is not base64"));
    }
    if file.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(format!("config.files: {path:?} has a mode beyond 0o7777"));
    }
    Ok(())
}

/// The content of a file.
///
/// # Errors
/// Its `raw_value` is not base64.
pub(crate) fn content(file: &File) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64_STANDARD.decode(file.raw_value.as_deref().unwrap_or_default())
}

fn normalise_service(service: &mut Service) -> Result<(), String> {
    let Some(internal_port) = service.internal_port.filter(|port| *port > 0) else {
        return Err("config.services: internal_port must be between 1 and 65535".to_owned());
    };
    let at = format!("config.services (internal port {internal_port})");
    let protocol = *service.protocol.get_or_insert(Protocol::Tcp);
    for port in service.ports.iter().flatten() {
        let single = port.port.is_some();
        let range = port.start_port.is_some() || port.end_port.is_some();
        if single == range || *port.range().start() == 0 || port.range().is_empty() {
            return Err(format!("{at}: a port needs either port or start_port and end_port, within 1 to 65535"));
        }
        let speaks_http = port.handlers.iter().flatten().any(|handler| *handler == Handler::Http);
        if port.force_https == Some(true) && !speaks_http {
            return Err(format!("{at}: force_https needs the http handler"));
        }
        if protocol == Protocol::Udp && port.handlers.as_ref().is_some_and(|handlers| !handlers.is_empty()) {
            return Err(format!("{at}: UDP has no handlers"));
        }
    }
    if let Some(checks) = &mut service.checks {
        if protocol == Protocol::Udp && !checks.is_empty() {
            return Err(format!("{at}: UDP has no checks"));
        }
        for check in checks {
            if check.kind.is_some() {
                return Err(format!("{at}: kind is for top-level checks"));
            }
            check.r#type.ok_or(format!("{at}: a check needs a type"))?;
            check.port.get_or_insert(internal_port);
            let clamp = |duration: GoDuration, least| {
                GoDuration(duration.0.clamp(Duration::from_secs(least), Duration::from_secs(60)))
            };
            check.interval = Some(clamp(check.interval.unwrap_or(DEFAULT_INTERVAL), 1));
            check.timeout = Some(clamp(check.timeout.unwrap_or(DEFAULT_TIMEOUT), 1));
            check.grace_period = check.grace_period.map(|grace| clamp(grace, 0));
        }
    }
    Ok(())
}

fn normalise_top_level_check(name: &str, check: &mut Check) -> Result<(), String> {
    check.r#type.ok_or(format!("config.checks.{name}: a check needs a type"))?;
    check.port.ok_or(format!("config.checks.{name}: a check needs a port"))?;
    check.kind.get_or_insert(CheckKind::Informational);
    if check.interval.get_or_insert(DEFAULT_INTERVAL).0 < Duration::from_secs(2) {
        return Err(format!("config.checks.{name}: interval must be at least 2s"));
    }
    if check.timeout.get_or_insert(DEFAULT_TIMEOUT).0 > Duration::from_secs(60) {
        return Err(format!("config.checks.{name}: timeout may be no longer than 1m0s"));
    }
    Ok(())
}

/// The interval and the timeout of a check that gives none; they are the defaults of `fly.toml`.
const DEFAULT_INTERVAL: GoDuration = GoDuration(Duration::from_secs(15));
const DEFAULT_TIMEOUT: GoDuration = GoDuration(Duration::from_secs(2));
