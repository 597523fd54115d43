//! What all reconciliations share.

use super::claims::Claims;
use super::events::Events;
use super::index::Index;
use super::issuer::Issuer;
use super::lanes::Lanes;
use super::memory::Memory;
use super::states::ClassStates;
use super::sweeps::{Sweeps, has_walks};
use super::workload::Workloads;
use crate::api::{DEFAULT_CONTROLLER, IamRoleClass};
use crate::aws::Aws;
use crate::role::Cluster;
use crate::telemetry::Metrics;
use futures::FutureExt as _;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use super::raw::RawRole;
pub use super::states::ClassState;

/// The roles that one controller watches: all, or those of one namespace.
pub struct RoleScope {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Its objects.
    pub store: Store<RawRole>,
    /// Their names, by what is asked for.
    pub index: Arc<Index>,
    /// Wakes the reconciliation of an object.
    pub wake: UnboundedSender<ObjectRef<RawRole>>,
}

/// What all reconciliations share.
pub struct Context {
    /// Kubernetes, for everything but watches.
    pub client: kube::Client,
    /// Events on the objects.
    pub events: Events,
    /// The operator's AWS configuration.
    pub aws: Aws,
    /// Which cluster this is.
    pub cluster: Cluster,
    /// Which installation this is; serves the classes that name it.
    pub controller: String,
    /// Issuer of the ServiceAccount tokens of this cluster.
    pub issuer: Issuer,
    /// ServiceAccounts and OIDC providers.
    pub workloads: Workloads,
    /// All classes.
    pub classes: Store<IamRoleClass>,
    /// All namespaces with their labels.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// The roles.
    pub scopes: Vec<RoleScope>,
    /// Wakes the reconciliation of a class.
    pub wake_class: UnboundedSender<ObjectRef<IamRoleClass>>,
    /// What the process remembers of each role.
    pub memory: Memory,
    /// What it remembers of each class.
    pub class_memory: Memory,
    /// Who uses which role name.
    pub claims: Claims,
    /// Who is worked on next.
    pub lanes: Lanes,
    /// Which class is looked at next.
    pub class_lanes: Lanes,
    /// When each account is walked for drift.
    pub sweeps: Sweeps,
    /// Metrics.
    pub metrics: Metrics,
    /// IAM is eventually consistent: for so long after our own write a read may show the past.
    pub settle: Duration,
    /// When the process started or, with leader election, became the leader.
    pub started: Instant,
    /// Turns true when the process is to stop.
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// How the classes stand.
    pub class_states: ClassStates,
}

impl Context {
    /// Whether the process is to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Whether this installation serves the class.
    #[must_use]
    pub fn serves(&self, class: &IamRoleClass) -> bool {
        class.spec.controller.as_deref().unwrap_or(DEFAULT_CONTROLLER) == self.controller
    }

    /// The API of the roles of a namespace.
    #[must_use]
    pub fn roles_api(&self, namespace: &str) -> Api<RawRole> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// How the class `name` stands; `None` before its controller has looked at it.
    #[must_use]
    pub fn class_state(&self, name: &str, uid: &str) -> Option<ClassState> {
        self.class_states.get(name, uid)
    }

    /// Whether any class that we serve forces a permissions boundary.
    #[must_use]
    pub fn forces_any(&self) -> bool {
        self.classes.find(|class| self.serves(class) && class.spec.permissions_boundary.is_some()).is_some()
    }

    /// The permissions boundaries that any class forces, with their tokens.
    #[must_use]
    pub fn forced_boundaries(&self) -> Vec<String> {
        self.classes.state().iter().filter_map(|class| class.spec.permissions_boundary.clone()).collect()
    }

    /// Remembers how a class stands; true if that is news to its roles.
    pub fn set_class_state(&self, name: &str, state: ClassState) -> bool {
        let class = self.classes.get(&ObjectRef::new(name));
        let has_walks = class.is_some_and(|class| has_walks(&class.spec));
        let account = state.account.as_ref().ok().map(|account| account.account.id.clone());
        let news = self.with_firsts(name, account, || self.class_states.set(name, state, has_walks));
        if news {
            // It may lead to an account that nobody walks yet.
            self.sweeps.wake.notify_one();
        }
        news
    }

    /// Forgets how a class stands that is gone, or is none of ours.
    pub fn forget_class(&self, name: &str) {
        self.with_firsts(name, None, || self.class_states.forget(name));
    }

