//! ServiceAccounts as they come and go.

use super::Options;
use crate::controller::context::Context;
use crate::controller::watch;
use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Event;
use std::sync::Arc;

/// The metadata of a ServiceAccount.
pub type AccountMeta = PartialObjectMeta<ServiceAccount>;

/// The ServiceAccounts of all namespaces, or of one.
pub struct AccountScope {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Its ServiceAccounts.
    pub store: Store<AccountMeta>,
}

/// What is to be watched.
pub struct Watched {
    namespace: Option<String>,
    writer: Writer<AccountMeta>,
}

/// Stores for the ServiceAccounts of these namespaces, of all if there are none; nothing unless they are annotated.
#[must_use]
pub fn accounts(options: &Options, namespaces: &[String]) -> (Option<Vec<AccountScope>>, Vec<Watched>) {
    if !options.annotate {
        return (None, Vec::new());
    }
    let names: Vec<Option<String>> = namespaces.iter().cloned().map(Some).collect();
    let names = if names.is_empty() { vec![None] } else { names };
    let scope = |namespace: Option<String>| {
        let (store, writer) = store();
        (AccountScope { namespace: namespace.clone(), store }, Watched { namespace, writer })
    };
    let (scopes, watched) = names.into_iter().map(scope).unzip();
    (Some(scopes), watched)
}

/// Watches them, and wakes the roles that list one that changed. Nobody waits for these caches: without the right to
/// watch, roles are served all the same.
pub async fn serve(watched: Vec<Watched>, client: kube::Client, ctx: Arc<Context>) {
    let running = watched.into_iter().map(|Watched { namespace, writer }| {
        let (client, ctx) = (client.clone(), ctx.clone());
        async move {
            let prefix = &ctx.workloads.prefix;
            let events = watch::service_accounts(client, namespace.as_deref(), prefix, writer);
            events
                .for_each(|event| {
                    match event {
                        Ok(Event::Apply(account) | Event::Delete(account)) => wake(&ctx, &account),
                        // Each of a list by itself would be too much; until it is whole, all seem to be missing.
                        Ok(Event::InitDone) => ctx.wake_roles(|role| !role.said.service_accounts.is_empty()),
                        _ => {}
                    }
                    futures::future::ready(())
                })
                .await;
        }
    });
    join_all(running).await;
}

fn wake(ctx: &Context, account: &AccountMeta) {
    let (namespace, name) = (&account.metadata.namespace, account.metadata.name.as_deref().unwrap_or_default());
    for role in ctx.listing(namespace.as_deref().unwrap_or_default(), name) {
        ctx.wake_role(&role);
    }
}

/// What the cache knows of a ServiceAccount.
pub enum Cached {
    /// The cache is not filled yet.
    Unknown,
    /// There is none.
    Missing,
    /// It is there.
    Found(Arc<AccountMeta>),
}

/// Looks a ServiceAccount up.
pub fn cached(scopes: &[AccountScope], namespace: &str, name: &str) -> Cached {
    let Some(scope) = scope(scopes, namespace) else { return Cached::Unknown };
    match scope.store.get(&ObjectRef::<AccountMeta>::new(name).within(namespace)) {
        Some(account) => Cached::Found(account),
        None if is_filled(&scope.store) => Cached::Missing,
        None => Cached::Unknown,
    }
}

/// The ServiceAccounts of a namespace that `is_meant` picks, by name.
pub fn pick(scopes: &[AccountScope], namespace: &str, is_meant: impl Fn(&AccountMeta) -> bool) -> Vec<String> {
    let accounts = scope(scopes, namespace).map(|scope| scope.store.state()).unwrap_or_default();
    let in_namespace = |account: &&Arc<AccountMeta>| account.metadata.namespace.as_deref() == Some(namespace);
    let picked = accounts.iter().filter(in_namespace).filter(|account| is_meant(account));
    picked.filter_map(|account| account.metadata.name.clone()).collect()
}

fn scope<'s>(scopes: &'s [AccountScope], namespace: &str) -> Option<&'s AccountScope> {
    scopes.iter().find(|scope| scope.namespace.as_deref().is_none_or(|one| one == namespace))
}

fn is_filled(store: &Store<AccountMeta>) -> bool {
    use futures::FutureExt as _;
    store.wait_until_ready().now_or_never().is_some()
}
