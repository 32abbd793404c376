//! `/apps/{app}/ip_assignments`. There is no idempotency: every POST of a dedicated address bills another one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::{Caller, Fly, read};
use crate::fly::error::{FlyError, FlyResult};
use crate::fly::regions;
use crate::fly::state::Address;
use crate::fly::types::{AddressType, AssignAddress};

/// The one address that all Apps share. It is from a range for documentation, and nothing listens there.
const SHARED_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

pub(super) async fn assign(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> FlyResult<Json<Value>> {
    let request: AssignAddress = read(&body)?;
    let given = |field: Option<String>| field.filter(|text| !text.is_empty());
    let (region, organisation) = (given(request.region), given(request.org_slug));
    let Some(kind) = request.r#type else {
        return Err(FlyError::invalid_argument("type is required"));
    };
    if kind == AddressType::SharedV4 && region.is_some() {
        return Err(FlyError::new(StatusCode::BAD_REQUEST, "region selection is not supported for this IP type"));
    }
    if kind != AddressType::PrivateV6 && (organisation.is_some() || given(request.network).is_some()) {
        return Err(FlyError::new(StatusCode::BAD_REQUEST, "org_slug and network are for private addresses"));
    }
    let region = region.unwrap_or_else(|| "global".to_owned());
    if region != "global" && !regions::exists(&region) {
        return Err(FlyError::new(StatusCode::BAD_REQUEST, format!("region {region} not found")));
    }
    let mut world = shared.world();
    let account = world.organisation(&caller).map(|organisation| organisation.account).unwrap_or_default();
    let number = world.next_number();
    let app = world.app(&caller, &name)?;
    let ip: IpAddr = match kind {
        AddressType::V4 if !account.dedicated_v4 => {
            return Err(FlyError::new(
                StatusCode::BAD_REQUEST,
                "dedicated IPv4 addresses are not available on a trial",
            ));
        }
        AddressType::V4 => shared.slot.public_address().into(),
        // This address exists on paper only: the prefix is one for documentation.
        AddressType::V6 => {
            let [high, low] = [number >> 16, number & 0xffff].map(|half| half as u16);
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low).into()
        }
        AddressType::SharedV4 => SHARED_V4.into(),
        AddressType::PrivateV6 | AddressType::EgressV4 | AddressType::EgressV6 | AddressType::EgressPair => {
            return Err(FlyError::new(StatusCode::BAD_REQUEST, "the lab has no private and no egress addresses"));
        }
    };
    let visible_from = Instant::now() + shared.settings().address_appears_after;
    let address = Address { ip, kind, region, created_at: SystemTime::now(), visible_from };
    let body = address.to_json();
    app.addresses.push(address);
    drop(world);
    shared.edge_must_look();
    Ok(Json(body))
}

pub(super) async fn list(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path(name): Path<String>,
) -> FlyResult<Json<Value>> {
    let mut world = shared.world();
    let now = Instant::now();
    let addresses = world.app(&caller, &name)?.addresses.iter().filter(|address| address.visible_from <= now);
    let addresses: Vec<Value> = addresses.map(Address::to_json).collect();
    Ok(Json(json!({ "ips": addresses })))
}

pub(super) async fn release(
    State(shared): Fly,
    Extension(Caller(caller)): Extension<Caller>,
    Path((name, ip)): Path<(String, String)>,
) -> FlyResult<Response> {
    let mut world = shared.world();
    let app = world.app(&caller, &name)?;
    let position = app.addresses.iter().position(|address| address.ip.to_string() == ip);
    let address = app.addresses.remove(position.ok_or_else(|| FlyError::not_found("ip address"))?);
    drop(world);
    shared.edge_must_look();
    shared.release(&address);
    Ok(StatusCode::NO_CONTENT.into_response())
}
