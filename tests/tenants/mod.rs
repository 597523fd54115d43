//! Two namespaces of one class and one operator: an attacker, who holds every right on `IamRole`s, their status and
//! Events in his, and a victim.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::support::operator::Operator;
use crate::support::{World, allow, aws, ec2};
use iamrole_operator::api::IamRoleClassSpec;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The attacker's world, in which every request to Kubernetes is his own, and the rest of it.
pub struct Tenants {
    pub attacker: World,
    pub victim: World,
    /// What the admin sees.
    pub admin: World,
}

/// The same place for somebody else.
fn world(of: &World, namespace: &str, client: Client) -> World {
    let operator = Operator::new(namespace, &of.proxy.url());
    let (namespace, iam, proxy, patience) = (namespace.to_owned(), of.iam.clone(), of.proxy.clone(), of.patience);
    World { namespace, client, iam, proxy, operator, patience }
}

impl Tenants {
    pub async fn new(change: impl FnOnce(&mut IamRoleClassSpec)) -> Self {
        let mut admin = World::without_operator("tenant-a", change).await;
        let victim = admin.namespace.replace("tenant-a", "tenant-v");
        let labels = BTreeMap::from([("test".to_owned(), admin.namespace.clone())]);
        let mut object = Namespace::default();
        (object.metadata.name, object.metadata.labels) = (Some(victim.clone()), Some(labels));
        let namespaces = Api::<Namespace>::all(admin.client.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("a namespace");
        let user = user(&admin).await;
        let attacker = world(&admin, &admin.namespace, user);
        let victim = world(&admin, &victim, admin.client.clone());
        admin.operator.also.push(victim.namespace.clone());
        admin.operator.start().await;
        Self { attacker, victim, admin }
    }

    /// A role of the victim with all that a role can have; returns its name.
    pub async fn full_role(&self, name: &str) -> String {
        let own = json!([{ "name": "own", "document": allow("sqs:*") }]);
        let inline = json!([{ "name": "inline", "document": allow("s3:GetObject") }]);
        let spec = json!({
            "trustPolicy": ec2(), "managedPolicies": ["ReadOnlyAccess"], "inlinePolicies": inline,
            "customerManagedPolicies": own, "instanceProfile": {}, "tags": { "Team": "victim" },
        });
        self.victim.create(name, spec).await;
        self.victim.ready(name).await;
        self.victim.templated(name)
    }

    /// Everything that AWS has of the victim's full role.
    pub async fn all_of(&self, role: &str) -> Value {
        let found = aws::role(&self.admin.iam, role).await;
        let policy = aws::policy(&self.admin.iam, &policy_arn(&format!("{role}.own"))).await;
        let profile = self.admin.iam.get_instance_profile().instance_profile_name(role).send().await;
        let profile = profile.map(|answer| format!("{:?}", answer.instance_profile()));
        json!([format!("{found:?}"), format!("{policy:?}"), format!("{profile:?}")])
    }

    /// The attacker writes into a status of his.
    pub async fn forge(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        let api = self.attacker.raw_roles();
        api.patch_status(name, &PatchParams::default(), &patch).await.expect("he holds the right");
    }
}

/// The ARN of a policy without a path.
pub fn policy_arn(name: &str) -> String {
    format!("arn:aws:iam::123456789012:policy/{name}")
}

/// A client that is a `ServiceAccount` with every right on `IamRole`s, their status and Events in the namespace.
async fn user(world: &World) -> Client {
    let params = PostParams::default();
    let namespace = world.namespace.clone();
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &namespace);
    let metadata = json!({ "name": "tenant" });
    let account = serde_json::from_value(json!({ "metadata": metadata })).expect("a ServiceAccount");
    accounts.create(&params, &account).await.expect("a ServiceAccount");
    let role = json!({ "metadata": metadata, "rules": [
        { "apiGroups": ["iamrole.dev"], "resources": ["iamroles", "iamroles/status", "iamroles/finalizers"], "verbs": ["*"] },
        { "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["*"] },
    ] });
    let roles = Api::<Role>::namespaced(world.client.clone(), &namespace);
    roles.create(&params, &serde_json::from_value(role).expect("a Role")).await.expect("a Role");
    let binding = json!({
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant" },
        "subjects": [{ "kind": "ServiceAccount", "name": "tenant", "namespace": namespace }],
    });
    let bindings = Api::<RoleBinding>::namespaced(world.client.clone(), &namespace);
    bindings.create(&params, &serde_json::from_value(binding).expect("a binding")).await.expect("a binding");
    let mut config = Config::infer().await.expect("KUBECONFIG");
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:tenant"));
    Client::try_from(config).expect("a client")
}
