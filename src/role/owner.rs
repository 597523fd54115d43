//! Whose a role or policy is: owner tags, set in the very call that creates it.
//!
//! Only what carries our tags is changed or deleted, whatever status says: status can be forged or
//! restored from a backup, a tag needs AWS rights.

use super::workload::EksCluster;
use crate::api::iamrole::Origin;
use crate::api::{TAG_CLUSTER, TAG_NAME, TAG_NAMESPACE, TAG_ORIGIN};
use std::collections::BTreeMap;

/// Which cluster we are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Configured name, or the first 8 characters of the UID. For people and for names.
    pub name: String,
    /// UID of the `kube-system` namespace. This is what counts.
    pub uid: String,
    /// What is known of it in EKS.
    pub eks: EksCluster,
}

impl Cluster {
    /// The cluster with the configured name, if any. In EKS it is unknown.
    #[must_use]
    pub fn new(name: Option<&str>, uid: &str) -> Self {
        let short = || uid.chars().take(8).collect();
        let name = name.filter(|name| !name.is_empty()).map_or_else(short, str::to_owned);
        Self { name, uid: uid.to_owned(), eks: EksCluster::default() }
    }

    fn tag(&self) -> String {
        format!("{}/{}", self.name, self.uid)
    }

    /// Whether a value of the owner tag for clusters is this cluster's, under whatever name.
    #[must_use]
    pub fn is_named_by(&self, tag: &str) -> bool {
        uid_of(tag) == self.uid
    }
}

/// The UID in the owner tag of a cluster, which is `NAME/UID`, or in what stands for one.
#[must_use]
pub fn uid_of(tag: &str) -> &str {
    tag.rsplit('/').next().unwrap_or_default()
}

/// The object to which a role belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Cluster of the object.
    pub cluster: Cluster,
    /// Namespace of the `IamRole`.
    pub namespace: String,
    /// Name of the `IamRole`.
    pub name: String,
    /// Clusters that are no more, by tag or UID: what they made for an object of this namespace and name is taken
    /// for this object's.
    pub heir_of: Vec<String>,
}

/// What the tags of a role or policy say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It belongs to this object. The origin is `Unknown` where its tag is missing; see [`Ownership::origin`].
    Ours(Origin),
    /// It belongs to another `IamRole`; in words for a message.
    Other(String),
    /// It carries no owner tags.
    Foreign,
}

impl Ownership {
    /// Whether it belongs to this object.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// Where the role comes from. A tag that somebody took away is answered from memory; without one the role is
    /// taken for adopted, since that removes least.
    #[must_use]
    pub fn origin(&self, remembered: Option<Origin>) -> Origin {
        match (self, remembered) {
            (Self::Ours(origin @ (Origin::Created | Origin::Adopted)), _) => *origin,
            (_, Some(Origin::Created)) => Origin::Created,
            _ => Origin::Adopted,
        }
    }
}

impl Owner {
    /// The owner tags for a role or policy of this object.
    #[must_use]
    pub fn tags(&self, origin: Origin) -> BTreeMap<String, String> {
        BTreeMap::from([
            (TAG_CLUSTER.to_owned(), self.cluster.tag()),
            (TAG_NAMESPACE.to_owned(), self.namespace.clone()),
            (TAG_NAME.to_owned(), self.name.clone()),
            (TAG_ORIGIN.to_owned(), origin.as_str().to_owned()),
        ])
    }

    /// Whether the tags are those of an object of the same namespace and name in another cluster.
    #[must_use]
    pub fn is_namesake(&self, tags: &BTreeMap<String, String>) -> bool {
        !self.judge(tags).is_ours()
            && tags.contains_key(TAG_CLUSTER)
            && tags.get(TAG_NAMESPACE) == Some(&self.namespace)
            && tags.get(TAG_NAME) == Some(&self.name)
    }

    /// Whose something is that is not ours, for a message: `policy x exists and …`.
    #[must_use]
    pub fn whose(&self, tags: &BTreeMap<String, String>) -> String {
        match self.judge(tags) {
            Ownership::Other(owner) => format!("belongs to {owner}"),
            _ => "does not carry this operator's owner tags".to_owned(),
        }
    }

