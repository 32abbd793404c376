//! Looks at Fly and the cluster.

use std::net::IpAddr;

use crate::cluster::Find;
use crate::fly::App as FlyApp;
use crate::fly::error::{ErrorKind, FlyError};
use crate::render::{address, machine, objects};
use crate::tunnel::failure::{Cause, Failure};
use crate::tunnel::memory::Memory;
use crate::tunnel::now::Now;
use crate::tunnel::observed::{Absence, App, Objects, Observed, OurApp};
use crate::tunnel::plan::step::Look;
use crate::tunnel::summary::{self, Summary};
use crate::tunnel::{Tunnel, names};
use crate::world::World;

/// Looks, and takes down what it saw.
///
/// # Errors
/// Fly or the cluster cannot be asked; what was seen before is as it was.
pub fn look(
    world: &World,
    look: &Look,
    tunnel: &Tunnel,
    seen: &mut Observed,
    memory: &mut Memory,
    now: Now,
) -> Result<(), Failure> {
    match look {
        Look::Everything => {
            seen.app = Some(app(world, tunnel)?);
            seen.absence = None;
            seen.objects = Some(our_objects(world, tunnel, seen.our_app())?);
        }
        Look::App => match (whose(world, tunnel)?, &seen.app) {
            (Whose::Ours, Some(App::Ours(_))) => {}
            (Whose::Ours, _) => {
                seen.app = Some(App::Ours(contents(world, tunnel)?));
                seen.absence = None;
            }
            (Whose::Nobodys, _) => seen.app = Some(App::Absent),
            (Whose::SomebodyElses(who), _) => seen.app = Some(App::Foreign(who)),
        },
        Look::Machines(ids) => {
            for id in ids {
                seen.replace_machine(machine::observed(world.fly.machine(&tunnel.app, id)?));
            }
        }
        Look::Objects => seen.objects = Some(our_objects(world, tunnel, seen.our_app())?),
        // Where the cluster cannot be asked either, nobody knows of any.
        Look::Frpc => seen.frpc_connected = Some(frpc_connected(world, tunnel).unwrap_or_default()),
        Look::AppList => {
            let apps = world.fly.apps()?;
            if apps.iter().any(|app| app.name == tunnel.app) {
                memory.app_is_listed();
            } else {
                let holder = holder(world, &apps, tunnel, &seen.shown_addresses())?;
                seen.absence = Some(Absence { holder });
            }
        }
        Look::TimeOfDeletion => memory.deeds.time_of_deletion = Some(world.time_of_deletion(now.monotonic)),
    }
    Ok(())
}

