//! From IRSA to EKS Pod Identity as docs/workload-identity.md has it: at no step does a pod lose the role. And back, which
//! costs a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod eks;
mod support;
mod workload;

use eks::{CLUSTER, Eks};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use support::{World, condition};
use workload::{claims, pod_identity, web_identity};

const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";

struct Migration {
    world: World,
    eks: Eks,
    /// What a pod's token says.
    claims: Value,
}

impl Migration {
    async fn new() -> Self {
        let (world, eks) = eks::both::world("migrate", "IRSA").await;

        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("api".to_owned());
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let spec =
            TokenRequestSpec { audiences: Some(vec!["sts.amazonaws.com".into()]), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let token = accounts.create_token_request("api", &PostParams::default(), &request).await.unwrap();
        let claims = claims(&token.status.and_then(|status| status.token).expect("a token"));
        Self { world, eks, claims }
    }

    /// The class says another mechanism; waits until all of it is there.
    async fn becomes(&self, mechanism: &str) {
        self.world.patch_class(json!({ "workloadIdentity": { "mechanism": mechanism } })).await;
        let generation = self.world.classes().get(&self.world.namespace).await.unwrap().metadata.generation.unwrap();
        let done = |role: &iamrole_operator::api::IamRole| {
            let status = role.status.as_ref().expect("a status");
            let is = |kind| condition(role, kind).is_some_and(|condition| condition.status == "True");
            let current = status.class.as_ref().is_some_and(|class| class.observed_generation == generation);
            current && is("Ready") && is("IdentityBound")
        };
        self.world.until("app", mechanism, done).await;
    }

    /// Every trust policy that AWS had since the last look, in order.
    fn trusts(&self) -> Vec<Value> {
        let calls = self.world.proxy.calls();
        self.world.proxy.forget();
        let written = calls.into_iter().filter_map(|call| match call.action.as_str() {
            "CreateRole" => call.parameters.get("AssumeRolePolicyDocument").cloned(),
            "UpdateAssumeRolePolicy" => call.parameters.get("PolicyDocument").cloned(),
            _ => None,
        });
        written.map(|text| serde_json::from_str(&text).expect("a document")).collect()
    }

    fn by_token(&self, trust: &Value) -> bool {
        web_identity(trust, "aws", "123456789012", &self.claims)
    }

    fn by_association(&self, trust: &Value) -> bool {
        pod_identity(trust, CLUSTER, &self.world.namespace, "api")
    }

    async fn is_annotated(&self) -> bool {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        accounts.get("api").await.unwrap().annotations().contains_key(ROLE_ARN)
    }

    fn is_associated(&self) -> bool {
        self.eks.of(&self.world.namespace).contains_key("api")
    }
}

#[tokio::test]
async fn at_no_step_does_a_pod_lose_the_role_and_the_way_back_costs_a_restart() {
    let all = Migration::new().await;
    all.world.create("app", json!({ "serviceAccounts": [{ "name": "api" }] })).await;
    all.becomes("IRSA").await;
    let trusts = all.trusts();
    assert!(trusts.iter().all(|trust| all.by_token(trust)) && !trusts.is_empty());
    assert!(all.is_annotated().await && !all.is_associated());

    // Pods have tokens, and keep what they have until they are restarted.
    all.becomes("Both").await;
    let trusts = all.trusts();
    assert!(trusts.iter().all(|trust| all.by_token(trust)), "old pods at each moment: {trusts:#?}");
    assert!(trusts.last().is_some_and(|trust| all.by_association(trust)), "new pods at the end");
    assert!(all.is_annotated().await && all.is_associated(), "both ways are whole before a pod is restarted");

    // All pods are new; they came by the association.
    all.becomes("PodIdentity").await;
    let trusts = all.trusts();
    assert!(trusts.iter().all(|trust| all.by_association(trust)), "new pods at each moment: {trusts:#?}");
    assert!(trusts.last().is_some_and(|trust| !all.by_token(trust)));
    assert!(!all.is_annotated().await && all.is_associated());

    // And the way back. Where both are there a pod uses the association, so those that run lose the role at the end, and
    // are restarted then, as the document says; new ones come by their token.
    all.becomes("Both").await;
    assert!(all.trusts().iter().all(|trust| all.by_association(trust)));
    assert!(all.is_annotated().await && all.is_associated());
    all.becomes("IRSA").await;
    let trusts = all.trusts();
    assert!(trusts.iter().all(|trust| all.by_token(trust)), "pods that are restarted: {trusts:#?}");
    assert!(trusts.last().is_some_and(|trust| !all.by_association(trust)), "pods that are not: {trusts:#?}");
    assert!(all.is_annotated().await && !all.is_associated());
}
