//! In whatever order a role, its ServiceAccounts and their namespace go: no annotation and no association is left behind,
//! and nothing hangs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod eks;
mod support;

use eks::Eks;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::kubectl::kubectl_ok;
use support::{World, aws, eventually};

const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
const MARKER: &str = "iamrole.dev/iam-role";
/// A namespace goes in several rounds of its controller.
const NAMESPACE_GOES: Duration = Duration::from_mins(1);

/// A world whose class gives roles by both ways, and whose operator makes all that is needed.
struct Both {
    world: World,
    eks: Eks,
}

impl Both {
    async fn new(test: &str) -> Self {
        let (world, eks) = eks::both::world(test, "Both").await;
        Self { world, eks }
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    async fn create_account(&self, name: &str, finalizers: &[&str]) {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(name.to_owned());
        account.metadata.finalizers = Some(finalizers.iter().map(|name| (*name).to_owned()).collect());
        self.accounts().create(&PostParams::default(), &account).await.expect("a ServiceAccount");
    }

    /// Makes a role with these ServiceAccounts, and waits until each has it both ways.
    async fn create(&self, role: &str, accounts: &[&str]) {
        let lists: Vec<Value> = accounts.iter().map(|name| json!({ "name": name })).collect();
        self.world.create(role, json!({ "serviceAccounts": lists })).await;
        self.has_all(accounts).await;
    }

    async fn has_all(&self, accounts: &[&str]) {
        for name in accounts {
            let bound = || async { self.annotations(name).await.contains_key(ROLE_ARN) && self.is_associated(name) };
            assert!(eventually(support::SOON, bound).await, "{name}: {}", self.world.operator.log());
        }
    }

    async fn annotations(&self, name: &str) -> BTreeMap<String, String> {
        self.accounts().get(name).await.expect("the ServiceAccount").annotations().clone()
    }

    fn is_associated(&self, name: &str) -> bool {
        self.eks.of(&self.world.namespace).contains_key(name)
    }

    /// Nothing of the roles is left: in AWS, in EKS, on these ServiceAccounts.
    async fn nothing_is_left(&self, roles: &[&str], accounts: &[&str]) {
        assert_eq!(self.eks.of(&self.world.namespace), BTreeMap::new());
        for role in roles {
            assert_eq!(aws::role(&self.world.iam, &self.world.templated(role)).await, None, "{role}");
        }
        for name in accounts {
            let has = self.annotations(name).await;
            assert!(!has.contains_key(ROLE_ARN) && !has.contains_key(MARKER), "{name}: {has:?}");
        }
    }

    fn patch(&self, what: &str, finalizers: &Value) {
        let patch = json!({ "metadata": { "finalizers": finalizers } }).to_string();
        kubectl_ok(&["patch", what, "-n", &self.world.namespace, "--type=merge", "-p", &patch], "");
    }

    fn rights(&self) -> Vec<String> {
        let names = kubectl_ok(&["get", "roles,rolebindings", "-n", &self.world.namespace, "-o", "name"], "");
        names.lines().map(str::to_owned).collect()
    }

    /// Here rights are given in the namespace, for the sake of other tests, and would go with it. Where all namespaces are
    /// served they stay.
    fn keep_rights(&self) {
        self.rights().iter().for_each(|what| self.patch(what, &json!(["test.example/hold"])));
    }

    fn give_up_rights(&self) {
        self.rights().iter().for_each(|what| self.patch(what, &json!(null)));
    }

    async fn delete_account(&self, name: &str) {
        self.accounts().delete(name, &DeleteParams::default()).await.expect("a deletion");
    }
}

#[tokio::test]
async fn the_service_account_first() {
    let both = Both::new("safirst").await;
    both.create_account("api", &[]).await;
    both.create("app", &["api"]).await;
    both.delete_account("api").await;
    both.world.condition("app", "IdentityBound", "False", Some("ServiceAccountMissing")).await;
    both.world.delete("app").await;
    both.world.gone("app").await;
    both.nothing_is_left(&["app"], &[]).await;

    // It is being deleted for long, and the role comes and goes meanwhile.
    both.create_account("slow", &["test.example/hold"]).await;
    both.create("app", &["slow"]).await;
    both.delete_account("slow").await;
    both.world.delete("app").await;
    both.world.gone("app").await;
    both.nothing_is_left(&["app"], &["slow"]).await;
}

#[tokio::test]
async fn the_role_first() {
    let mut both = Both::new("rolefirst").await;
    for name in ["api", "web"] {
        both.create_account(name, &[]).await;
    }
    both.create("app", &["api", "web"]).await;
    both.world.delete("app").await;
    both.world.gone("app").await;
    both.nothing_is_left(&["app"], &["api", "web"]).await;

    // One ServiceAccount goes together with the role, while nobody looks.
    both.create("app", &["api", "web"]).await;
    both.world.operator.kill().await;
    both.world.delete("app").await;
    both.delete_account("web").await;
    both.world.operator.start().await;
    both.world.gone("app").await;
    both.nothing_is_left(&["app"], &["api"]).await;
}

#[tokio::test]
async fn a_status_that_was_lost_hides_nothing() {
    let mut both = Both::new("lostall").await;
    both.create_account("api", &[]).await;
    both.create("app", &["api"]).await;
    both.world.operator.kill().await;
    let none = json!([{ "op": "remove", "path": "/status" }]);
    let none: Patch<()> = Patch::Json(serde_json::from_value(none).unwrap());
    both.world.roles().patch_status("app", &PatchParams::default(), &none).await.unwrap();
    both.world.delete("app").await;
    both.world.operator.start().await;
    both.world.gone("app").await;
    both.nothing_is_left(&["app"], &["api"]).await;
}

#[tokio::test]
async fn the_namespace_as_a_whole() {
    let both = Both::new("nsgoes").await;
    // Others may hold up a ServiceAccount; what is ours goes before.
    both.create_account("api", &["test.example/hold"]).await;
    both.create_account("web", &[]).await;
    both.create("app", &["api", "web"]).await;
    // It would follow, were there anybody to follow.
    both.world.create("younger", json!({ "serviceAccounts": [{ "name": "api" }] })).await;
    both.world.condition("younger", "IdentityBound", "False", Some("ServiceAccountConflict")).await;

    let namespaces = Api::<Namespace>::all(both.world.client.clone());
    both.keep_rights();
    namespaces.delete(&both.world.namespace, &DeleteParams::default()).await.unwrap();
    for role in ["app", "younger"] {
        let gone = || async { both.world.roles().get_opt(role).await.expect("an answer").is_none() };
        assert!(eventually(NAMESPACE_GOES, gone).await, "{role} hangs: {}", both.world.operator.log());
    }
    both.nothing_is_left(&["app", "younger"], &["api"]).await;
    both.patch("serviceaccounts/api", &json!(null));
    both.give_up_rights();
    let gone = || async { namespaces.get_opt(&both.world.namespace).await.expect("an answer").is_none() };
    assert!(eventually(NAMESPACE_GOES, gone).await, "{}", both.world.operator.log());
    both.nothing_is_left(&["app", "younger"], &[]).await;
}
