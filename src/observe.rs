//! Looks at Fly and the cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube_client_lite::{ListQuery, ObjectMeta, Resource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::failure::Failure;
use crate::fly;
use crate::fly::error::FlyError;
use crate::render::machine;
use crate::render::objects::MACHINE_LABEL;
use crate::service::Service;
use crate::tunnel::keys::TunnelKeys;
use crate::tunnel::memory::Memory;
use crate::tunnel::observed::{Address, App, Deployment, KeysSecret, LaneObject, Objects, Observed, OurApp, Unlisted};
use crate::tunnel::plan::{Look, Reason};
use crate::tunnel::{Tunnel, TunnelId, names};
use crate::world::World;

#[derive(Deserialize)]
struct ConfigMap {
    metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct Secret {
    metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// A Deployment as the API server shows it.
#[derive(Deserialize)]
pub struct WireDeployment {
    metadata: ObjectMeta,
    #[serde(default)]
    status: DeploymentStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeploymentStatus {
    observed_generation: i64,
    updated_replicas: i64,
    available_replicas: i64,
}

impl World {
    /// The Service of that name, or `None` if there is none.
    ///
    /// # Errors
    /// The cluster cannot be asked.
    pub fn service(&self, id: &TunnelId) -> Result<Option<Service>, Failure> {
        match self.kube.get(&Resource::SERVICES.named(&id.namespace, &id.name)) {
            Ok(service) => Ok(Some(service)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks, and takes down what it saw.
    ///
    /// # Errors
    /// Fly or the cluster cannot be asked; what was seen before is as it was.
    pub fn look(&self, look: &Look, tunnel: &Tunnel, seen: &mut Observed, memory: &mut Memory) -> Result<(), Failure> {
        match look {
            Look::Everything => {
                seen.app = Some(self.app(tunnel)?);
                seen.unlisted = None;
                seen.objects = Some(self.objects(tunnel)?);
            }
            Look::App => match self.app_without_contents(tunnel)? {
                App::Ours(_) if matches!(seen.app, Some(App::Ours(_))) => {}
                App::Ours(_) => {
                    seen.app = Some(self.app(tunnel)?);
                    seen.unlisted = None;
                }
                other => seen.app = Some(other),
            },
            Look::Machines(ids) => {
                for id in ids {
                    seen.replace_machine(machine::observed(self.fly.machine(&tunnel.app, id)?));
                }
            }
            Look::Objects => seen.objects = Some(self.objects(tunnel)?),
            Look::AppList => {
                let apps = self.fly.apps()?;
                if apps.iter().any(|app| app.name == tunnel.app) {
                    // It is there after all; Fly's other reads will come to know.
                    (memory.absent, memory.no_address) = (None, None);
                } else {
                    seen.unlisted = Some(Unlisted { holder: self.holder(&apps, tunnel, &seen.shown())? });
                }
            }
        }
        Ok(())
    }

    /// The App of another owner that has one of these addresses. It is named after the same Service.
    fn holder(&self, apps: &[fly::app::App], tunnel: &Tunnel, shown: &[IpAddr]) -> Result<Option<String>, Failure> {
        for app in apps.iter().filter(|app| !shown.is_empty() && names::of_one_service(&app.name, &tunnel.app)) {
            match self.fly.addresses(&app.name) {
                Ok(addresses) if addresses.iter().any(|address| shown.contains(&address.ip)) => {
                    return Ok(Some(app.name.clone()));
                }
                Ok(_) | Err(FlyError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The App with all in it.
    fn app(&self, tunnel: &Tunnel) -> Result<App, Failure> {
        Ok(match self.app_without_contents(tunnel)? {
            App::Ours(_) => {
                let addresses = self.fly.addresses(&tunnel.app)?;
                let machines = self.fly.machines(&tunnel.app)?;
                App::Ours(OurApp {
                    addresses: addresses.into_iter().map(address).collect(),
                    machines: machines.into_iter().map(machine::observed).collect(),
                })
            }
            other => other,
        })
    }

    /// Whose the App is. Its network is the proof: only the owner, the namespace and the Service make its name, and
    /// nobody can change it.
    fn app_without_contents(&self, tunnel: &Tunnel) -> Result<App, Failure> {
        let app = match self.fly.app(&tunnel.app) {
            Ok(app) => app,
            Err(FlyError::NotFound) => return Ok(App::Absent),
            Err(FlyError::Forbidden(text)) => {
                // A token that is too weak gets a 403 too: only where the organisation's list, which we may read, is
                // without the App, is it somebody else's.
                return match self.fly.lists_app(&tunnel.app)? {
                    true => Err(FlyError::Forbidden(text).into()),
                    false => Ok(App::Foreign("it is of another organisation".into())),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let slug = app.organization.slug;
        let network = app.network.filter(|network| !network.is_empty());
        let named_like_ours = network.as_ref().is_none_or(|network| *network == tunnel.network);
        if !named_like_ours {
            return Ok(App::Foreign(format!(
                "its network is {}, its organisation {slug}",
                network.unwrap_or_default()
            )));
        }
        match (network, self.is_our_org(&slug, tunnel)?) {
            (Some(_), true) => Ok(App::Ours(OurApp::default())),
            // Nobody else makes this name and this network: it is not the App that is wrong.
            (Some(_), false) => Err(Failure::shown(
                Reason::FlyUnauthorized,
                format!(
                    "the Fly App {} is ours, but of the organisation {slug} and not of {}: mend --fly-org",
                    tunnel.app,
                    self.fly.org()
                ),
            )),
            (None, true) => {
                let TunnelId { namespace, name } = &tunnel.id;
                log::warn!(namespace, name, app = tunnel.app; "Fly gives no network of the App: its name alone says that it is ours");
                Ok(App::Ours(OurApp::default()))
            }
            (None, false) => Ok(App::Foreign(format!("it is of the organisation {slug}"))),
        }
    }

    /// Whether an App that Fly shows is of our organisation. Fly may call it by another slug than we do; its list tells.
    fn is_our_org(&self, slug: &str, tunnel: &Tunnel) -> Result<bool, FlyError> {
        if slug == self.fly.org() {
            return Ok(true);
        }
        match self.fly.lists_app(&tunnel.app) {
            Ok(listed) => Ok(listed),
            // The token is good, it just got the App: it is not for this organisation.
            Err(FlyError::Unauthorized(_) | FlyError::Forbidden(_) | FlyError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Our objects of the tunnel in the cluster.
    fn objects(&self, tunnel: &Tunnel) -> Result<Objects, Failure> {
        let home = self.home(tunnel);
        let query = ListQuery { label_selector: Some(home.selector()), ..ListQuery::default() };
        let mut secrets: Vec<Secret> = self.kube.list(&Resource::SECRETS.in_namespace(&self.namespace), &query)?;
        let mut config_maps: Vec<ConfigMap> =
            self.kube.list(&Resource::CONFIG_MAPS.in_namespace(&self.namespace), &query)?;
        let mut deployments: Vec<WireDeployment> =
            self.kube.list(&Resource::DEPLOYMENTS.in_namespace(&self.namespace), &query)?;
        let mut objects = Objects::default();
        let mut ours = |metadata: &ObjectMeta| match home.other_app(&metadata.labels) {
            Some(app) => {
                objects.other_apps.insert(app);
                false
            }
            None => true,
        };
        secrets.retain(|secret| ours(&secret.metadata));
        config_maps.retain(|map| ours(&map.metadata));
        deployments.retain(|deployment| ours(&deployment.metadata));
        objects.config_maps = config_maps.into_iter().map(|map| lane_object(map.metadata)).collect();
        objects.deployments = deployments.into_iter().map(deployment).collect();
        let mut complete = Vec::new();
        for secret in secrets {
            match keys(&secret) {
                Some(keys) => complete.push((secret.metadata.creation_timestamp, secret.metadata.name, keys)),
                None => objects.broken_keys.push(secret.metadata.name),
            }
        }
        complete.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        objects.keys = complete.into_iter().map(|(_, name, keys)| KeysSecret { name, keys }).collect();
        Ok(objects)
    }
}

/// An address as a plan wants it.
pub fn address(assignment: crate::fly::address::Assignment) -> Address {
    Address { ip: assignment.ip, dedicated: assignment.is_dedicated_v4(), created_at: assignment.created_at }
}

/// A Deployment as a plan wants it.
pub fn deployment(wire: WireDeployment) -> Deployment {
    let WireDeployment { metadata, status } = wire;
    let version = metadata.generation.unwrap_or_default();
    let current = status.observed_generation == version && status.updated_replicas > 0;
    Deployment { version, available: current && status.available_replicas > 0, object: lane_object(metadata) }
}

fn lane_object(mut metadata: ObjectMeta) -> LaneObject {
    LaneObject { machine: metadata.labels.remove(MACHINE_LABEL).unwrap_or_default(), name: metadata.name }
}

fn keys(secret: &Secret) -> Option<TunnelKeys> {
    TunnelKeys::read(|name| String::from_utf8(STANDARD.decode(secret.data.get(name)?).ok()?).ok())
}
