//! Paths in the API: `<group and version>/namespaces/<ns>/<plural>/<name>`.

/// One kind of object, by its place in the API. The caller can name kinds that have no constant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group and version: `/api/v1` for the core group, else `/apis/<group>/<version>`.
    pub api: &'static str,
    /// The plural name of the kind, which stands in paths and in RBAC rules.
    pub plural: &'static str,
}

impl Resource {
    pub const CONFIG_MAPS: Resource = Resource::core("configmaps");
    pub(crate) const EVENTS: Resource = Resource::core("events");
    pub const PODS: Resource = Resource::core("pods");
    pub const NAMESPACES: Resource = Resource::core("namespaces");
    pub const SECRETS: Resource = Resource::core("secrets");
    pub const SERVICES: Resource = Resource::core("services");
    pub const DEPLOYMENTS: Resource = Resource { api: "/apis/apps/v1", plural: "deployments" };
    pub const LEASES: Resource = Resource { api: "/apis/coordination.k8s.io/v1", plural: "leases" };

    const fn core(plural: &'static str) -> Resource {
        Resource { api: "/api/v1", plural }
    }

    /// The path of all objects of the cluster.
    pub fn all(&self) -> String {
        format!("{}/{}", self.api, self.plural)
    }

    /// The path of all objects of one namespace.
    pub fn in_namespace(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.api, self.plural)
    }

    /// The path of one object. For kinds without a namespace (`namespaces`, `nodes`) the namespace is `""`.
    pub fn named(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}/{name}", self.all())
        } else {
            format!("{}/{name}", self.in_namespace(namespace))
        }
    }

    /// The path of the subresource `status` of one object.
    pub fn status(&self, namespace: &str, name: &str) -> String {
        format!("{}/status", self.named(namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let deployments = Resource::DEPLOYMENTS;
        assert_eq!(deployments.all(), "/apis/apps/v1/deployments");
        assert_eq!(deployments.in_namespace("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(Resource::SERVICES.status("a", "web"), "/api/v1/namespaces/a/services/web/status");
        assert_eq!(Resource::NAMESPACES.named("", "kube-system"), "/api/v1/namespaces/kube-system");
    }
}
