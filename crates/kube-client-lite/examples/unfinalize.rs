//! Takes a finalizer off each PersistentVolumeClaim that waits to be deleted.

use std::error::Error;

use kube_client_lite::{Client, ClientOptions, Config, ListQuery, ObjectMeta, PatchOperation, Resource, Sources};

/// Some kinds have a constant of their own; any other one has a plural and a place in the API.
const CLAIMS: Resource = Resource { api: "/api/v1", plural: "persistentvolumeclaims" };

/// Only the fields that the program reads.
#[derive(serde::Deserialize)]
struct Claim {
    metadata: ObjectMeta,
}

fn main() -> Result<(), Box<dyn Error>> {
    let finalizer = std::env::args().nth(1).ok_or("name a finalizer")?;
    let kubeconfig = std::env::var("KUBECONFIG").ok();
    let config = Config::load(&Sources { kubeconfig: kubeconfig.as_deref(), ..Sources::default() })?;
    let client = Client::new(config, &ClientOptions::new("unfinalize/0.1"))?;
    for Claim { metadata } in client.list(&CLAIMS.all(), &ListQuery::default())?.items {
        let index = metadata.finalizers.iter().position(|name| *name == finalizer);
        let (Some(index), Some(_)) = (index, metadata.deletion_timestamp) else { continue };
        let path = CLAIMS.named(&metadata.namespace, &metadata.name);
        // The patch is carried out only if nobody changed the claim since it was listed.
        let version = metadata.resource_version.into();
        let patch = [
            PatchOperation::Test { path: "/metadata/resourceVersion".into(), value: version },
            PatchOperation::Remove { path: format!("/metadata/finalizers/{index}") },
        ];
        match client.json_patch::<Claim>(&path, &patch) {
            Ok(_) => println!("{path}: done"),
            Err(error) if error.is_invalid() || error.is_not_found() => println!("{path}: changed meanwhile"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
