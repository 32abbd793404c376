//! Volumes: ConfigMaps, Secrets, the downward API and ServiceAccount tokens as files, and empty folders.
//!
//! Files are written into the container's own root, since a file's text is mapped for the one container that reads it
//! (`root_fs.rs`). They follow their source while the container runs, as the kubelet's do.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;

use super::environment::{field_value, not_found};
use super::objects::Kind;
use super::pod::PodContext;
use super::spec::{Container, ObjectFiles, Projection, TokenFile, VolumeMount, VolumeSource};
use super::status::Waiting;
use crate::root_fs::RootFs;

const DEFAULT_MODE: u32 = 0o644;
/// The life of a token in seconds, if the volume sets none.
const DEFAULT_TOKEN_SECONDS: u64 = 3600;

/// Files by their path in a volume or in a container, with mode and content.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// The mounts of one container.
pub(crate) struct Mounts<'a> {
    context: &'a PodContext,
    container: &'a Container,
    root: &'a RootFs,
    tokens: HashMap<String, Token>,
    written: Files,
}

struct Token {
    token: String,
    /// The time to ask for a new token: as in the kubelet, when a fifth of its life is left.
    renew: Instant,
}

impl<'a> Mounts<'a> {
    pub(crate) fn new(context: &'a PodContext, container: &'a Container, root: &'a RootFs) -> Mounts<'a> {
        Mounts { context, container, root, tokens: HashMap::new(), written: Files::new() }
    }

    /// Writes the files as their sources are now.
    pub(crate) async fn update(&mut self) -> Result<(), Waiting> {
        let mut files = Files::new();
        for mount in &self.container.volume_mounts {
            let volumes = &self.context.pod.spec.volumes;
            let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) else { continue };
            let failed = |why: String| {
                let name = &mount.name;
                Waiting::creating(format!("MountVolume.SetUp failed for volume \"{name}\" : {why}"))
            };
            let (sources, mode) = match &volume.source {
                VolumeSource::EmptyDir {} => {
                    self.link_empty_dir(mount).map_err(|error| failed(error.to_string()))?;
                    continue;
                }
                VolumeSource::Projected(projected) => (projected.sources.as_slice(), projected.default_mode),
                VolumeSource::Single(source) => (std::slice::from_ref(source), None),
            };
            for source in sources {
                let content = self.files_of(source, mode.unwrap_or(DEFAULT_MODE)).await.map_err(failed)?;
                files.extend(content.into_iter().filter_map(|(path, file)| Some((place(mount, &path)?, file))));
            }
        }
        self.write(files).map_err(|error| Waiting::creating(error.to_string()))
    }

    /// Keeps the files up to date, for ever. A source that vanishes leaves them as they are.
    pub(crate) async fn follow(&mut self) -> Infallible {
        let mut changes = self.context.lab.objects.changes();
        loop {
            let renew = self.tokens.values().map(|token| token.renew).min();
            let renewal = async {
                match renew {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
                () = renewal => {}
            }
            if self.update().await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    fn write(&mut self, files: Files) -> io::Result<()> {
        for (path, file) in &files {
            if self.written.get(path) != Some(file) {
                self.root.write(path, file.0, &file.1)?;
            }
        }
        for path in self.written.keys().filter(|path| !files.contains_key(*path)) {
            fs::remove_file(self.root.host_path(path)?)?;
        }
        self.written = files;
        Ok(())
    }

    /// Links a mount to its empty folder. The folder belongs to the pod, since its containers share it.
    fn link_empty_dir(&self, mount: &VolumeMount) -> io::Result<()> {
        let folder = self.context.directory.join("volumes").join(&mount.name).join(&mount.sub_path);
        fs::create_dir_all(&folder)?;
        let link = self.root.host_path(mount.mount_path.trim_end_matches('/'))?;
        if link.exists() {
            return Ok(());
        }
        fs::create_dir_all(link.parent().expect("a path in the root has a parent"))?;
        symlink(folder, link)
    }

    async fn files_of(&mut self, source: &Projection, mode: u32) -> Result<Files, String> {
        match source {
            Projection::ConfigMap(object) => self.files_of_object(Kind::ConfigMap, object, mode),
            Projection::Secret(object) => self.files_of_object(Kind::Secret, object, mode),
            Projection::DownwardApi(downward) => {
                let mut files = Files::new();
                for item in &downward.items {
                    let Some(field) = &item.field_ref else {
                        return Err("the lab's nodes do not know resourceFieldRef".into());
                    };
                    let mode = item.mode.or(downward.default_mode).unwrap_or(mode);
                    let value = field_value(self.context, &field.field_path)?;
                    files.insert(item.path.clone(), (mode, value.into_bytes()));
                }
                Ok(files)
            }
            Projection::ServiceAccountToken(token) => {
                let content = self.token(token).await?;
                Ok(Files::from([(token.path.clone(), (mode, content.into_bytes()))]))
            }
            Projection::Unknown(source) => Err(format!("the lab's nodes do not know the volume source {source}")),
        }
    }

    fn files_of_object(&self, kind: Kind, object: &ObjectFiles, mode: u32) -> Result<Files, String> {
        let namespace = &self.context.pod.metadata.namespace;
        let Some(mut data) = self.context.lab.objects.data(kind, namespace, &object.name) else {
            return if object.optional { Ok(Files::new()) } else { Err(not_found(kind, &object.name)) };
        };
        let mode = object.default_mode.unwrap_or(mode);
        if object.items.is_empty() {
            return Ok(data.into_iter().map(|(key, content)| (key, (mode, content))).collect());
        }
        let mut files = Files::new();
        for item in &object.items {
            match data.remove(&item.key) {
                Some(content) => {
                    files.insert(item.path.clone(), (item.mode.unwrap_or(mode), content));
                }
                None if object.optional => {}
                None => return Err("references non-existent config key: ".to_owned() + &item.key),
            }
        }
        Ok(files)
    }

    /// Gets a token that is bound to the pod, by a TokenRequest.
    async fn token(&mut self, file: &TokenFile) -> Result<String, String> {
        if let Some(token) = self.tokens.get(&file.path)
            && Instant::now() < token.renew
        {
            return Ok(token.token.clone());
        }
        let pod = &self.context.pod;
        let seconds = file.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS);
        let audiences: Vec<&str> =
            Some(file.audience.as_str()).filter(|audience| !audience.is_empty()).into_iter().collect();
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid},
        }});
        let account = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            pod.metadata.namespace, pod.spec.service_account_name
        );
        let answer = self.context.lab.client.create(&account, &request).await.map_err(|error| error.to_string())?;
        let token = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        let renew = Instant::now() + Duration::from_secs(seconds * 4 / 5);
        self.tokens.insert(file.path.clone(), Token { token: token.clone(), renew });
        Ok(token)
    }
}

/// The path in the container of a file of a volume, if the mount shows it.
fn place(mount: &VolumeMount, path: &str) -> Option<String> {
    let at = mount.mount_path.trim_end_matches('/');
    let sub_path = mount.sub_path.trim_matches('/');
    if sub_path.is_empty() {
        return Some(format!("{at}/{path}"));
    }
    let rest = path.strip_prefix(sub_path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{at}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_shows_one_file_or_folder() {
        for (sub_path, path, expected) in
            [("", "a", Some("/etc/x/a")), ("a", "a", Some("/etc/x")), ("a", "a/b", Some("/etc/x/b")), ("a", "ab", None)]
        {
            let mount = VolumeMount { name: "v".into(), mount_path: "/etc/x/".into(), sub_path: sub_path.into() };
            assert_eq!(place(&mount, path).as_deref(), expected);
        }
    }
}