    /// Forgets what is known of classes that the cache does not have any more. Not only where their deletion is seen: that may
    /// be missed, and a look at a class may end after it.
    pub fn forget_gone_classes(&self) {
        let uids: HashSet<String> = self.classes.state().iter().filter_map(|class| class.uid()).collect();
        self.class_memory.keep(|uid| uids.contains(uid));
        let exists = |name: &str, uid: &str| {
            let class = self.classes.get(&ObjectRef::new(name));
            class.is_some_and(|class| class.metadata.uid.as_deref() == Some(uid))
        };
        for (name, uid) in self.class_states.gone(exists) {
            self.with_firsts(&name, None, || self.class_states.forget_that(&name, &uid));
        }
    }

    /// Makes a change to how the class `name` stands, which may lead to `account` after it, and wakes those that are the
    /// first of an account by that: they have to tell what walks have found.
    fn with_firsts<T>(&self, name: &str, account: Option<String>, change: impl FnOnce() -> T) -> T {
        let accounts: BTreeSet<String> = self.class_states.account_of(name).into_iter().chain(account).collect();
        // Nobody is forgotten here whom the cache does not show (yet).
        let before: Vec<_> = accounts.iter().map(|account| self.class_states.foremost(account)).collect();
        let changed = change();
        for (account, before) in accounts.iter().zip(before) {
            let first = self.class_states.foremost(account);
            let first = first.filter(|first| Some(first) != before.as_ref() && first != name);
            if let Some(first) = first {
                // The receiver lives as long as the controller.
                let _ = self.wake_class.unbounded_send(ObjectRef::new(&first));
            }
        }
        changed
    }

    /// The class that tells what walks over the account find: the first by name of ours that can be served there and
    /// have it walked.
    #[must_use]
    pub fn first_class(&self, account: &str) -> Option<String> {
        let exists = |name: &str, uid: &str| {
            let class = self.classes.get(&ObjectRef::new(name));
            class.is_some_and(|class| class.metadata.uid.as_deref() == Some(uid) && self.serves(&class))
        };
        self.class_states.first(account, exists)
    }

    /// Whether the caches have all roles that there were at the start. Before that nobody knows what is in use.
    #[must_use]
    pub fn knows_roles(&self) -> bool {
        self.scopes.iter().all(|scope| scope.store.wait_until_ready().now_or_never().is_some())
    }

    /// Wakes every role for which `affected` is true.
    pub fn wake_roles(&self, affected: impl Fn(&RawRole) -> bool) {
        for scope in &self.scopes {
            for role in scope.store.state().iter().filter(|role| affected(role)) {
                // The receiver lives as long as the controller; without it nothing needs waking.
                let _ = scope.wake.unbounded_send(ObjectRef::from_obj(role.as_ref()));
            }
        }
    }

    /// Wakes the roles that a class may be for: those that name it, in spec or status, and those without one.
    pub fn wake_class_roles(&self, class: &str) {
        let named = self.scopes.iter().flat_map(|scope| scope.index.of_class(class));
        let without = self.scopes.iter().flat_map(|scope| scope.index.without_class());
        for (namespace, name) in named.chain(without) {
            if let Some(role) = self.cached_role(&namespace, &name) {
                self.wake_role(&role);
            }
        }
    }

    /// Wakes the roles of a namespace.
    pub fn wake_namespace(&self, namespace: &str) {
        let names = self.scopes.iter().flat_map(|scope| scope.index.of_namespace(namespace));
        let roles: Vec<Arc<RawRole>> = names.filter_map(|name| self.cached_role(namespace, &name)).collect();
        for role in roles {
            self.wake_role(&role);
        }
    }

    /// Whether the namespace has roles beside that of the name.
    #[must_use]
    pub fn has_others(&self, namespace: &str, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.index.has_others(namespace, name))
    }

    /// The roles that list a ServiceAccount.
    #[must_use]
    pub fn listing(&self, namespace: &str, account: &str) -> Vec<Arc<RawRole>> {
        let names = self.scopes.iter().flat_map(|scope| scope.index.listing(namespace, account));
        let roles = names.filter_map(|name| self.cached_role(namespace, &name));
        // The cache may know better by now.
        roles.filter(|role| role.said.service_accounts.iter().any(|listed| &**listed == account)).collect()
    }

    /// Wakes one role.
    pub fn wake_role(&self, role: &RawRole) {
        let namespace = role.metadata.namespace.as_ref();
        let scopes =
            self.scopes.iter().filter(|scope| scope.namespace.is_none() || scope.namespace.as_ref() == namespace);
        for scope in scopes {
            // The receiver lives as long as the controller; without it nothing needs waking.
            let _ = scope.wake.unbounded_send(ObjectRef::from_obj(role));
        }
    }

    /// The role object of that namespace, name and UID, if the cache has it.
    #[must_use]
    pub fn cached_role(&self, namespace: &str, name: &str) -> Option<Arc<RawRole>> {
        let reference = ObjectRef::<RawRole>::new(name).within(namespace);
        self.scopes.iter().find_map(|scope| scope.store.get(&reference))
    }
}
