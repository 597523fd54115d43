//! A world whose class has the operator make associations, and the stand-in for EKS where it makes them.

use super::{CLUSTER, Eks};
use crate::support::{self, World, condition, eventually};
use iamrole_operator::api::workload::{Associations, ClassWorkloadIdentity, Mechanism, PodIdentity};
use serde_json::{Value, json};

pub struct Both {
    pub world: World,
    pub eks: Eks,
}

impl Both {
    pub async fn new(test: &str) -> Self {
        Self::with(test, Some(Associations::Managed)).await
    }

    pub async fn with(test: &str, associations: Option<Associations>) -> Self {
        let eks = Eks::start().await;
        let mut world = World::without_operator(test, |class| {
            class.workload_identity = Some(ClassWorkloadIdentity {
                mechanism: Mechanism::PodIdentity,
                allow_override: Some(true),
                audience: None,
                sts_regional_endpoints: None,
                pod_identity: Some(PodIdentity { associations }),
            });
        })
        .await;
        world.operator.arguments.push(format!("--cluster-arn={CLUSTER}"));
        world.operator.environment.push(("AWS_ENDPOINT_URL_EKS".to_owned(), eks.url()));
        world.operator.start().await;
        Self { world, eks }
    }

    /// Starts the operator for this cluster.
    pub async fn cluster(&mut self, arn: &str) {
        let arguments = &mut self.world.operator.arguments;
        arguments.retain(|argument| !argument.starts_with("--cluster-arn="));
        arguments.push(format!("--cluster-arn={arn}"));
        self.world.operator.start().await;
    }

    pub async fn bound(&self, role: &str, status: &str, reason: &str) -> String {
        let role = self.world.condition(role, "IdentityBound", status, Some(reason)).await;
        condition(&role, "IdentityBound").expect("the condition").message.clone()
    }

    pub fn arn(&self, name: &str) -> String {
        format!("arn:aws:iam::123456789012:role/{}", self.world.templated(name))
    }

    /// The role of each association of the namespace.
    pub fn roles(&self) -> Vec<(String, String)> {
        let of = self.eks.of(&self.world.namespace).into_iter();
        of.map(|(account, one)| (account, one["roleArn"].as_str().unwrap().to_owned())).collect()
    }

    pub async fn becomes(&self, what: &str, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(account, role)| ((*account).to_owned(), (*role).to_owned())).collect();
        let there = eventually(support::SOON, || async { self.roles() == expected }).await;
        assert!(there, "{what}: {:?}, not {expected:?}\n{}", self.roles(), self.world.operator.log());
    }
}

pub fn lists(names: &[&str]) -> Value {
    json!(names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>())
}