/// The App of another owner that has one of these addresses. It is named after the same tunnel.
fn holder(world: &World, apps: &[FlyApp], tunnel: &Tunnel, shown: &[IpAddr]) -> Result<Option<String>, Failure> {
    for app in apps.iter().filter(|app| !shown.is_empty() && names::of_one_tunnel(&app.name, &tunnel.app)) {
        match world.fly.addresses(&app.name) {
            Ok(addresses) if addresses.iter().any(|address| shown.contains(&address.ip)) => {
                return Ok(Some(app.name.clone()));
            }
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// The App with all in it.
fn app(world: &World, tunnel: &Tunnel) -> Result<App, Failure> {
    Ok(match whose(world, tunnel)? {
        Whose::Ours => App::Ours(contents(world, tunnel)?),
        Whose::SomebodyElses(who) => App::Foreign(who),
        Whose::Nobodys => App::Absent,
    })
}

/// Whether Fly shows the App's Machines and addresses as they were found. Whose the App is, the sweeps show.
///
/// # Errors
/// Fly cannot be asked.
pub fn is_as_found(world: &World, tunnel: &Tunnel, found: &Summary) -> Result<bool, Failure> {
    let app = contents(world, tunnel)?;
    Ok(summary::lanes(&app.machines) == found.lanes && summary::addresses(&app.addresses) == found.addresses)
}

fn contents(world: &World, tunnel: &Tunnel) -> Result<OurApp, Failure> {
    let addresses = world.fly.addresses(&tunnel.app)?;
    let machines = world.fly.machines(&tunnel.app)?;
    Ok(OurApp {
        addresses: addresses.into_iter().map(address::observed).collect(),
        machines: machines.into_iter().map(machine::observed).collect(),
    })
}

/// The owner of an App.
enum Whose {
    Ours,
    /// The text says whose, for people.
    SomebodyElses(String),
    /// Fly does not find it.
    Nobodys,
}

/// Finds the owner of the App that has the tunnel's name. Its network is the proof: only the owner and the tunnel make its name, and nobody
/// can change it.
fn whose(world: &World, tunnel: &Tunnel) -> Result<Whose, Failure> {
    let app = match world.fly.app(&tunnel.app) {
        Ok(app) => app,
        Err(FlyError { kind: ErrorKind::NotFound, .. }) => return Ok(Whose::Nobodys),
        Err(error @ FlyError { kind: ErrorKind::Forbidden(_), .. }) => {
            // A token that is too weak gets a 403 too: only where the organisation's list, which we may read, is
            // without the App, is it somebody else's.
            let listed = world.fly.lists_app(&tunnel.app)?;
            return if listed {
                Err(error.into())
            } else {
                Ok(Whose::SomebodyElses("it is of another organisation".into()))
            };
        }
        Err(error) => return Err(error.into()),
    };
    let slug = app.organization.slug;
    let network = app.network.filter(|network| !network.is_empty());
    if let Some(network) = network.as_ref().filter(|network| **network != tunnel.network) {
        return Ok(Whose::SomebodyElses(format!("its network is {network}, its organisation {slug}")));
    }
    match (network, is_our_org(world, &slug, tunnel)?) {
        (Some(_), true) => Ok(Whose::Ours),
        // Nobody else makes this name and this network: it is not the App that is wrong.
        (Some(_), false) => Err(Failure::new(
            Cause::OtherOrganisation,
            format!(
                "the Fly App {} is ours, but of the organisation {slug} and not of {}",
                tunnel.app,
                world.fly.org()
            ),
        )),
        (None, true) => {
            let (namespace, name) = (&tunnel.id.namespace, &tunnel.id.name);
            log::warn!(namespace, name, app = tunnel.app; "Fly gives no network of the App: its name alone says that it is ours");
            Ok(Whose::Ours)
        }
        (None, false) => Ok(Whose::SomebodyElses(format!("it is of the organisation {slug}"))),
    }
}

/// Whether an App that Fly shows is of our organisation. Fly may call it by another slug than we do; its list tells.
fn is_our_org(world: &World, slug: &str, tunnel: &Tunnel) -> Result<bool, FlyError> {
    if slug == world.fly.org() {
        return Ok(true);
    }
    let listed = world.fly.lists_app(&tunnel.app);
    match listed {
        Ok(listed) => Ok(listed),
        // The token is good, it just got the App: it is not for this organisation.
        Err(FlyError { kind: ErrorKind::Unauthorized(_) | ErrorKind::Forbidden(_) | ErrorKind::NotFound, .. }) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether an frpc of the tunnel is connected to its Machine: the pods' own probe says so.
fn frpc_connected(world: &World, tunnel: &Tunnel) -> Result<bool, Failure> {
    let home = world.home(tunnel);
    let listed = world.cluster.deployments(Find::Labels(&home.selector()))?;
    let mut ours = listed.into_iter().filter(|wire| home.is_labelled(&wire.metadata.labels));
    Ok(ours.any(|wire| objects::read::deployment(wire).available))
}

/// Our objects of the tunnel in the cluster. Where frpc does not run, its pods tell why.
fn our_objects(world: &World, tunnel: &Tunnel, app: Option<&OurApp>) -> Result<Objects, Failure> {
    let home = world.home(tunnel);
    let mut listed = world.cluster.objects(Find::Labels(&home.selector()))?;
    for name in objects::read::unlisted(&home, app, &listed) {
        listed.add(world.cluster.objects(Find::Name(&name))?);
    }
    let mut seen = objects::read::observed(&home, app, listed);
    if seen.deployments.iter().any(|deployment| !deployment.available && deployment.trouble.is_none()) {
        objects::pods::explain(&mut seen, &world.cluster.pods(&home.pods())?);
    }
    Ok(seen)
}