    /// Whose something with these tags is.
    #[must_use]
    pub fn judge(&self, tags: &BTreeMap<String, String>) -> Ownership {
        let (Some(cluster), Some(namespace), Some(name)) =
            (tags.get(TAG_CLUSTER), tags.get(TAG_NAMESPACE), tags.get(TAG_NAME))
        else {
            return Ownership::Foreign;
        };
        let uid = uid_of(cluster);
        let inherited = || self.heir_of.iter().any(|old| uid_of(old) == uid && !uid.is_empty());
        if (self.cluster.is_named_by(cluster) || inherited()) && *namespace == self.namespace && *name == self.name {
            let known = [Origin::Created, Origin::Adopted].into_iter();
            let origin =
                known.into_iter().find(|origin| tags.get(TAG_ORIGIN).is_some_and(|tag| tag == origin.as_str()));
            return Ownership::Ours(origin.unwrap_or(Origin::Unknown));
        }
        let place = if uid == self.cluster.uid { "this cluster".to_owned() } else { format!("cluster {cluster}") };
        Ownership::Other(format!("IamRole {namespace}/{name} of {place}"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Cluster, Owner, Ownership};
    use crate::api::TAG_ORIGIN;
    use crate::api::iamrole::Origin;
    use std::collections::BTreeMap;

    pub(crate) fn owner() -> Owner {
        let (namespace, name) = ("shop".into(), "api".into());
        Owner { cluster: Cluster::new(Some("prod"), "uid-1"), namespace, name, heir_of: Vec::new() }
    }

    fn without_uid(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut tags = tags.clone();
        tags.insert(crate::api::TAG_CLUSTER.into(), "prod/".into());
        tags
    }

    #[test]
    fn only_the_cluster_uid_namespace_and_name_decide() {
        let owner = owner();
        let mut tags = owner.tags(Origin::Created);
        assert_eq!(owner.judge(&tags), Ownership::Ours(Origin::Created));

        let renamed = Owner { cluster: Cluster::new(Some("production"), "uid-1"), ..owner.clone() };
        assert_eq!(renamed.judge(&tags), Ownership::Ours(Origin::Created), "a renamed cluster is the same cluster");
        let rebuilt = Owner { cluster: Cluster::new(Some("prod"), "uid-2"), ..owner.clone() };
        assert!(matches!(rebuilt.judge(&tags), Ownership::Other(_)), "the same name is not the same cluster");
        for old in ["uid-1", "prod/uid-1"] {
            let heir = Owner { heir_of: vec![old.into()], ..rebuilt.clone() };
            assert!(heir.judge(&tags).is_ours(), "its class says so");
            let sibling = Owner { name: "web".into(), ..heir };
            assert!(!sibling.judge(&tags).is_ours(), "only what was this object's");
        }
        let nobody = Owner { heir_of: vec!["uid-3".into(), "prod/".into(), String::new()], ..rebuilt };
        assert!(!nobody.judge(&tags).is_ours() && !nobody.judge(&without_uid(&tags)).is_ours());
        let sibling = Owner { name: "web".into(), ..owner.clone() };
        assert!(matches!(sibling.judge(&tags), Ownership::Other(_)));

        tags.insert(TAG_ORIGIN.into(), "Adopted".into());
        assert_eq!(owner.judge(&tags), Ownership::Ours(Origin::Adopted));
        tags.remove(TAG_ORIGIN);
        let unsaid = owner.judge(&tags);
        assert_eq!(unsaid.origin(Some(Origin::Created)), Origin::Created, "status remembers");
        assert_eq!(unsaid.origin(None), Origin::Adopted, "what removes least");
        tags.insert(TAG_ORIGIN.into(), "Created".into());
        assert_eq!(owner.judge(&tags).origin(Some(Origin::Adopted)), Origin::Created, "the tag counts");
        tags.remove(crate::api::TAG_NAME);
        assert_eq!(owner.judge(&tags), Ownership::Foreign, "a part of the tags is none");
        assert_eq!(owner.judge(&BTreeMap::new()), Ownership::Foreign);
    }

    #[test]
    fn a_cluster_without_a_name_is_called_by_its_uid() {
        assert_eq!(Cluster::new(None, "0123456789-abc").name, "01234567");
        assert_eq!(Cluster::new(Some(""), "0123456789-abc").name, "01234567");
    }
}
